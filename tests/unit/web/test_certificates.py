"""Names in certificates: every form in which a proxy hands one on, and what is none."""

import base64
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from haldane.web.certificates import names_in


def a_certificate(subject: dict[x509.ObjectIdentifier, str], *names: x509.GeneralName) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in subject.items()])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC)
    made = x509.CertificateBuilder(issuer, name, key.public_key(), 1, noon, noon + timedelta(days=1))
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(key, SHA256())


ADA = a_certificate(
    {NameOID.ORGANIZATION_NAME: "risk, fraud", NameOID.COMMON_NAME: "ada"},
    x509.DNSName("ada.corp.example"),
    x509.UniformResourceIdentifier("spiffe://corp.example/ns/risk/sa/ada"),
    x509.RFC822Name("ada@corp.example"),
    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "not read")])),
)
DER = base64.b64encode(ADA.public_bytes(Encoding.DER)).decode()
PEM = ADA.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("value", [quote(PEM, safe=""), quote(PEM), DER, f":{DER}:"])
def test_every_form_gives_the_same_names(value: str) -> None:
    assert names_in(value) == (
        r"CN=ada,O=risk\, fraud",
        "DNS:ada.corp.example",
        "URI:spiffe://corp.example/ns/risk/sa/ada",
        "email:ada@corp.example",
    )


def test_a_certificate_may_have_a_subject_only_or_none() -> None:
    def names(one: x509.Certificate) -> tuple[str, ...]:
        return names_in(base64.b64encode(one.public_bytes(Encoding.DER)).decode())

    assert names(a_certificate({NameOID.COMMON_NAME: "ada"})) == ("CN=ada",)
    assert names(a_certificate({}, x509.DNSName("ada"))) == ("DNS:ada",)
    assert names(a_certificate({})) == ()


@pytest.mark.parametrize("value", ["", ":", "CN=ada", "URI:spiffe://corp/ada", "-----BEGIN", DER[:-40], f"{DER}!", "é"])
def test_what_is_no_certificate_is_told_as_such(value: str) -> None:
    with pytest.raises(ValueError):
        names_in(value)
