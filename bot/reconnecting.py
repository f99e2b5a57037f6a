"""Keeps a client connected: whatever is under way goes on over the next connection when one is lost.

connect → [connection → lost → wait → connection → …] → closed, or given up after Patience.reconnect_for seconds
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.error import ConnectError, DNSLookupError

from bot.conversation import Conversation
from bot.errors import CannotConnectError, ClientClosedError, ClientError, ConnectionLostError, NotWelcomeError
from bot.line import ClosedEarly, Line
from bot.patience import Backoff, Patience
from bot.waiting import pause, within
from proto import atelier_pb2 as pb
from server.clock import Clock, Timer
from server.errors import AtelierError, Code
from server.futures import as_future
from server.wire.connection import LocalProtocolError, Received

log = structlog.get_logger("atelier.client")

Tell = Callable[[str, int], None]
"""Hears, as a line for people, of each attempt to come back (1, 2, …), and of its success (0)."""

# The server may well let us in a little later; any other refusal of Hello would only be repeated.
PASSING = frozenset({Code.TOO_MANY_CONNECTIONS, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.HANDSHAKE_TIMEOUT})

# Somebody else has our name now: to come back would put them out, and they would come back.
FINAL = frozenset({Code.DUPLICATE_LOGIN})


class Reconnecting:
    """A server's address, the present connection to it if there is one, and all conversations that are under way."""

    def __init__(
        self,
        reactor: Any,
        address: str,
        *,
        token: str,
        client_name: str,
        patience: Patience,
        tell: Tell,
        clock: Clock,
        random: Callable[[], float],
        exclusive: bool = False,
        on_stray: Callable[[Received], None] | None = None,
    ) -> None:
        self._on_stray = on_stray
        self._exclusive = exclusive
        self._address = address
        self._endpoint = _endpoint(reactor, address)
        self._token = token
        self._client_name = client_name
        self._patience = patience
        self._tell = tell
        self._clock = clock
        self._backoff = Backoff(patience.first_wait, patience.longest_wait, random)
        self._line: Line | None = None
        self._conversations: dict[Conversation, None] = {}  # in the order in which they were begun
        self._put_off: dict[Conversation, Timer] = {}  # those of them that wait until they may be asked again
        self._failing_since: float | None = None
        self._regaining: asyncio.Task[None] | None = None
        self._end: AtelierError | ClientError | None = ClientClosedError("not connected: await connect() first")

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._line is not None

    @property
    def line(self) -> Line | None:
        """The present connection."""
        return self._line

    @property
    def ended(self) -> bool:
        """Whether there will be no connection any more."""
        return self._end is not None

    async def connect(self) -> pb.Welcome:
        """Connect once. Raises CannotConnectError, NotWelcomeError."""
        if self._end is None:
            raise ClientError("connected already")
        line, welcome = await self._open()
        self._end = None
        self._use(line)
        return welcome

    def begin(self, conversation: Conversation) -> None:
        """Carry a conversation until it is over or forgotten. Raises ClientError."""
        if self._end is not None:
            raise self._end
        if self._line is not None:
            try:
                self._line.ask(conversation)
            except LocalProtocolError as error:
                raise ClientError(str(error)) from error
        self._conversations[conversation] = None

    def forget(self, conversation: Conversation) -> None:
        """Carry it no more."""
        self._conversations.pop(conversation, None)
        self._wait_no_more(conversation)

    async def close(self) -> None:
        """Hang up: every conversation fails with ClientClosedError."""
        self._finish(ClientClosedError("the client was closed"))
        if self._regaining is not None:
            self._regaining.cancel()
            await asyncio.wait([self._regaining])
        if self._line is not None:
            await self._line.close()

    # One connection

    async def _open(self) -> tuple[Line, pb.Welcome]:
        line = Line(self._clock, self._patience)
        try:
            return line, await within(self._clock, self._patience.handshake, self._greeted(line))
        except TimeoutError:
            line.abort()
            reason = f"no Welcome within {self._patience.handshake:g} s"
            raise CannotConnectError(self._address, reason) from None
        except BaseException:
            line.abort()
            raise

    async def _greeted(self, line: Line) -> pb.Welcome:
        try:
            connecting: Deferred[Line] = connectProtocol(self._endpoint, line)  # type: ignore[no-untyped-call]
            await as_future(connecting)
            return await line.greet(self._token, self._client_name, self._exclusive)
        except (ConnectError, DNSLookupError, ClosedEarly, LocalProtocolError) as error:
            raise CannotConnectError(self._address, str(error).rstrip(".")) from error

    def _use(self, line: Line) -> None:
        """Go on with everything over `line`."""
        self._line = line
        for conversation in tuple(self._conversations):
            self._wait_no_more(conversation)
            self._ask(line, conversation)
        line.adopt(on_over=self._over, on_lost=self._lost, on_stray=self._on_stray)

    def _ask(self, line: Line, conversation: Conversation) -> None:
        try:
            line.ask(conversation)
        except LocalProtocolError as error:  # the server came back with smaller limits
            self.forget(conversation)
            conversation.fail(ClientError(str(error)))

    def _over(self, conversation: Conversation) -> None:
        """It has its last answer, or is put off."""
        if conversation.put_off is None:
            self.forget(conversation)
        elif conversation in self._conversations:
            self._put_off[conversation] = self._clock.callLater(conversation.put_off, self._ask_again, conversation)

    def _ask_again(self, conversation: Conversation) -> None:
        del self._put_off[conversation]
        if self._line is not None:  # else the next connection begins with it
            self._ask(self._line, conversation)

    def _wait_no_more(self, conversation: Conversation) -> None:
        timer = self._put_off.pop(conversation, None)
        if timer is not None:
            timer.cancel()

    # Losing it, and coming back

    def _lost(self, line: Line, reason: str) -> None:
        self._line = None
        if self._end is not None:
            return
        if line.goodbye in FINAL:
            self._finish(ConnectionLostError(reason, line.goodbye))
            return
        if line.useful or self._failing_since is None:
            self._failing_since = self._clock.seconds()
            self._backoff.reset()
        self._regaining = asyncio.ensure_future(self._regain(self._failing_since, reason, line.goodbye))

    async def _regain(self, since: float, reason: str, code: Code | None) -> None:
        """Come back or give up; whatever happens, nobody is left waiting."""
        try:
            await self._come_back(since, reason, code)
        except Exception as error:  # what `tell` raised, say
            log.exception("client.broken")
            self._finish(ConnectionLostError(f"the client erred while it came back: {error!r}", code))

    async def _come_back(self, since: float, reason: str, code: Code | None) -> None:
        until = since + self._patience.reconnect_for
        attempt = 0
        while (left := until - self._clock.seconds()) > 0:
            wait = min(self._backoff.next(), left)
            attempt += 1
            self._tell(f"no connection to {self._address}: {reason}; trying again in {wait:.1f} s", attempt)
            await pause(self._clock, wait)
            try:
                line, _ = await self._open()
            except NotWelcomeError as refusal:
                if refusal.code not in PASSING:
                    self._finish(refusal)
                    return
                reason, code = str(refusal), refusal.code
            except CannotConnectError as error:
                reason = error.reason
            else:
                self._tell(f"connected to {self._address} again", 0)
                self._use(line)
                return
        text = f"gave up on {self._address} after {self._patience.reconnect_for:g} s: {reason}"
        self._finish(ConnectionLostError(text, code))

    def _finish(self, end: AtelierError | ClientError) -> None:
        """Nothing more can be asked, and nothing more will be heard."""
        self._end = end
        for conversation in tuple(self._conversations):
            self.forget(conversation)
            conversation.fail(end)


def _endpoint(reactor: Any, address: str) -> Any:
    try:
        return clientFromString(reactor, address)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, IndexError) as error:
        reason = f"that is no address such as tcp:127.0.0.1:9000, tls:host:port or unix:path ({error})"
        raise CannotConnectError(repr(address), reason) from None
