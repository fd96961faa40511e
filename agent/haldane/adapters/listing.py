"""How an entry of a list of servers, a host and a port, becomes a Server."""

from dataclasses import dataclass

from haldane.domain.fleet import Server, ServerName

METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a list leaves open. `port` is that of gRPC, in place of the listed one."""

    port: int | None = None
    metrics_port: int | None = None
    metrics_path: str = METRICS_PATH
    process_port: int | None = None
    process_group: str = ""
    memory: int | None = None  # bytes
    grpc_threads: int | None = None
    canary: bool = False

    def server(
        self, host: str, port: int | None, *, name: str = "", scheme: str = "http", metrics_path: str = ""
    ) -> Server:
        """The server at that host (IPv6 without brackets); ValueError where no port is known for it.

        A list whose port is not that of gRPC names the metrics pages, as Prometheus's own lists do.
        """
        grpc = self.port or port
        if grpc is None:
            raise ValueError(f"{host}: no port")
        host = f"[{host}]" if ":" in host else host
        page = self.metrics_port or (port if self.port else None)
        url = f"{scheme}://{host}:{page}{metrics_path or self.metrics_path}" if page else None
        return Server(
            ServerName(name or f"{host}:{grpc}"),
            f"{host}:{grpc}",
            url,
            self.canary,
            process_url=f"http://{host}:{self.process_port}/metrics" if self.process_port else None,
            process_group=self.process_group,
            memory=self.memory,
            grpc_threads=self.grpc_threads,
        )
