"""How hard shadowing may press on the servers."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from haldane.config.base import Section
from haldane.config.quantities import Duration, GrpcThreads, SchedulerUrl, Size


class ShadowSection(Section):
    """How hard shadowing may press on the servers."""

    rate: Annotated[float, Field(gt=0, le=100_000)] = 50.0
    """Pairs a second over all servers; each pair is one call to stable and one to canary."""

    grpc_threads: GrpcThreads = 32
    """--grpc_max_threads of the servers, but for those that have a number of their own; Serving itself takes four for
    each CPU. A call that finds none free is refused at once, a user's like one of ours."""

    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Pairs in flight on one server, of two calls each; by default as many as take a quarter of its grpc_threads."""

    bytes_in_flight: Size = 64 << 20
    """Bytes of requests on the way to one server; a request larger than this goes alone."""

    deadline: Duration = timedelta(seconds=2)
    """For each call; a canary answer later than this counts as an error of the canary."""

    batching_delay: Duration | None = None
    """With --enable_batching: nothing is shadowed on a server where half of the calls wait longer than this for a
    batch, as its metrics page says. By default three times its shortest such wait, and at least 10 ms more."""

    aa_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Share of pairs sent to stable twice: the noise floor."""

    dask: SchedulerUrl | None = None
    """Scheduler of a Dask cluster, tcp://HOST:PORT or tls://HOST:PORT, whose workers send the pairs, each its share of
    them; by default this process sends them. Needs `pip install "haldane[dask]"` here and on the workers, and
    traffic of files that every worker can read under the same name."""

    def pairs_at_once(self, own_threads: int | None = None) -> int:
        """Pairs in flight on one server: two calls each, on a quarter of its threads, its own where it says so."""
        return self.concurrency or max(1, (own_threads or self.grpc_threads) // 8)
