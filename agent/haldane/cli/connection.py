"""How a command finds the agent and its token."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from haldane.cli.exits import INFRASTRUCTURE, REFUSED, USAGE, config_errors, leave

if TYPE_CHECKING:
    import httpx

DEFAULT_AGENT = "http://127.0.0.1:8620"
DEFAULT_STATE_DIR = "haldane-state"  # as in haldane.config, which is too heavy to import for --help


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the agent is, the token it wants for commands (None: not known), and its config file, when given."""

    agent: str
    token: str | None
    config: Path | None = None
    ca: Path | None = None  # of the proxy before it, for https
    certificate: Path | None = None  # our own, with its key

    def _client(self, seconds: float) -> "httpx.Client":
        """Proxies of the environment are for the outside world; the agent is ours."""
        import ssl

        import httpx

        if not self.agent.startswith("https://"):
            return httpx.Client(timeout=seconds, trust_env=False)
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate:
                context.load_cert_chain(self.certificate)
        except OSError as error:
            leave(USAGE, f"--ca {self.ca}, --client-cert {self.certificate}: cannot be used: {error}")
        return httpx.Client(timeout=seconds, trust_env=False, verify=context)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of that path; leaves with the right exit code when there is none."""
        return self._call("GET", path, params=query)

    def maybe(self, path: str, **query: Any) -> Any | None:
        """The JSON of that path; None where no agent answers with it."""
        import httpx

        try:
            with self._client(3.0) as http:
                reply = http.get(self.agent + path, params=query or None)
                return reply.json() if reply.is_success else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer to that body; leaves with the right exit code when it is refused."""
        return self._call("POST", path, json=body)

    def post_bytes(self, path: str, body: bytes, form: str = "application/x-ndjson") -> Any:
        """The JSON answer to a body that is bytes already, of that content type."""
        return self._call("POST", path, content=body, headers={"Content-Type": form})

    def lines(self, path: str, **query: Any) -> list[str]:
        """The lines of that path, which is no JSON; leaves with the right exit code when there are none."""
        return self._answer("GET", path, params=query).text.splitlines()

    def download(self, path: str, target: Path) -> str:
        """Writes the bytes of that path to the target. "" when done, else why there was no whole answer."""
        import httpx

        try:
            with self._client(30.0) as http, http.stream("GET", self.agent + path) as reply:
                if reply.status_code != 200:
                    self._read(reply.status_code, reply.read())
                with target.open("wb") as file:
                    for piece in reply.iter_bytes():
                        file.write(piece)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"the agent at {self.agent} did not answer: {str(error) or type(error).__name__}."
        return ""

    def _call(self, method: str, path: str, **more: Any) -> Any:
        reply = self._answer(method, path, **more)
        return self._read(reply.status_code, reply.content)

    def _answer(self, method: str, path: str, **more: Any) -> "httpx.Response":
        """What the agent says, when it is 2xx."""
        import httpx

        headers = {"Authorization": f"Bearer {self.token}"} if self.token and method == "POST" else {}
        headers |= more.pop("headers", {})
        try:
            with self._client(10.0) as http:
                reply = http.request(method, self.agent + path, headers=headers, **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            leave(
                INFRASTRUCTURE,
                f"the agent at {self.agent} did not answer: {str(error) or type(error).__name__}.",
                "Is it running? Start it with `haldane run --config FILE`, or point to it with --agent URL.",
            )
        if not reply.is_success:
            self._read(reply.status_code, reply.content)
        return reply

    def _read(self, status: int, content: bytes) -> Any:
        import json

        try:
            body = json.loads(content)
        except ValueError:
            leave(INFRASTRUCTURE, f"{self.agent} answered {status}, but not as a Haldane agent does")
        if status < 300:
            return body
        says = body.get("error", f"status {status}") if isinstance(body, dict) else f"status {status}"
        if status in (401, 403):
            leave(
                REFUSED, f"refused: {says}", "Give --config FILE or --state-dir DIR of the agent, or --token-file FILE."
            )
        code = {400: USAGE, 404: USAGE, 422: USAGE, 409: REFUSED}.get(status, INFRASTRUCTURE)
        if code == INFRASTRUCTURE and status != 503:
            leave(code, f"{self.agent} answered {status}: {says}", "Is that a Haldane agent? See --agent.")
        leave(code, f"refused: {says}" if code == REFUSED else str(says))


def agent_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say where the agent is; the command takes `connection`."""

    @click.option("--agent", metavar="URL", help=f"Address of the agent.  [default: of --config, or {DEFAULT_AGENT}]")
    @click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="The agent's config file.")
    @click.option(
        "--state-dir", metavar="DIR", type=click.Path(path_type=Path), help="The agent's state_dir, for its token."
    )
    @click.option("--token-file", metavar="FILE", type=click.Path(path_type=Path), help="File with the agent's token.")
    @click.option(
        "--client-cert",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar="HALDANE_CLIENT_CERT",
        show_envvar=True,
        help="PEM file with your certificate and its key, for an agent behind mutual TLS.",
    )
    @click.option(
        "--ca",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar="HALDANE_CA",
        show_envvar=True,
        help="PEM file of the authority that signed its certificate.  [default: the system's]",
    )
    @functools.wraps(command)
    def with_connection(
        agent: str | None,
        config: Path | None,
        state_dir: Path | None,
        token_file: Path | None,
        client_cert: Path | None,
        ca: Path | None,
        **more: Any,
    ) -> Any:
        found = connect(agent, config, state_dir, token_file, by_certificate=client_cert is not None)
        return command(connection=replace(found, ca=ca, certificate=client_cert), **more)

    return with_connection


def connect(
    agent: str | None,
    config: Path | None,
    state_dir: Path | None,
    token_file: Path | None,
    *,
    by_certificate: bool = False,
) -> Connection:
    """Where the agent is, from the most exact thing that was given. Who shows a certificate looks for no token."""
    token = _read_token(token_file, must=True) if token_file else None
    if config is not None:
        agent, token = _of_config(config, agent, token)
    if token is None and not by_certificate:
        folder = state_dir or Path(DEFAULT_STATE_DIR)
        token = _read_token(folder / "token", must=state_dir is not None)
    agent = agent or DEFAULT_AGENT
    return Connection((agent if "://" in agent else f"http://{agent}").rstrip("/"), token, config)


def _of_config(path: Path, agent: str | None, token: str | None) -> tuple[str, str | None]:
    from haldane.config import load_config

    with config_errors():
        config = load_config(path)
    host, _, port = config.listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    if token is None:
        token = config.token.get_secret_value() if config.token else _read_token(config.token_path, must=False)
    return agent or f"http://{host}:{port}", token


def _read_token(path: Path, *, must: bool) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        if must:
            leave(USAGE, f"cannot read the token in {path}: {error.strerror}")
        return None
