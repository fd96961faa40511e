"""One server of the file, and how the servers are spoken to."""

from pathlib import Path

from haldane.config.base import Section
from haldane.config.quantities import Address, GrpcThreads, HttpUrl, Name, Size


class ServerSection(Section):
    """One TensorFlow Serving process. Plain "HOST:PORT" stands for {address: HOST:PORT}."""

    address: Address
    """HOST:PORT of its gRPC listener."""

    name: Name = ""
    """How it is called in status, metrics and records; its address when not given. Keep it when the address changes."""

    metrics_url: HttpUrl | None = None
    """Its Prometheus page, e.g. http://HOST:8501/monitoring/prometheus/metrics. `enforce` needs it: it is the only way
    to see, before the first reload, whether a server holds models that the config lacks."""

    process_url: HttpUrl | None = None
    """Page with the CPU seconds and resident bytes of its process (gauges cpu, memory, memory_growth), which Serving
    does not export itself: that of a process exporter, e.g. http://HOST:9256/metrics, or any page with
    process_cpu_seconds_total and process_resident_memory_bytes."""

    process_group: str = ""
    """Its `groupname` on that page, when it is a process exporter's."""

    memory: Size | None = None
    """What its process may use in all, such as "16GiB": the container's or the machine's limit. No version is loaded
    there whose need goes beyond it. Wants process_url or prometheus.memory, which tell what is in use."""

    grpc_threads: GrpcThreads | None = None
    """Its --grpc_max_threads, where it is not that of shadow.grpc_threads."""

    canary: bool = False
    """A dedicated canary server, which takes no user traffic (placement: own_replicas)."""

    config_file: Path | None = None
    """The model config file that this server polls (--model_config_file_poll_wait_seconds), which must be writable from
    here and its alone. The server is then changed through it, since it would undo every reload: the models looked after
    are changed in place, comments and other models stay."""


class TlsSection(Section):
    """TLS to the servers; with cert and key, mutual."""

    ca: Path
    """PEM file of the authority that signed the servers' certificates."""

    cert: Path | None = None
    """PEM file of our own certificate."""

    key: Path | None = None
    """PEM file of its private key."""
