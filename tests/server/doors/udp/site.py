"""The UDP door in memory: the real one on a socket that notes what is sent, clients with keys, live sessions of a test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from proto import atelier_udp_pb2 as udp
from server.doors.udp.door import UdpDoor
from server.doors.udp.parts import Address, UdpLimits, UdpParts
from server.errors import Code, Refusal
from server.live.events import Frame, LiveClosed, LiveListener, LiveOpened, LiveResult, StreamModel
from server.live.none import unknown_model, unknown_session
from server.principal import Principal
from server.udp_keys import UdpKey, UdpKeys
from server.wire.datagrams import HEADER, LARGEST, TO_ALL, Direction, is_signed, key_id_of, read_server, seal
from tests.server.fakes import settle
from tests.server.house import ADA, House

NAMES = ("jaw_open", "smile")
LIMITS: dict[str, Any] = {
    "heartbeat": 5.0,
    "datagrams_per_second": 50,
    "subscriptions_per_owner": 20,
    "subscriptions": 30,
}


class FakeSocket:
    """Notes what is sent, to whom. It can be full, and have no way to an address."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Address]] = []
        self.room = 1_000_000  # datagrams, until it is full
        self.unreachable: set[Address] = set()

    def sendto(self, datagram: bytes, address: Address) -> int:
        assert isinstance(datagram, bytes)
        assert HEADER < len(datagram) <= LARGEST
        assert address[1] > 0, "sent to nowhere"
        if address in self.unreachable:
            raise OSError(101, "Network is unreachable")
        if self.room <= 0:
            raise BlockingIOError
        self.room -= 1
        self.sent.append((datagram, address))
        return len(datagram)

    def take(self, address: Address) -> list[bytes]:
        """What was sent there since the last time."""
        taken = [datagram for datagram, to in self.sent if to == address]
        self.sent = [(datagram, to) for datagram, to in self.sent if to != address]
        return taken


class FakeTransport:
    """What Twisted gives a DatagramProtocol."""

    def __init__(self) -> None:
        self.socket = FakeSocket()


class FakeLive:
    """A `Live` whose ticks a test makes. Sessions are live-1, live-2, …"""

    def __init__(self, outputs: Sequence[str] = NAMES) -> None:
        self.model = StreamModel(name="face", inputs=("a", "b"), outputs=tuple(outputs), tick_hz=30.0)
        self.owners: dict[str, str] = {}
        self.frames: list[tuple[str, Frame]] = []
        self.listeners: dict[str, list[LiveListener]] = {}
        self.opened = 0
        self.loaded = asyncio.Event()  # the model is
        self.loaded.set()
        self.sequence = 0

    def models(self) -> Sequence[StreamModel]:
        return (self.model,)

    async def open(self, owner: str, model: str, *, echo_input: bool = False, source: str = "") -> LiveOpened:
        await asyncio.sleep(0)
        await self.loaded.wait()
        if model != self.model.name:
            raise unknown_model(model, [self.model.name])
        if len(self.owners) >= 50:
            raise Refusal(Code.RESOURCE_EXHAUSTED, "50 sessions are open", limit="50 sessions")
        self.opened += 1
        live_id = f"live-{self.opened}"
        self.owners[live_id] = owner
        self.listeners[live_id] = []
        return self.find(owner, live_id)

    def frame(self, owner: str, live_id: str, frame: Frame) -> None:
        self._check(owner, live_id)
        if len(frame.values) != len(self.model.inputs):
            raise Refusal.invalid("values", f"{len(self.model.inputs)} values", len(frame.values))
        self.frames.append((live_id, frame))

    def close(self, owner: str, live_id: str) -> LiveClosed:
        self._check(owner, live_id)
        return self.end(live_id, Code.OK)

    def end(self, live_id: str, code: Code) -> LiveClosed:
        """A session ends, for whatever reason."""
        del self.owners[live_id]
        closed = LiveClosed(live_id, code, "it was asked to" if code is Code.OK else "it failed")
        for listener in self.listeners.pop(live_id):
            listener.live_closed(closed)
        return closed

    def find(self, owner: str, live_id: str) -> LiveOpened:
        self._check(owner, live_id)
        return LiveOpened(live_id, self.model, 1_000_000_033_000)

    def watch(self, owner: str, live_id: str, listener: LiveListener) -> Callable[[], None]:
        self._check(owner, live_id)
        self.listeners[live_id].append(listener)
        return lambda: self._leave(live_id, listener)

    def tick(self, live_id: str, values: Sequence[float] = (0.25, 0.5)) -> None:
        """One more result."""
        self.sequence += 1
        result = LiveResult(
            live_id=live_id,
            number=self.sequence,
            captured_us=1_000_000_000_000,
            names=self.model.outputs,
            values=values,
            tick_us=1_000_000_001_000,
            sequence=self.sequence,
            dropped=3,
        )
        for listener in tuple(self.listeners[live_id]):
            listener.live_result(result)

    def _leave(self, live_id: str, listener: LiveListener) -> None:
        if listener in self.listeners.get(live_id, ()):
            self.listeners[live_id].remove(listener)

    def _check(self, owner: str, live_id: str) -> None:
        if self.owners.get(live_id) != owner:
            raise unknown_session(live_id)


class Site:
    """A server behind the UDP door."""

    def __init__(self, house: House | None = None, *, outputs: Sequence[str] = NAMES, **limits: Any) -> None:
        self.live = FakeLive(outputs)
        self.house = house or House(live=self.live)
        self.clock = self.house.clock
        self.keys = UdpKeys(self.clock.seconds, seconds=600.0, most=40, most_per_owner=30)
        self.notes: list[tuple[str, str, str, str]] = []
        self.parts = UdpParts(
            keys=self.keys,
            identities=self.house.identities,
            handlers=self.house.handlers,
            board=self.house.board,
            live=self.live,
            clock=self.clock,
            limits=UdpLimits(**{**LIMITS, **limits}),
            note=lambda principal, action, target, address: self.notes.append(
                (principal.key_id, action, target, address)
            ),
        )
        self.counts = self.parts.counts
        self.door = UdpDoor(self.parts)
        transport = FakeTransport()
        self.socket = transport.socket
        self.door.makeConnection(transport)  # type: ignore[arg-type]

    def client(self, owner: str = ADA, port: int = 40_001, **wishes: Any) -> Client:
        """Somebody with a key, whose address is not known yet."""
        return Client(self, wishes.pop("principal", None) or Principal(owner=owner), port, **wishes)

    async def proved(self, owner: str = ADA, port: int = 40_001, **wishes: Any) -> Client:
        """Somebody who was challenged, and answered."""
        client = self.client(owner, port, **wishes)
        await client.prove()
        return client

    async def pass_time(self, seconds: float) -> None:
        """Second by second, so that timers find the time that they expect."""
        while seconds > 0:
            await self.house.pass_time(min(1.0, seconds))
            seconds -= 1.0


class Client:
    """The other end, as an engine's author would write it."""

    def __init__(self, site: Site, principal: Principal, port: int, token: str = "") -> None:
        self.site = site
        self.address: Address = ("127.0.0.1", port)
        self.key: UdpKey = site.keys.issue(principal, token)
        self.sequence = 0
        self.cookie = 0

    def datagram(self, sequence: int | None = None, **message: Any) -> bytes:
        """One, signed."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        said = udp.ClientDatagram(sequence=sequence, cookie=self.cookie, **message)
        return seal(said, Direction.CLIENT, self.key.id, self.key.secret)

    def deliver(self, datagram: bytes) -> None:
        """It comes, from here."""
        self.site.door.datagramReceived(datagram, self.address)

    def send(self, **message: Any) -> int:
        """Give its sequence."""
        self.deliver(self.datagram(**message))
        return self.sequence

    def heard(self) -> list[udp.ServerDatagram]:
        """What has come since the last time: signed for this client, or the same for all."""
        heard = []
        for datagram in self.site.socket.take(self.address):
            signed = datagram[:HEADER] != TO_ALL
            if signed:
                assert key_id_of(datagram) == self.key.id
                assert is_signed(datagram, Direction.SERVER, self.key.secret)
            message = read_server(datagram)
            assert message is not None
            assert signed == (message.WhichOneof("message") not in FOR_ALL or bool(message.answers))
            heard.append(message)
        return heard

    async def ask(self, **message: Any) -> udp.ServerDatagram:
        """Send, and give the first of the answers."""
        sequence = self.send(**message)
        await settle()
        return next(one for one in self.heard() if one.answers == sequence)

    async def prove(self) -> None:
        """Show that this address hears."""
        self.cookie = 0
        answer = await self.ask(heartbeat=udp.Heartbeat(padding=bytes(16)))
        self.cookie = answer.challenge.cookie
        assert (await self.ask(heartbeat=udp.Heartbeat())).HasField("alive")

    async def subscribe(self, **topic: Any) -> udp.ServerDatagram:
        """Give the answer."""
        return await self.ask(subscribe=udp.Subscribe(**topic))


FOR_ALL = ("names", "live_result", "live_ended", "job_progress", "job_ended")


def kinds(heard: Sequence[udp.ServerDatagram]) -> list[str]:
    """What was heard, by kind."""
    return [str(one.WhichOneof("message")) for one in heard]
