"""People in the config, each known by one thing that is theirs alone; and whose models are whose."""

import sys
from pathlib import Path

import pytest

from haldane.app.people import with_certificates, with_tokens
from haldane.config import ConfigError, load_config
from haldane.ports import Refused
from haldane.web.certificates import names_in

PROXY = "proxy: {addresses: [10.0.0.5, 10.1.0.0/24]}\n"
WHOLE = PROXY.replace("}", ", gives: certificate}")
SPIFFE = "  - {name: ci, certificate: 'URI:spiffe://corp/ci', rights: [start]}\n"
ADA = "  - {name: ada, certificate: 'CN=ada,O=risk', rights: [start]}\n"


def read(folder: Path, text: str) -> None:
    (folder / "haldane.yaml").write_text(f"servers: ['h:1']\n{text}")


def test_people_with_certificates_need_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOB", "bob-" * 8)
    read(tmp_path, f"{PROXY}people:\n{ADA}  - {{name: bob, token_env: BOB, rights: [approve]}}\n")
    config = load_config(tmp_path / "haldane.yaml")
    assert [(token, one.name) for token, one in with_tokens(config)] == [("bob-" * 8, "bob")]
    certified = with_certificates(config)
    assert certified is not None
    assert certified.header == "x-client-name"
    assert [str(one) for one in certified.addresses] == ["10.0.0.5/32", "10.1.0.0/24"]
    assert [(subject, one.name) for subject, one in certified.people.items()] == [("CN=ada,O=risk", "ada")]


def test_whole_certificates_are_read_where_the_config_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path, f"{WHOLE}people:\n{ADA}{SPIFFE}")
    certified = with_certificates(load_config(tmp_path / "haldane.yaml"))
    assert certified is not None and certified.names is names_in
    monkeypatch.setitem(sys.modules, "haldane.web.certificates", None)
    with pytest.raises(Refused, match=r"proxy\.gives: .*haldane\[certificates\]"):
        with_certificates(load_config(tmp_path / "haldane.yaml"))


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        (f"people:\n{ADA}", "people[0].certificate", "needs the top-level proxy"),
        (f"{PROXY}people:\n{ADA}{ADA.replace('ada,', 'bob,', 1)}", "people[1].certificate", "is that of ada, too"),
        (f"{PROXY}people:\n{ADA.replace(', rights', ', token_env: HOME, rights')}", "people[0]", "one of them"),
        ("people:\n  - {name: ada, rights: [start]}\n", "people[0]", "token_file, token_env or certificate"),
        ("proxy: {addresses: [10.0.0.5/8]}\n", "proxy.addresses", "not a valid IPv4 or IPv6 network"),
        ("proxy: {addresses: []}\n", "proxy.addresses", "at least 1"),
        (PROXY.replace("}", ", header: 'x client'}"), "proxy.header", "pattern"),
        (PROXY.replace("}", ", gives: der}"), "proxy.gives", "'name' or 'certificate'"),
        (f"{PROXY}people:\n{SPIFFE}", "people[0].certificate", "set proxy.gives: certificate"),
        (f"{WHOLE}people:\n{SPIFFE.replace('URI:', '')}", "people[0].certificate", 'write "URI:…"'),
    ],
)
def test_what_could_mean_two_people_or_nobody_is_refused(tmp_path: Path, text: str, key: str, says: str) -> None:
    read(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "haldane.yaml")
    assert key in str(caught.value) and says in str(caught.value)


MODELS = "models: {{credit: {{clients: label, namespace: {namespace}}}, score: {{clients: label}}}}"


def test_a_model_is_known_with_its_namespace_and_without(tmp_path: Path) -> None:
    read(tmp_path, MODELS.format(namespace="finance/eu"))
    config = load_config(tmp_path / "haldane.yaml")
    assert (config.full_name("credit"), config.full_name("score")) == ("finance/eu/credit", "score")
    for said, local in {
        "finance/eu/credit": "credit",
        "credit": "credit",
        "score": "score",
        "finance/eu/score": "finance/eu/score",
        "eu/credit": "eu/credit",
        "finance/eu/../eu/credit": "finance/eu/../eu/credit",
    }.items():
        assert config.local_name(said) == local


@pytest.mark.parametrize("namespace", ["..", "../fraud", "finance/", "/finance", "a//b", "a/../b", "7", "''", "a b"])
def test_a_namespace_that_leads_elsewhere_is_refused(tmp_path: Path, namespace: str) -> None:
    read(tmp_path, MODELS.format(namespace=namespace))
    with pytest.raises(ConfigError, match=r"models\.credit\.namespace"):
        load_config(tmp_path / "haldane.yaml")
