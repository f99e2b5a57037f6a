"""A file at an https address: sizes, ranges, redirects, and what hosts answer."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.ssl import Certificate
from twisted.internet.task import Clock
from twisted.web.client import BrowserLikePolicyForHTTPS

from server.adapter_names import Rules, WebFile
from server.errors import Code, JobFailure
from server.fetching.origins import RemoteFile
from server.fetching.web import MAX_REDIRECTS, WebOrigin
from server.interfaces import ObjectChanged
from server.outgoing import OutcomeUnknown, Outgoing
from server.pools import InlinePool
from tests.server.fetching.made import made
from tests.server.scripted import Asked, Script, ScriptedServer, answer, certify, partly, scripted

DATA = made(300)


def files(
    content: Callable[[], bytes] = lambda: DATA, *, ranges: bool = True, sized: bool = True, **headers: str
) -> Script:
    """A host that has one file."""

    async def say(asked: Asked, writer: asyncio.StreamWriter) -> None:
        data = content()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", "")) if ranges else None
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if wanted:
            first = int(wanted[1])
            last = int(wanted[2]) if wanted[2] else len(data) - 1
            lines.append(f"Content-Range: bytes {first}-{last}/{len(data)}")
            body = data[first : last + 1]
        else:
            body = data
        if sized:
            lines.append(f"Content-Length: {len(body)}")
        status = "206 Partial Content" if wanted else "200 OK"
        writer.write("\r\n".join([f"HTTP/1.1 {status}", *lines]).encode() + b"\r\n\r\n" + body)

    return say


class Scene:
    """A host called files.test, which is allowed, and an origin of a file there."""

    def __init__(
        self, reactor: Any, host: ScriptedServer, certified: Path, hosts: tuple[str, ...] = ("files.test",)
    ) -> None:
        self.host = host
        own = Certificate.loadPEM((certified / "cert.pem").read_bytes())
        self.outgoing = Outgoing(
            reactor,
            Clock(),
            InlinePool(),
            networks=(ipaddress.ip_network("127.0.0.0/8"),),
            tls=BrowserLikePolicyForHTTPS(own),  # type: ignore[no-untyped-call]
            look_up=lambda host, port: ["127.0.0.1" if host.endswith("files.test") else "10.0.0.1"],
        )
        self.rules = Rules(hosts=hosts)

    def origin(self, path: str = "/a/style.safetensors?token=s3cret") -> WebOrigin:
        """Of one of its paths."""
        return WebOrigin(self.outgoing, WebFile(f"https://files.test:{self.host.port}{path}"), self.rules, 60.0)

    async def look(self) -> RemoteFile:
        """What it says of the file."""
        (file,) = await self.origin().look()
        return file

    async def failure(self) -> JobFailure:
        """Why it cannot be had."""
        with pytest.raises(JobFailure) as failed:
            await self.origin().look()
        assert "s3cret" not in str(failed.value)
        return failed.value


async def read(file: RemoteFile, offset: int = 0) -> bytes:
    """The file from an offset on."""
    return b"".join([piece async for piece in file.pieces(offset)])


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the host."""
    folder = tmp_path_factory.mktemp("certificate")
    certify(folder, "files.test")
    return folder


async def test_a_file_is_read_from_any_offset(reactor: Any, certified: Path) -> None:
    """After a look at its first byte, which tells its size and which content it has; the name is the path's."""
    async with scripted(files(ETag='"one"'), certified) as host:
        file = await Scene(reactor, host, certified).look()
        assert (file.name, file.size, file.etag) == ("style.safetensors", 300, '"one"')
        assert await read(file) == DATA
        assert await read(file, 100) == DATA[100:]
        assert [asked.headers.get("range") for asked in host.asked] == ["bytes=0-0", None, "bytes=100-"]
        assert {asked.line for asked in host.asked} == {"GET /a/style.safetensors?token=s3cret HTTP/1.1"}


async def test_a_host_without_ranges_is_read_from_the_start(reactor: Any, certified: Path) -> None:
    """What came before is thrown away."""
    async with scripted(files(ranges=False, Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT"), certified) as host:
        file = await Scene(reactor, host, certified).look()
        assert (file.size, file.etag) == (300, "Thu, 01 Jan 2026 00:00:00 GMT")
        assert await read(file, 299) == DATA[299:]


async def test_a_host_that_tells_no_size_is_read_to_its_end(reactor: Any, certified: Path) -> None:
    """Its limit is then held while it comes."""
    async with scripted(files(ranges=False, sized=False), certified) as host:
        file = await Scene(reactor, host, certified).look()
        assert file.size is None
        assert await read(file) == DATA


async def test_a_file_that_has_changed_since_is_told_as_such(reactor: Any, certified: Path) -> None:
    """By its size as well as by its etag."""
    contents = [DATA, made(200), DATA]
    async with scripted(files(lambda: contents.pop(0), ETag='"same"'), certified) as host:
        file = await Scene(reactor, host, certified).look()
        with pytest.raises(ObjectChanged):
            await read(file)
        assert await read(file) == DATA
        host.script = files(ETag='"other"')
        with pytest.raises(ObjectChanged):
            await read(file, 100)


async def test_a_connection_that_ends_is_an_os_error(reactor: Any, certified: Path) -> None:
    """It is gone on from where it was."""
    async with scripted(files(), certified) as host:
        file = await Scene(reactor, host, certified).look()
        host.script = partly(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\nabc")
        with pytest.raises(OutcomeUnknown):
            await read(file)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("404 Not Found", Code.ADAPTER_NOT_FOUND),
        ("403 Forbidden", Code.ADAPTER_NOT_FOUND),
        ("410 Gone", Code.ADAPTER_NOT_FOUND),
        ("400 Bad Request", Code.ADAPTER_INVALID),
        ("416 Range Not Satisfiable", Code.ADAPTER_INVALID),
        ("204 No Content", Code.ADAPTER_INVALID),
    ],
)
async def test_what_a_host_answers_for_good(reactor: Any, certified: Path, status: str, code: Code) -> None:
    """The adapter cannot be had, and the job fails at once, with the number."""
    async with scripted(answer(status), certified) as host:
        failure = await Scene(reactor, host, certified).failure()
        assert failure.code is code
        assert f"answered {status[:3]}" in str(failure)


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"])
async def test_what_a_host_answers_for_now(reactor: Any, certified: Path, status: str) -> None:
    """It may be had later."""
    async with scripted(answer(status), certified) as host:
        with pytest.raises(OSError, match=f"answered {status[:3]}"):
            await Scene(reactor, host, certified).look()


async def test_an_empty_file_is_none(reactor: Any, certified: Path) -> None:
    """Whatever it is called."""
    async with scripted(answer(), certified) as host:
        assert "is empty" in str(await Scene(reactor, host, certified).failure())


def redirecting(targets: Mapping[str, str]) -> Script:
    """A host that sends on from these paths, and has the file at others."""

    async def say(asked: Asked, writer: asyncio.StreamWriter) -> None:
        path = asked.line.split()[1].partition("?")[0]
        script = answer("302 Found", Location=targets[path]) if path in targets else files()
        await script(asked, writer)

    return say


async def test_a_redirect_to_an_allowed_host_is_followed(reactor: Any, certified: Path) -> None:
    """Each time anew, since such addresses end; the range goes with it."""
    async with scripted(redirecting({"/a/style.safetensors": "/b", "/b": "/c"}), certified) as host:
        file = await Scene(reactor, host, certified).look()
        assert await read(file, 100) == DATA[100:]
        assert [asked.headers.get("range") for asked in host.asked] == ["bytes=0-0"] * 3 + ["bytes=100-"] * 3


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("https://evil.test/x", "evil.test is not an allowed host"), ("http://files.test/x", "must begin with https://"),
        ("//evil.test/x", "evil.test is not an allowed host"), ("file:///etc/passwd", "must begin with https://"),
        ("https://cdn.allowed.test/x", "not public"), ("/a/style.safetensors", "leads on and on"),
    ],
)  # fmt: skip
async def test_a_redirect_to_elsewhere_is_not(reactor: Any, certified: Path, target: str, says: str) -> None:
    """Another host, another scheme, an address of our own network, a circle."""
    async with scripted(redirecting({"/a/style.safetensors": target}), certified) as host:
        failure = await Scene(reactor, host, certified, ("files.test", ".allowed.test")).failure()
        assert failure.code is Code.ADAPTER_INVALID
        assert says in str(failure)
        assert len(host.asked) == (MAX_REDIRECTS + 1 if target.startswith("/a") else 1)
