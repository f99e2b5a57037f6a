"""What no client should say, and whether the server copes: it answers with an Error or a Goodbye, or hangs up, and does not wait.

Each babble is said on a connection of its own, before Hello or after Welcome.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from bot.waiting import within
from proto import atelier_pb2 as pb
from server.futures import as_future
from server.wire.connection import PROTOCOL_VERSION, Connection, Received, Role
from server.wire.framing import encode_frame

ANSWER_TIME = 15.0  # seconds; the server's own limit for a Hello is 10
_COPING = frozenset({"error", "goodbye"})


@dataclass(frozen=True, slots=True)
class Babble:
    """Bytes, and whether they are said after Welcome or in place of Hello."""

    name: str
    data: bytes
    welcomed: bool


def _frame(**message: Any) -> bytes:
    return encode_frame(pb.Envelope(**message).SerializeToString())


BABBLES = (
    Babble("a frame that is no Envelope", encode_frame(b"\xff" * 40), welcomed=True),
    Babble("an empty Envelope", encode_frame(b""), welcomed=True),
    Babble("a frame of four gigabytes", b"\xff\xff\xff\xff" + b"x" * 64, welcomed=True),
    Babble("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", welcomed=False),
    Babble("a request before Hello", _frame(request_id=1, ping=pb.Ping()), welcomed=False),
    Babble("a second Hello", _frame(request_id=9, hello=pb.Hello(protocol_version=1)), welcomed=True),
    Babble("a server's message", _frame(request_id=9, pong=pb.Pong()), welcomed=True),
    Babble("a Submit without a prompt", _frame(request_id=9, submit=pb.Submit()), welcomed=True),
    Babble("a Submit of no size", _frame(request_id=9, submit=pb.Submit(prompt="x", width=7)), welcomed=True),
    Babble("a job that is not there", _frame(request_id=9, watch=pb.Watch(job_id="0" * 32)), welcomed=True),
)
"""In the order in which bots say them."""


class _Babbler(Protocol):
    def __init__(self, babble: Babble, token: str) -> None:
        self._babble = babble
        self._token = token
        self._wire = Connection(Role.CLIENT, handshake_frame_bytes=1 << 16, open_frame_bytes=1 << 22)
        self._said = False
        self.coped: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def connectionMade(self) -> None:
        """Say it, or Hello first."""
        if not self._babble.welcomed:
            self._say_it()
            return
        hello = pb.Hello(protocol_version=PROTOCOL_VERSION, token=self._token, client_name="bot-babble")
        self._transport.write(self._wire.send(pb.Envelope(request_id=1, hello=hello)))

    def dataReceived(self, data: bytes) -> None:
        """Any answer but a fit one is a finding."""
        self._wire.receive_data(data)
        while (event := self._wire.next_event()) is not None:
            if isinstance(event, Received):
                self._take(event.kind)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """To hang up on babble is to cope with it, where no answer is due."""
        self._settle("" if self._said else None)

    def _take(self, kind: str) -> None:
        if kind == "welcome":
            self._say_it()
        elif kind in _COPING:
            self._settle("" if self._said else f"{kind} in place of Welcome")
            self._transport.loseConnection()
        else:
            self._settle(f"it answered {kind}")

    def _say_it(self) -> None:
        self._said = True
        self._transport.write(self._babble.data)

    def _settle(self, how: str | None) -> None:
        if not self.coped.done():
            self.coped.set_result(how)

    @property
    def _transport(self) -> Any:
        return self.transport


async def cope(reactor: Any, address: str, token: str, babble: Babble) -> str | None:
    """Say it to the server. "" if it coped, else what happened instead, for a report; None where the server went away before."""
    babbler = _Babbler(babble, token)
    endpoint: Any = clientFromString(reactor, address)  # type: ignore[no-untyped-call]
    try:
        connecting: Deferred[Any] = connectProtocol(endpoint, babbler)  # type: ignore[no-untyped-call]
        await as_future(connecting)
    except ConnectError:
        return None
    how: str | None
    try:
        how = await within(reactor, ANSWER_TIME, _settled(babbler))
    except TimeoutError:
        how = f"no answer within {ANSWER_TIME:g} s"
    finally:
        babbler._transport.abortConnection()
    return f"{babble.name}: {how}" if how else how


async def _settled(babbler: _Babbler) -> str | None:
    return await babbler.coped
