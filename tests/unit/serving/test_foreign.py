"""What a reload would unload is known before the first one; a canary's own name is ours only while its rollout is."""

from dataclasses import dataclass, field
from typing import Any

from haldane.domain.fleet import Availability, ModelName, ModelView, ReplicaView, Server, ServerName, VersionStatus
from haldane.serving.foreign import foreign_models
from haldane.testing.builders import a_config

R0 = Server(ServerName("r0"), "h:1", metrics_url="http://h:2/")
APART = ModelName("credit_canary")


@dataclass
class Serves:
    """A server with these models, and the page it shows."""

    models: dict[ModelName, ModelView] = field(default_factory=dict)
    page: str = ""

    async def scrape(self) -> str:
        return self.page

    async def look(self, models: dict[ModelName, Any], golden: object) -> ReplicaView:
        return ReplicaView(R0.name, 0.0, {name: self.models.get(name, ModelView()) for name in models})


def apart(state: Availability) -> Serves:
    return Serves({APART: ModelView((VersionStatus(2, state),))})


async def told(server: Serves, **ours: tuple[int, ...]) -> str:
    names = {ModelName(name): versions for name, versions in ours.items()}
    return await foreign_models(a_config(), R0, server, names)  # type: ignore[arg-type]


async def test_the_name_a_canary_would_get_is_asked_for_though_no_page_tells_it() -> None:
    says = await told(apart(Availability.AVAILABLE), credit_canary=())
    assert says.startswith("r0 serves model 'credit_canary' (version 2): a canary of ours would take that name")
    assert await told(apart(Availability.AVAILABLE)) == "", "no placement needs it, and no page tells of it"


async def test_it_is_ours_while_the_rollout_that_put_it_there_is_live_and_nobodys_once_it_goes() -> None:
    assert await told(apart(Availability.AVAILABLE), credit_canary=(1, 2)) == ""
    assert "version 2" in await told(apart(Availability.LOADING), credit_canary=(1, 3))
    assert await told(apart(Availability.UNLOADING), credit_canary=()) == ""
    assert await told(apart(Availability.END), credit_canary=()) == ""


async def test_any_other_model_refuses_every_change_whatever_second_names_there_are() -> None:
    serves = Serves(
        {ModelName("fraud"): ModelView((VersionStatus(7, Availability.AVAILABLE),))},
        ':tensorflow:serving:request_count{model_name="fraud",status="OK"} 3\n',
    )
    assert "serves model 'fraud' (version 7), which the config lacks" in await told(serves, credit_canary=())
