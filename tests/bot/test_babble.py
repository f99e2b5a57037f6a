"""Nonsense is judged only where it was said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from bot.babble import BABBLES, cope
from proto import atelier_pb2 as pb
from server.futures import as_future
from tests.bot.lying_server import Liar

AFTER_WELCOME = next(babble for babble in BABBLES if babble.welcomed)
BEFORE_HELLO = next(babble for babble in BABBLES if not babble.welcomed)


class Gone(Protocol):
    """Hangs up on whoever comes, as a server that is killed does."""

    def connectionMade(self) -> None:
        """At once."""
        transport: Any = self.transport
        transport.abortConnection()


class Yes(Liar):
    """Answers everything as if it had been asked something sound."""

    def _answer(self, event: Any) -> None:
        if event.kind == "hello":
            super()._answer(event)
        else:
            self.says(event.request_id, pong=pb.Pong())


@asynccontextmanager
async def listening(reactor: Any, make: Any) -> AsyncIterator[str]:
    """A server of such connections; its address."""
    factory: Any = Factory()
    factory.buildProtocol = lambda address: make()
    endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")  # type: ignore[no-untyped-call]
    port = await as_future(endpoint.listen(factory))
    try:
        yield f"tcp:127.0.0.1:{port.getHost().port}"
    finally:
        await as_future(port.stopListening())


async def test_a_server_that_goes_before_anything_was_said_is_not_judged(reactor: Any) -> None:
    """Nor one that is not there; one that hangs up on nonsense copes with it."""
    async with listening(reactor, Gone) as address:
        assert await cope(reactor, address, "", AFTER_WELCOME) is None
        assert await cope(reactor, address, "", BEFORE_HELLO) == ""
    assert await cope(reactor, address, "", AFTER_WELCOME) is None


async def test_an_answer_as_if_it_were_a_request_is_told(reactor: Any) -> None:
    """With what was said."""
    babble = next(babble for babble in BABBLES if babble.name == "a job that is not there")

    def yes() -> Yes:
        return Yes(lambda *_: None, None)

    async with listening(reactor, yes) as address:
        assert await cope(reactor, address, "", babble) == "a job that is not there: it answered pong"
