"""An HTTP server that answers as a test says, byte by byte, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its first line, its headers (names in lower case) and its body."""

    line: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]
"""Answers a request. The connection is closed after it."""


def answer(status: str = "200 OK", body: bytes = b"", **headers: str) -> Script:
    """One whole answer."""

    async def say(asked: Asked, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return say


def partly(head: bytes) -> Script:
    """These bytes, and then the connection ends."""

    async def say(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head)

    return say


class ScriptedServer:
    """Answers with `script`. It listens on a port of its own of 127.0.0.1."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.names: list[str | None] = []  # that were asked for in TLS
        self.port = 0
        self.open = 0  # connections
        self.changed = asyncio.Event()
        self._conversations: set[asyncio.Task[None]] = set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        self._count(+1)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._converse(reader, writer)
        finally:
            self._conversations.discard(task)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            self._count(-1)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        asked = Asked(head[0], headers, await reader.readexactly(int(headers.get("content-length", "0"))))
        self.asked.append(asked)
        self.changed.set()
        await self.script(asked, writer)
        await writer.drain()

    def _count(self, more: int) -> None:
        self.open += more
        self.changed.set()

    async def end(self) -> None:
        """End all conversations."""
        for task in tuple(self._conversations):
            task.cancel()
        await self.until(lambda: self.open == 0)


@asynccontextmanager
async def scripted(script: Script, certified: Path | None = None) -> AsyncIterator[ScriptedServer]:
    """A server that runs; by TLS with the certificate in a folder (`certify`)."""
    host = ScriptedServer(script)
    context = None
    if certified is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certified / "cert.pem", certified / "key.pem")
        context.sni_callback = lambda _, name, __: host.names.append(name)
    listening = await asyncio.start_server(host.handle, "127.0.0.1", 0, ssl=context)
    host.port = listening.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        listening.close()
        await host.end()
        await listening.wait_closed()


async def silence(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.get_running_loop().create_future()


def certify(folder: Path, name: str) -> None:
    """A key and a certificate for a name, signed by itself, as cert.pem and key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, kind, serialization.NoEncryption()))
