import asyncio

from haldane.app.discover import keep_discovering, parse_names
from haldane.domain.fleet import Server, ServerConfig
from haldane.domain.rollout import Mode
from haldane.engine.desk import Desk
from haldane.ports import Unavailable
from haldane.testing.builders import an_entry

PAGE = """
:tensorflow:serving:request_count{model_name="credit",status="OK"} 3
:tensorflow:cc:saved_model:load_attempt_count{model_path="/models/fraud/7",status="success"} 1
"""


class Page:
    def __init__(self, page):
        self.page = page

    async def scrape(self):
        if isinstance(self.page, Exception):
            raise self.page
        return self.page


def test_models_are_named_by_the_page_or_like_the_directory_of_their_versions():
    assert parse_names(PAGE) == {"credit": "", "fraud": "/models/fraud"}
    assert parse_names("not a page at all\n{}{}") == {}


async def test_models_seen_anywhere_are_looked_at_and_known_ones_stay_as_they_are():
    servers = {name: Server(name, "") for name in ("r0", "r1", "r2")}
    desk = Desk(mode=Mode.OBSERVE, servers=servers, base=ServerConfig((an_entry(),)), watched={})
    pages = {"r0": Page(Unavailable("r0", "gone")), "r1": Page(None), "r2": Page(PAGE)}
    task = asyncio.create_task(keep_discovering(desk, pages))
    async with asyncio.timeout(5):
        while len(desk.base.models) < 2:
            await desk.wait_changed(1.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert desk.base.models[0] == an_entry()
    assert (desk.base.models[1].name, desk.base.models[1].base_path) == ("fraud", "/models/fraud")
    assert desk.watched == {}
