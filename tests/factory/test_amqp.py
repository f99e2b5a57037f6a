"""RabbitMQ from the settings: what cannot be, TLS to a real broker, and what each role has."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ai.types import EngineStopped, GenerationRequest
from config import SettingsError, load_settings
from factory.amqp import rabbitmq as broker_of
from factory.no_engine import NoEngine
from factory.service import make_service
from server.doors.amqp.broker import LinkLost
from server.health import Health
from server.replies import ServerState
from tests.rabbitmq import PASSWORD, USER, RabbitNode
from tests.server.fakes import CARD


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.close()


async def test_a_broker_is_reached_by_tls_and_only_with_a_certificate_that_is_trusted(
    reactor: Any, rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    """With the authority's file it connects; without, the certificate is refused, and so nothing is told to the peer."""
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    carrying: list[asyncio.Task[None]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", rabbitmq.port)
        carrying.extend(asyncio.ensure_future(_carry(*way)) for way in ((reader, back), (there, writer)))

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    given = {
        "rabbitmq_host": "localhost", "rabbitmq_port": proxy.sockets[0].getsockname()[1], "rabbitmq_user": USER,
        "rabbitmq_pass": PASSWORD, "rabbitmq_tls": True,
    }  # fmt: skip
    link = await broker_of(load_settings(**given, rabbitmq_ca_file=cert), reactor).connect("testing")
    await (await link.channel()).declare_queue("", durable=False, exclusive=True)
    await link.close()
    with pytest.raises(LinkLost, match="certificate verify failed"):
        await broker_of(load_settings(**given), reactor).connect("testing")
    proxy.close()
    await asyncio.gather(*carrying)


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_ca_file_that_is_none_stops_the_start_and_is_named(reactor: Any, tmp_path: Path, text: str | None) -> None:
    """Missing, or something else."""
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    settings = load_settings(
        rabbitmq_host="localhost", rabbitmq_tls=True, rabbitmq_ca_file=path, data_dir=tmp_path / "data"
    )
    with pytest.raises(SettingsError, match=r"ATELIER_RABBITMQ_CA_FILE: .*ca\.pem"):
        make_service(settings, reactor)


@pytest.mark.parametrize("role", ["gateway", "worker"])
def test_a_role_needs_a_broker(role: str) -> None:
    """There is no other way to the rest."""
    with pytest.raises(SettingsError, match=f"ATELIER_ROLE={role} needs RABBITMQ_HOST"):
        load_settings(role=role)


def test_an_owner_that_no_token_could_name_is_refused() -> None:
    """Or nobody could watch its jobs."""
    with pytest.raises(SettingsError, match="RABBITMQ_OWNER"):
        load_settings(rabbitmq_owner="the shop")


def test_a_gateway_paints_nothing_and_is_ready() -> None:
    """It knows the models, loads none, and refuses to paint."""
    engine = NoEngine([CARD])
    engine.start(CARD.name)
    with pytest.raises(EngineStopped):
        engine.submit(
            GenerationRequest(
                request_id="1", model=CARD.name, prompt="p", width=64, height=64, num_inference_steps=1,
                guidance_scale=1.0, seed=1,
            )
        )  # fmt: skip
    engine.cancel("1")
    engine.save("1")
    engine.stop()
    assert engine.numbers().running == 0
    health = Health([CARD], paints=False)
    states = [health.state]
    health.drain()
    assert [*states, health.state] == [ServerState.READY, ServerState.DRAINING]
