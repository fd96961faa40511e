"""The people of the config, as the API knows them."""

from haldane.config import Config
from haldane.config.people import person_of
from haldane.domain.people import Person
from haldane.web.people import Certified


def with_tokens(config: Config) -> list[tuple[str, Person]]:
    """Those with a token, and the token."""
    tokens = config.people_tokens
    return [(tokens[one.name].get_secret_value(), person_of(one)) for one in config.people if one.name in tokens]


def with_certificates(config: Config) -> Certified | None:
    """Those with a certificate, and which proxy is believed; None where there is no proxy."""
    if config.proxy is None:
        return None
    people = {one.certificate: person_of(one) for one in config.people if one.certificate is not None}
    return Certified(people, config.proxy.header, config.proxy.addresses)
