"""What the flags make of the gRPC door."""

from pathlib import Path

from haldane.sandbox.grpc_api import channel_arguments, credentials


def test_channel_arguments_are_32_bit_integers_or_strings() -> None:
    text = "grpc.so_reuseport=0,a,b=-5,c=99999999999,d=+-5,e=x=y"
    expected = [("grpc.so_reuseport", 0), ("b", -5), ("c", "99999999999"), ("d", "+-5"), ("e", "x")]
    assert channel_arguments(text) == expected


def test_asking_for_client_certificates_without_a_ca_does_not_stop_the_start(tmp_path: Path) -> None:
    config = tmp_path / "ssl.config"
    config.write_text('server_key: "key" server_cert: "certificate" client_verify: true')
    assert credentials(str(config)) is not None


def test_without_an_ssl_config_the_door_is_open() -> None:
    assert credentials("") is None
