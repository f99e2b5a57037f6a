"""Whatever datagrams come, each has a documented outcome; strangers hear nothing, and nobody unproved hears more than it said.

A datagram is counted when it has had its outcome: dropped for a reason, challenged, or taken. Hypothesis makes the first
thousands, a seeded mutation engine the rest, up to ATELIER_FUZZ_DATAGRAMS (20,000 unless set).
"""

from __future__ import annotations

import hmac
import os
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proto import atelier_udp_pb2 as udp
from server.doors.udp.parts import Address
from server.wire.datagrams import HEADER, LARGEST, Direction, seal
from server.wire.replay import ReplayWindow
from tests.conftest import LOOP
from tests.server.doors.udp.site import Client, Site
from tests.server.fakes import settle
from tests.traced import held_by, traced

WANTED = int(os.environ.get("ATELIER_FUZZ_DATAGRAMS", "20000"))
SEED = 20_261_121
REASONS = {"size", "stranger", "forged", "unknown", "replayed", "unproved", "too_many"}
SOMEWHERE: Address = ("203.0.113.9", 50_000)
MESSAGES: dict[str, Callable[[], udp.ClientDatagram]] = {
    "subscribe": lambda: udp.ClientDatagram(subscribe=udp.Subscribe(job_id="job-1")),
    "hear": lambda: udp.ClientDatagram(subscribe=udp.Subscribe(live_id="live-1", to_group=True)),
    "unsubscribe": lambda: udp.ClientDatagram(unsubscribe=udp.Unsubscribe(job_id="job-1")),
    "heartbeat": lambda: udp.ClientDatagram(heartbeat=udp.Heartbeat(padding=bytes(16))),
    "open_live": lambda: udp.ClientDatagram(open_live=udp.OpenLive(model="face", tag=1)),
    "live_frame": lambda: udp.ClientDatagram(live_frame=udp.LiveFrame(live_id="live-1", number=1, values=[0.5, 1])),
    "close_live": lambda: udp.ClientDatagram(close_live=udp.CloseLive(live_id="live-1")),
}


class Judge:
    """A door that is thrown at, held to its promises."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.site = Site(
            datagrams_per_second=10**9, subscriptions_per_owner=8, subscriptions=8, group=("239.192.7.1", 9100)
        )
        self.client: Client = LOOP.run_until_complete(self._begin())

    async def _begin(self) -> Client:
        await self.site.house.job()
        return await self.site.proved()

    @property
    def datagrams(self) -> int:
        return sum(self.counts.values())

    def throw(self, datagram: bytes, address: Address) -> None:
        """One, whose outcome is one of those that are told of, and nothing else than it says."""
        counts, socket = self.site.counts, self.site.socket
        dropped, taken = counts.dropped.copy(), counts.messages.total()
        socket.sent.clear()
        self.site.door.datagramReceived(datagram, address)
        (reason,) = (counts.dropped - dropped) or Counter({"": 1})
        if counts.messages.total() > taken:
            assert not reason
            self.counts["taken"] += 1
            return
        if reason:
            assert reason in REASONS
            assert socket.sent == []
            self.counts[reason] += 1
            return
        ((answer, to),) = socket.sent
        assert (to, len(answer) <= len(datagram)) == (address, True)
        self.counts["challenged"] += 1

    def signed(self, message: udp.ClientDatagram) -> bytes:
        """With the next number of a key that holds."""
        self.client.sequence += 1
        message.sequence = message.sequence or self.client.sequence
        return seal(message, Direction.CLIENT, self.client.key.id, self.client.key.secret)

    def body(self, body: bytes) -> bytes:
        """Any bytes, signed."""
        head = self.client.key.id.to_bytes(8, "big")
        return head + hmac.digest(self.client.key.secret, b"C" + head + body, "sha256")[:16] + body

    def rest(self) -> None:
        """Let what was asked be answered, and time go on."""
        LOOP.run_until_complete(self._rest())

    async def _rest(self) -> None:
        await settle()
        await self.site.pass_time(0.5)
        if self.site.keys.find(self.client.key.id) is None:  # a long run is longer than a key holds
            self.client = self.site.client()
        if not self.site.door.peers:
            self.client.key.window = ReplayWindow()
            await self.client.prove()


@pytest.fixture(scope="module")
def judge() -> Judge:
    """One for all, so that what came before may matter."""
    return Judge()


addresses = st.sampled_from([("127.0.0.1", 40_001), SOMEWHERE])
texts = st.sampled_from(["", "job-1", "live-1", "face"]) | st.text(max_size=300)
numbers = st.integers(0, 2**64 - 1)
floats = st.lists(st.floats(width=32), max_size=40)
said = st.one_of(
    st.builds(lambda text, group: udp.ClientDatagram(subscribe=udp.Subscribe(job_id=text, to_group=group)), texts, st.booleans()),
    st.builds(lambda text: udp.ClientDatagram(subscribe=udp.Subscribe(live_id=text)), texts),
    st.builds(lambda text: udp.ClientDatagram(unsubscribe=udp.Unsubscribe(live_id=text)), texts),
    st.builds(lambda text, tag: udp.ClientDatagram(open_live=udp.OpenLive(model=text, tag=tag)), texts, st.integers(0, 3)),
    st.builds(lambda text, number, values, image: udp.ClientDatagram(
        live_frame=udp.LiveFrame(live_id=text, number=number, values=values, image=image)),
        texts, numbers, floats, st.binary(max_size=300)),
    st.builds(lambda text: udp.ClientDatagram(close_live=udp.CloseLive(live_id=text)), texts),
    st.builds(lambda size: udp.ClientDatagram(heartbeat=udp.Heartbeat(padding=bytes(size))), st.integers(0, 1000)),
)  # fmt: skip


@settings(
    derandomize=True, database=None, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    st.lists(st.tuples(said, addresses), max_size=8),
    st.lists(st.tuples(st.binary(max_size=1300), addresses), max_size=8),
)
def test_any_datagram_has_a_documented_outcome(
    judge: Judge, messages: list[tuple[udp.ClientDatagram, Address]], noise: list[tuple[bytes, Address]]
) -> None:
    """Whole ones that say anything, and noise, signed and not."""
    for message, address in messages:
        judge.throw(judge.signed(message), address)
    for body, address in noise:
        judge.throw(body, address)
        if 0 < len(body) <= LARGEST - HEADER:
            judge.throw(judge.body(body), address)
    judge.rest()


def test_many_datagrams(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    """As many as are asked for: whole, damaged before and after they are signed, repeated, cut, grown, from two places."""
    made_by_hypothesis = judge.datagrams
    throw_at(judge, random.Random(SEED), WANTED - judge.datagrams)
    assert judge.counts.keys() >= REASONS - {"too_many", "unproved"} | {"taken", "challenged"}
    assert judge.site.counts.dropped["broken"] == 0
    with capsys.disabled():
        counts = ", ".join(f"{number:,} {outcome}" for outcome, number in judge.counts.most_common())
        print(f"\nfuzz: {judge.datagrams:,} datagrams ({made_by_hypothesis:,} by hypothesis): {counts}")  # noqa: T201


def throw_at(judge: Judge, chance: random.Random, count: int) -> None:
    """So many, the same ones for the same chance."""
    kept = [b""]
    for number in range(count):
        body = chance.choice(list(MESSAGES.values()))()
        if chance.random() < 0.1:
            body.sequence = chance.choice((0, 1, judge.client.sequence, 2**64 - 1 - chance.randrange(10), 2**40))
        if chance.random() < 0.05:
            body.cookie = chance.randrange(2**64)
        datagram = judge.signed(body)
        way = chance.random()
        if way < 0.25:
            datagram = judge.body(damaged(datagram[HEADER:], chance))
        elif way < 0.5:
            datagram = damaged(datagram, chance)
        elif way < 0.6:
            datagram = chance.choice(kept)
        elif way < 0.65:
            datagram = chance.randbytes(chance.randrange(1300))
        elif way < 0.7:
            datagram += bytes(chance.randrange(1300))
        kept = [*kept[-50:], datagram]
        judge.throw(datagram, SOMEWHERE if chance.random() < 0.2 else judge.client.address)
        if judge.client.key.window._highest > 2**32:  # else nothing would be new after a number near the last
            judge.client.key.window = ReplayWindow()
        if number % 200 == 199:
            judge.rest()


def damaged(body: bytes, chance: random.Random) -> bytes:
    """Flipped, cut, grown or doubled in one place or a few."""
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(body) + 1)
        kind = chance.randrange(4)
        if kind == 0 and at < len(body):
            body = body[:at] + bytes([body[at] ^ (1 << chance.randrange(8))]) + body[at + 1 :]
        elif kind == 1:
            body = body[:at]
        elif kind == 2:
            body = body[:at] + chance.randbytes(chance.randrange(1, 9)) + body[at:]
        else:
            body = body[:at] + body[: chance.randrange(len(body) + 1)] + body[at:]
    return body[: LARGEST + 100] or b"\x00"


def test_memory_is_flat_under_fuzz() -> None:
    """A long run leaves no more behind than a short one."""
    judge, chance = Judge(), random.Random(SEED + 1)
    throw_at(judge, chance, 600)
    with traced():
        throw_at(judge, chance, 400)
        before = held_by("server")
        throw_at(judge, chance, 2000)
        after = held_by("server")
    assert after - before < 64 * 1024
