"""Secrets that the config refers to: read from files or variables, never shown, never in the config itself."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from haldane.config.problems import ConfigError, Loc, Problem
from haldane.config.sections import Config

LEAST_KEY_CHARS = 16
LEAST_TOKEN_CHARS = 20


def read_secrets(config: Config) -> Iterator[tuple[Loc, str]]:
    """Give the config the secrets it refers to, and say which cannot be had."""
    for key, target in (("token", "_token"), ("store", "_store_url")):
        file, variable = getattr(config, f"{key}_file"), getattr(config, f"{key}_env")
        try:
            setattr(config, target, _secret(file, variable))
        except ValueError as error:
            yield (f"{key}_file" if file else f"{key}_env",), str(error)
    for asked in ("prometheus", "mlflow"):
        if (source := getattr(config, asked)) is not None:
            try:
                setattr(config, f"_{asked}_token", _secret(source.token_file, source.token_env))
            except ValueError as error:
                yield (asked, "token_file" if source.token_file else "token_env"), str(error)
    if (hook := config.webhook) is not None:
        try:
            config._webhook_secret = _signing(_secret(hook.secret_file, hook.secret_env))
        except ValueError as error:
            yield ("webhook", "secret_env" if hook.secret_env else "secret_file"), str(error)
    yield from _tokens(config)


def _tokens(config: Config) -> Iterator[tuple[Loc, str]]:
    """Each person's token, long enough and nobody else's."""
    owners = {} if config._token is None else {config._token.get_secret_value(): "the agent itself"}
    for index, person in enumerate(config.people):
        if person.certificate is not None:
            continue
        loc = ("people", index, "token_file" if person.token_file else "token_env")
        try:
            token = _secret(person.token_file, person.token_env)
        except ValueError as error:
            yield loc, str(error)
            continue
        text = token.get_secret_value() if token else ""
        if len(text) < LEAST_TOKEN_CHARS:
            yield loc, f"the token has fewer than {LEAST_TOKEN_CHARS} characters; make one: openssl rand -hex 20"
        elif text in owners:
            yield loc, f"is the token of {owners[text]}, too; a token tells who it is, so give {person.name} another"
        else:
            owners[text] = person.name
            config._people_tokens[person.name] = SecretStr(text)


def record_keys(config: Config) -> dict[str, SecretStr]:
    """The key by which each model's recording hashes fields; ConfigError when one cannot be had.

    Not read with the config: only the tap needs them, so the agent need not be given any.
    """
    keys, problems = {}, []
    for name, traffic in config.tapped.items():
        if (record := traffic.record) is None or not record.hash:
            continue
        given = "key_file" if record.key_file else "key_env"
        try:
            key = _secret(record.key_file, record.key_env)
            if key is None or len(key.get_secret_value()) < LEAST_KEY_CHARS:
                raise ValueError(f"the key has fewer than {LEAST_KEY_CHARS} characters, so it could be guessed")
            keys[str(name)] = key
        except ValueError as error:
            problems.append(Problem("config", 0, f"models.{name}.traffic.record.{given}", str(error)))
    if problems:
        raise ConfigError(problems)
    return keys


def _signing(secret: SecretStr | None) -> SecretStr:
    """The secret of a webhook, if it is one; ValueError says how to make one."""
    make = "make one: echo whsec_$(openssl rand -base64 32)"
    if secret is None:
        raise ValueError(f"notices are signed, so give secret_file or secret_env; {make}")
    text = secret.get_secret_value()
    try:
        strong = text.startswith("whsec_") and len(base64.b64decode(text[6:], validate=True)) >= 24
    except ValueError:
        strong = False
    if not strong:
        raise ValueError(f"must be whsec_ and at least 24 random bytes in base64; {make}")
    return secret


def _secret(file: Path | None, variable: str | None) -> SecretStr | None:
    """The secret referred to; ValueError when it is not there."""
    if file is not None and variable is not None:
        raise ValueError("give either the file or the variable, not both")
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
        if not text:
            raise ValueError(f"{file} is empty")
        return SecretStr(text)
    if variable is not None:
        if not (text := os.environ.get(variable, "").strip()):
            raise ValueError(f"the environment variable {variable} is not set")
        return SecretStr(text)
    return None
