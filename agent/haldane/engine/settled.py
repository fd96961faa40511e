"""The last word on a batch before it is handed on: which rows are new, and what our own metrics count of it."""

from collections.abc import Sequence

import numpy as np

from haldane.domain.fleet import ModelName, ServerName
from haldane.domain.traffic import Batch, Status, some_answer
from haldane.telemetry import Telemetry


class Settled:
    """Remembers which rows of a set were judged. `judged_rows` are those of before, and is added to."""

    def __init__(
        self, model: ModelName, servers: Sequence[ServerName], judged_rows: set[int], telemetry: Telemetry
    ) -> None:
        self._model, self._servers, self._telemetry = model, servers, telemetry
        self._judged, self._judged_aa = judged_rows, set[int]()

    def __call__(self, batch: Batch) -> Batch:
        """The batch with `fresh` settled, in order of sending, and counted in our own metrics."""
        fresh, answered = batch["fresh"], some_answer(batch).tolist()
        for index, (row, aa) in enumerate(zip(batch["row"].tolist(), batch["aa"].tolist(), strict=True)):
            judged = self._judged_aa if aa else self._judged
            fresh[index] = row < 0 or row not in judged
            if row >= 0 and answered[index]:
                judged.add(row)
        for server in np.unique(batch["server"]).tolist():
            for kind, aa in (("ab", False), ("aa", True)):
                count = int(np.count_nonzero((batch["server"] == server) & (batch["aa"] == aa)))
                if count:
                    self._telemetry.shadow.pairs.labels(self._model, self._servers[server], kind).inc(count)
        for side in ("stable", "canary"):
            codes, counts = np.unique(batch[f"{side}_status"][~batch["aa"]], return_counts=True)
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
                self._telemetry.shadow.outcomes.labels(self._model, side, Status(code).name.lower()).inc(count)
        return batch
