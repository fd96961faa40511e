"""Where the process of a server is measured, for as long as the server is in the fleet."""

import pytest

from haldane.adapters.process import ProcessPage, PromqlMeter
from haldane.app.meters import Sources, open_page
from haldane.config.resources import PrometheusSection
from haldane.domain.fleet import Server, ServerName

NAME = ServerName("a")
QUERIES = PrometheusSection(url="http://prometheus:9090", cpu='cpu{pod="$server"}')


@pytest.mark.parametrize(
    ("url", "queries", "kind"),
    [
        ("http://a:9256/metrics", QUERIES, ProcessPage),
        (None, QUERIES, PromqlMeter),
        (None, None, None),
    ],
    ids=["its own page first", "else Prometheus is asked", "else nobody tells"],
)
async def test_a_server_is_measured_from_when_it_came_until_it_left(
    url: str | None, queries: PrometheusSection | None, kind: type | None
) -> None:
    sources = Sources(object() if queries else None, {}, queries)  # type: ignore[arg-type] - nobody is asked here
    async with open_page(Server(NAME, "a:8500", process_url=url)) as page:
        sources.add(NAME, page)
        assert {name: type(meter) for name, meter in sources.processes.items()} == ({NAME: kind} if kind else {})
    sources.drop(NAME)
    assert sources.processes == {}
