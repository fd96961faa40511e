"""`check config --online` reads what servers boot with."""

from pathlib import Path

import pytest

from haldane.cli.neighbours import neighbours
from haldane.config import load_config
from haldane.serving.modelconfig import parse, render
from haldane.testing.builders import MODEL, a_config, an_entry


@pytest.mark.parametrize(
    ("text", "fine", "says"),
    [
        (render(a_config(an_entry(versions=(7,), labels={}))), True, f": {MODEL} 7"),
        (render(a_config(an_entry("other"))), False, f"it does not have {MODEL}"),
        ("model_config_list { config { name: 'credit' base_path: '/models/credit' } }", False, "which one version"),
        ("model_config_list {", False, "Expected"),
        (None, False, "cannot read"),
    ],
)
async def test_each_is_read_and_says_what_users_get(tmp_path: Path, text: str | None, fine: bool, says: str) -> None:
    (tmp_path / "models.config").write_text(render(a_config()))
    if text is not None:
        (tmp_path / "boot.config").write_text(text)
    (tmp_path / "haldane.yaml").write_text(
        f"servers: [h:1]\nmodel_config_file: models.config\nboot_configs: [{{file: boot.config}}]\n"
        f"models: {{{MODEL}: {{clients: label, traffic: {{warmup: true}}}}}}\n"
    )
    config = load_config(tmp_path / "haldane.yaml", parse_models=lambda text, source: parse(text, source=source))
    ((found, told),) = await neighbours(config)
    assert (found, says in told, "boot.config" in told) == (fine, True, True), told
