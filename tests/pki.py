"""A certificate authority for tests: a server's certificate for replica.test, and a client's."""

import subprocess
from pathlib import Path

import grpc


def write_pki(place: Path, openssl: str) -> None:
    """ca, server and client, each as .key and .crt."""

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], check=True, capture_output=True, cwd=place)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test ca")
    for name, alternative in (("server", "DNS:replica.test"), ("client", "DNS:haldane")):
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (place / f"{name}.ext").write_text(f"subjectAltName={alternative}\n")
        run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", f"{name}.crt", "-days", "2", "-extfile", f"{name}.ext"),
        )


def server_credentials(pki: Path, *, client_verify: bool) -> grpc.ServerCredentials:
    pair = ((pki / "server.key").read_bytes(), (pki / "server.crt").read_bytes())
    return grpc.ssl_server_credentials([pair], (pki / "ca.crt").read_bytes(), require_client_auth=client_verify)
