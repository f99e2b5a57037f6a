"""The HTTP door for tests: the whole application over a `House`, asked in memory, or by real sockets with a clock tests turn.

door = Door()
answer = await door.ask("POST", "/v1/jobs", {"prompt": "a star"})       # as Ada
stream = await door.open("GET", f"/v1/jobs/{job_id}/events")            # what is answered bit by bit
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from starlette.types import Message

from server.doors.http.app import make_app
from server.doors.http.connections import ConnectionLimits
from server.doors.http.following import Listeners
from server.doors.http.parts import HttpLimits, HttpParts
from server.doors.http.serving import HttpServer
from server.futures import Tasks
from server.vigil import Vigil
from tests.server.fakes import settle
from tests.server.house import ADA, TOKENS, House
from tests.server.house import LIMITS as REQUEST_LIMITS

TOKEN = TOKENS[ADA].get_secret_value()
KEEP_ALIVE = 15.0
LIMITS = HttpLimits(max_body_bytes=20_000, max_bodies_bytes=1 << 20, chunk_bytes=1024)
CONNECTION_LIMITS = ConnectionLimits(
    header_timeout=10.0,
    body_timeout=30.0,
    idle_timeout=75.0,
    slow_reader_timeout=60.0,
    max_header_bytes=4096,
    max_connections=10,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Exchange:
    """One request under way, as the application sees it. What it is told is read only while `reading`."""

    def __init__(self, app: Any, scope: dict[str, Any], body: bytes | None) -> None:
        self.started = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        if body is not None:
            self.send(body, more=False)
        self.task = asyncio.ensure_future(app(scope, self._to_app.get, self._say))

    async def _say(self, message: Message) -> None:
        await self.reading.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            self.started.set()
        else:
            assert message["type"] == "http.response.body", message
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)

    def send(self, body: bytes, *, more: bool = True) -> None:
        """The client sends a piece of its body."""
        self._to_app.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        """The client is gone."""
        self._to_app.put_nowait({"type": "http.disconnect"})

    async def take(self) -> str:
        """What was said since the last time, when everybody waits for something."""
        await settle()
        said, self.body = self.body, b""
        return said.decode()

    async def events(self) -> list[dict[str, Any]]:
        """As `take`, of server-sent events: their data."""
        lines = (await self.take()).splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    async def answer(self) -> Answer:
        """The whole response."""
        await self.task
        assert self.ended
        return Answer(self.status, self.headers, self.body)


class Door:
    """A server behind the HTTP door. `token` "" asks without one."""

    def __init__(self, house: House | None = None, *, limits: HttpLimits = LIMITS, **parts: Any) -> None:
        self.house = house or House()
        self.clock = self.house.clock
        self.listeners = Listeners(self.clock, KEEP_ALIVE)
        self.parts = HttpParts(
            handlers=self.house.handlers,
            board=self.house.board,
            store=self.house.store,
            artifacts=self.house.artifacts,
            identities=self.house.identities,
            vigil=Vigil(self.house.identities, self.clock),
            health=self.house.health,
            listeners=self.listeners,
            clock=self.clock,
            tasks=Tasks(),
            limits=limits,
            request_limits=REQUEST_LIMITS,
            **parts,
        )
        self.app = make_app(self.parts)

    async def open(
        self,
        method: str,
        target: str,
        json_body: Any = None,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        token: str = TOKEN,
        client: str = "127.0.0.1",
        server: tuple[str, int] = ("127.0.0.1", 8001),
        withheld: bool = False,
    ) -> Exchange:
        """Begin a request; `withheld`: its body does not come, until the exchange sends it."""
        given = {"host": "paint.test", **({"authorization": f"Bearer {token}"} if token else {})}
        if json_body is not None:
            body = json.dumps(json_body).encode()
            given["content-type"] = "application/json"
        if body:
            given["content-length"] = str(len(body))
        given.update({name.lower(): value for name, value in (headers or {}).items()})
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value is not None],
            "client": (client, 50_000),
            "server": server,
        }
        exchange = Exchange(self.app, scope, None if withheld else body)
        await settle()
        return exchange

    async def ask(self, method: str, target: str, json_body: Any = None, **given: Any) -> Answer:
        """A request, and its whole answer."""
        return await (await self.open(method, target, json_body, **given)).answer()

    async def job(self, **wishes: Any) -> str:
        """A job of Ada's that was accepted: its id."""
        answer = await self.ask("POST", "/v1/jobs", {"prompt": "a star", **wishes})
        assert answer.status == 202, answer.body
        job_id: str = answer.json()["id"]
        return job_id


class Line:
    """A client's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        """Send, and let the server take it."""
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, data: bytes) -> Answer:
        """Send a request, and read its answer."""
        await self.say(data)
        return await self.hear()

    async def hear(self) -> Answer:
        """Read one answer that says its length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Everything until the server ends the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Served:
    """The door on a port of this machine; use it as an asynchronous context manager."""

    def __init__(self, door: Door, limits: ConnectionLimits = CONNECTION_LIMITS) -> None:
        self.door = door
        self.server = HttpServer(door.app, door.clock, limits)
        self.port = 0
        self._lines: list[Line] = []

    async def __aenter__(self) -> Self:
        bound = socket.create_server(("127.0.0.1", 0))
        bound.setblocking(False)
        self.port = bound.getsockname()[1]
        await self.server.listen(bound)
        return self

    async def __aexit__(self, *error: object) -> None:
        for line in self._lines:
            await line.close()
        self.door.listeners.leave()
        closing = asyncio.ensure_future(self.server.close_all(5.0))
        await self.until(lambda: not self.server.connections)
        await closing

    async def connect(self, *, receive_buffer: int = 0) -> Line:
        """Someone connects."""
        ours = socket.socket()
        if receive_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        ours.setblocking(False)
        await asyncio.get_running_loop().sock_connect(ours, ("127.0.0.1", self.port))
        line = Line(*await asyncio.open_connection(sock=ours, limit=1 << 20))
        self._lines.append(line)
        before = self.server.connections
        await self.until(lambda: self.server.connections >= min(before, 1) or bool(before))
        return line

    async def pass_time(self, seconds: float) -> None:
        """Advance the clock in steps in which a deadline is looked for, and let everyone act on it."""
        await self.turn()
        end = self.door.clock.seconds() + seconds
        while (left := end - self.door.clock.seconds()) > 1e-6:
            self.door.clock.advance(min(0.5, left))
            await settle()
        await self.turn()

    async def turn(self) -> None:
        """Let what lies in sockets arrive."""
        for _ in range(5):
            await asyncio.sleep(0.002)  # the kernel's own time, which no clock here turns
            await settle()

    async def until(self, condition: Any) -> None:
        """Turn the loop until something is so."""
        for _ in range(2000):
            if condition():
                return
            await asyncio.sleep(0.002)
        raise AssertionError("it never came")


@contextlib.asynccontextmanager
async def served(limits: ConnectionLimits = CONNECTION_LIMITS, door: Door | None = None) -> AsyncIterator[Served]:
    """A door on a port."""
    async with Served(door or Door(), limits) as one:
        yield one
