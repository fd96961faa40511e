"""The lists of servers that `discover` names, each opened as what it is."""

from haldane.adapters.file_sd import FileList
from haldane.adapters.listing import Form
from haldane.config import DiscoverSection
from haldane.ports import ServerList


def open_list(section: DiscoverSection) -> ServerList:
    """The list that a section of `discover` means. Refused where there is no DNS server or cluster to ask."""
    form = Form(
        port=section.port,
        metrics_port=section.metrics_port,
        metrics_path=section.metrics_path,
        process_port=section.process_port,
        process_group=section.process_group,
        memory=section.memory,
        grpc_threads=section.grpc_threads,
        canary=section.canary,
    )
    if section.file is not None:
        return FileList(section.title, section.file, form)
    if section.kubernetes is not None:
        from haldane.adapters.kubernetes import EndpointSlices

        namespace, _, service = section.kubernetes.partition("/")
        return EndpointSlices(section.title, namespace, service, section.port_name, form)
    assert section.dns is not None
    from haldane.adapters.dns_list import DnsList

    host, _, port = (section.resolver or "").rpartition(":")
    resolver = (host.strip("[]"), int(port)) if section.resolver else None
    return DnsList(section.title, section.dns, section.kind, form, resolver=resolver)
