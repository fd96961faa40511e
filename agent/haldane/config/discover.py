"""Settings of lists of servers that somebody else keeps."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from haldane.config.base import Section
from haldane.config.quantities import Address, Duration, GrpcThreads, Size

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"  # RFC 1123
NAMESPACED = rf"^{_LABEL}/{_LABEL}(\.{_LABEL})*$"  # NAMESPACE/NAME of a Kubernetes object
Port = Annotated[int, Field(ge=1, le=65535)]


class DiscoverSection(Section):
    """A list of servers that somebody else keeps; exactly one of SOURCES."""

    file: Path | None = None
    """File, or glob of files, in Prometheus's file_sd format: YAML or JSON, a list of {targets: [HOST:PORT], labels:
    {...}}. The label `instance` names a server, `__scheme__` and `__metrics_path__` belong to its metrics page, and
    `__metrics_url__` is all of it, where ports differ from server to server."""

    dns: str | None = None
    """Full name to look up, such as serving.default.svc.cluster.local: every address it has is a server. A name that
    begins with _ is looked up as SRV, and each host and port it gives is a server."""

    record: Literal["A", "AAAA", "SRV"] | None = None
    """Kind of record, where the name does not say it: A by default."""

    resolver: Address | None = None
    """HOST:PORT of the DNS server to ask; the system's own by default."""

    kubernetes: Annotated[str, Field(pattern=NAMESPACED)] | None = None
    """NAMESPACE/SERVICE: every pod behind that Service is a server, ready or not, by its EndpointSlices. Needs the
    extra `kubernetes` and the right to list them."""

    port_name: str | None = None
    """Name of the Service's port that is the gRPC listener; needed where it has several and `port` is not given."""

    port: Port | None = None
    """Port of the gRPC listener: needed for A and AAAA, in place of the listed one otherwise. A file whose targets are
    the metrics pages, as Prometheus has them, needs it."""

    metrics_port: Port | None = None
    """Port of the metrics page. With `port`, the listed one by default."""

    metrics_path: Annotated[str, Field(pattern=r"^/\S*$")] = "/monitoring/prometheus/metrics"
    """Path of the metrics page."""

    process_port: Port | None = None
    """Port of the page, at /metrics, where each server's process is measured: see servers[].process_url."""

    process_group: str = ""
    """Its `groupname` on that page, the same for all, when it is a process exporter's."""

    memory: Size | None = None
    """What each server's process may use in all: see servers[].memory. Wants process_port or prometheus.memory."""

    grpc_threads: GrpcThreads | None = None
    """--grpc_max_threads of each of them, where it is not that of shadow.grpc_threads."""

    canary: bool = False
    """Dedicated canary servers, which take no user traffic (placement: own_replicas)."""

    every: Duration = timedelta(seconds=5)
    """How often the list is read."""

    @property
    def given(self) -> list[str]:
        """All of SOURCES that are given; one, once the config was checked."""
        return [name for name in SOURCES if getattr(self, name) is not None]

    @property
    def kind(self) -> str:
        """What is listed, in a word: file, pods, A, AAAA or SRV."""
        if self.kubernetes is not None:
            return "pods"
        if self.dns is None:
            return "file"
        return self.record or ("SRV" if self.dns.startswith("_") else "A")

    @property
    def title(self) -> str:
        """How it is called in status, metrics and logs."""
        return f"{self.kind} {next(str(getattr(self, name)) for name in self.given)}"

    @property
    def pages(self) -> bool:
        """Whether the list can tell where each server's metrics page is; a file may, server by server."""
        listed = self.port is not None and self.kind in ("SRV", "pods")
        return self.kind == "file" or self.metrics_port is not None or listed


SOURCES = ("file", "dns", "kubernetes")
