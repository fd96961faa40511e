"""The people of the config, as the API knows them."""

from haldane.config import Config
from haldane.config.people import person_of
from haldane.domain.people import Person
from haldane.ports import Refused
from haldane.web.people import Certified


def with_tokens(config: Config) -> list[tuple[str, Person]]:
    """Those with a token, and the token."""
    tokens = config.people_tokens
    return [(tokens[one.name].get_secret_value(), person_of(one)) for one in config.people if one.name in tokens]


def with_certificates(config: Config) -> Certified | None:
    """Those with a certificate, and which proxy is believed; None where there is no proxy.

    Refused when certificates are to be read, and nothing is installed that can.
    """
    if (proxy := config.proxy) is None:
        return None
    people = {one.certificate: person_of(one) for one in config.people if one.certificate is not None}
    if not proxy.whole:
        return Certified(people, proxy.header, proxy.addresses)
    try:
        from haldane.web.certificates import names_in
    except ImportError as error:
        why = 'reading certificates needs a package: pip install "haldane[certificates]"'
        raise Refused("proxy.gives", why) from error
    return Certified(people, proxy.header, proxy.addresses, names_in)
