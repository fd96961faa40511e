"""What has been shown on the process at the other end, for as long as it is the same process."""

from haldane.domain.fleet import ModelName, ModelView


class Proofs:
    """Versions that answered a golden request, per model, in one life of the server.

    A life ends when the connection is lost, when the server's history became
    shorter (END entries stay for good in one process) or when a label that was
    set is gone. Ending one too early costs a golden request; too late would
    take a version for proven that this process has never run.
    """

    def __init__(self) -> None:
        self.life = 0
        self.unversioned: dict[ModelName, int] = {}  # the version that answered naming neither version nor label
        self._proven: dict[ModelName, frozenset[int]] = {}
        self._history: dict[ModelName, frozenset[int]] = {}
        self._labels: dict[ModelName, frozenset[str]] = {}

    def of(self, model: ModelName) -> frozenset[int]:
        return self._proven.get(model, frozenset())

    def add(self, model: ModelName, version: int, life: int) -> None:
        """A proof counts only in the life in which its request was sent."""
        if life == self.life:
            self._proven[model] = self.of(model) | {version}

    def add_unversioned(self, model: ModelName, version: int, life: int) -> None:
        if life == self.life:
            self.unversioned[model] = version

    def seen(self, model: ModelName, view: ModelView) -> None:
        """Compare with the last look; a version that was unloaded must be proven again when it is back."""
        history, labels = frozenset(s.version for s in view.versions), frozenset(view.labels)
        if self._history.get(model, frozenset()) - history or self._labels.get(model, frozenset()) - labels:
            self.forget()
        self._history[model], self._labels[model] = history, labels
        self._proven[model] = self.of(model) & frozenset(view.loaded)

    def forget(self) -> None:
        self.life += 1
        self._proven.clear()
        self.unversioned.clear()
