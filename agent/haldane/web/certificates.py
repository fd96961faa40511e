"""The names in a client's certificate, as a proxy that has proven it hands it on in a header.

Read with `cryptography`, an extra: what X.509 allows in a name is no place for a parser of our own.
"""

import base64
from urllib.parse import unquote

from cryptography import x509

_KINDS = ((x509.DNSName, "DNS"), (x509.UniformResourceIdentifier, "URI"), (x509.RFC822Name, "email"))


def names_in(value: str) -> tuple[str, ...]:
    """The subject as RFC 4514 writes it, and the alternative names as OpenSSL does: DNS:…, URI:…, email:….

    `value` is PEM, percent-encoded (nginx, Envoy), or DER in base64, with the colons of RFC 9440 or without (HAProxy).
    Raises ValueError when it is no certificate, or one whose names cannot be read.
    """
    text = unquote(value).strip()
    if text.startswith("-----BEGIN"):
        certificate = x509.load_pem_x509_certificate(text.encode())
    else:
        certificate = x509.load_der_x509_certificate(base64.b64decode(text.strip(":"), validate=True))
    subject = tuple(filter(None, [certificate.subject.rfc4514_string()]))
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return subject
    except x509.DuplicateExtension as error:
        raise ValueError(str(error)) from error
    found = (f"{kind}:{name}" for of, kind in _KINDS for name in others.get_values_for_type(of))
    return (*subject, *found)
