"""Whatever bytes come, a connection answers them in one of three documented ways, and holds no more than it should.

A frame is counted when it has had its outcome: `Received`, `Rejected` or `StreamBroken` (which ends its session). Hypothesis
makes the first few thousand, a seeded mutation engine the rest, up to ATELIER_FUZZ_FRAMES (20,000 unless set). The same stream
cut into other reads must have the same outcomes; such repetitions are not counted.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proto import atelier_pb2 as pb
from server.errors import Code, StreamBroken
from server.wire.connection import KINDS, Connection, Received, Rejected, Role, State
from server.wire.framing import encode_frame
from tests.traced import held_by, traced
from tests.wire.pair import ENVELOPES, FRAMES, HANDSHAKE_FRAME_BYTES, OPEN_FRAME_BYTES, a_connection, outcome, pieces

FRAMES_WANTED = int(os.environ.get("ATELIER_FUZZ_FRAMES", "20000"))
SEED = 20_261_101
DOCUMENTED = {
    Code.MALFORMED_MESSAGE,
    Code.UNKNOWN_MESSAGE,
    Code.UNEXPECTED_MESSAGE,
    Code.HELLO_REQUIRED,
    Code.INVALID_PARAMETER,
}
STARTS = [(role, state) for role in Role for state in (State.HANDSHAKE, State.OPEN)]
SPEAKER = {Role.CLIENT: Role.SERVER, Role.SERVER: Role.CLIENT}


class Judge:
    """Feeds a connection, holds it to its promises, and counts the outcomes."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    @property
    def frames(self) -> int:
        return self.counts["received"] + self.counts["rejected"] + self.counts["broken"]

    def session(self, role: Role, state: State, reads: Iterator[bytes]) -> list[object]:
        """The outcomes of one connection's life, until it is broken, closed, or out of reads."""
        connection = a_connection(role, state)
        outcomes: list[object] = []
        self.counts["sessions"] += 1
        for read in reads:
            connection.receive_data(read)
            held_most = OPEN_FRAME_BYTES if connection.state is State.OPEN else HANDSHAKE_FRAME_BYTES
            assert connection._reader.held_bytes <= held_most + 4 + len(read)
            try:
                while (event := connection.next_event()) is not None:
                    self._judge(connection, event)
                    outcomes.append(outcome(event))
            except StreamBroken as broken:
                self._judge_broken(connection, broken)
                return [*outcomes, broken.code]
        self.counts["cut off"] += connection.frame_begun
        return outcomes

    def _judge_broken(self, connection: Connection, broken: StreamBroken) -> None:
        assert broken.code is Code.FRAME_TOO_LARGE
        assert connection._reader.held_bytes == 0
        self.counts["broken"] += 1

    def _judge(self, connection: Connection, event: Received | Rejected) -> None:
        if isinstance(event, Received):
            assert event.kind in KINDS[SPEAKER[connection.role]]
            self.counts["received"] += 1
            if event.kind == "hello":
                connection.send(ENVELOPES["welcome"])
        else:
            assert type(event) is Rejected
            assert event.refusal.code in DOCUMENTED
            assert str(event.refusal)
            self.counts["rejected"] += 1


class Mutator:
    """Makes frames: valid ones, valid ones with damage, and noise; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.bodies = [envelope.SerializeToString() for envelope in ENVELOPES.values()]
        self.said_by = {role: [ENVELOPES[kind].SerializeToString() for kind in sorted(KINDS[role])] for role in Role}
        self.damages: list[Callable[[bytes], bytes]] = [
            self.flip,
            self.cut,
            self.insert,
            self.repeat,
            self.splice,
            self.overwrite,
            self.noise,
        ]

    def frame(self, speaker: Role) -> bytes:
        """One frame, mostly of `speaker`: half are whole and valid, most others have a damaged body, a few a wrong prefix."""
        chance = self.chance
        body = chance.choice(self.bodies if chance.random() < 0.1 else self.said_by[speaker])
        kind = chance.random()
        if kind < 0.5:
            return encode_frame(body)
        for _ in range(chance.randrange(1, 4)):
            body = chance.choice(self.damages)(body)
        frame = encode_frame(body)
        if kind < 0.96:
            return frame
        if kind < 0.98:  # a prefix that is wrong by a little: the stream is out of step from here on
            return max(0, len(body) + chance.randrange(-3, 4)).to_bytes(4, "big") + body
        if kind < 0.99:
            return chance.randbytes(4) + body
        return frame[: chance.randrange(len(frame))]

    def stream(self, hearer: Role) -> list[bytes]:
        """A handful of frames for `hearer`, some of them twice, out of order or without an end."""
        speaker = SPEAKER[hearer]
        frames = [self.frame(speaker) for _ in range(self.chance.randrange(1, 60))]
        if self.chance.random() < 0.5:
            frames.insert(0, FRAMES["hello" if speaker is Role.CLIENT else "welcome"])
        if self.chance.random() < 0.3:
            self.chance.shuffle(frames)
        if self.chance.random() < 0.3:
            frames += frames[: len(frames) // 3]
        if self.chance.random() < 0.2:
            frames[-1] = frames[-1][: self.chance.randrange(len(frames[-1]) + 1)]
        return frames

    def reads(self, frames: list[bytes]) -> Iterator[bytes]:
        """`frames` one by one, in one piece, or cut anywhere."""
        way = self.chance.random()
        if way < 0.3:
            yield from frames
            return
        stream = b"".join(frames)
        if way < 0.5:
            yield stream
            return
        largest = self.chance.choice((3, 40, 1460))
        at = 0
        while at < len(stream):
            size = self.chance.randrange(1, largest + 1)
            yield stream[at : at + size]
            at += size

    def place(self, body: bytes) -> int:
        return self.chance.randrange(len(body) + 1)

    def flip(self, body: bytes) -> bytes:
        if not body:
            return body
        at = self.chance.randrange(len(body))
        return body[:at] + bytes([body[at] ^ (1 << self.chance.randrange(8))]) + body[at + 1 :]

    def cut(self, body: bytes) -> bytes:
        return body[: self.place(body)]

    def insert(self, body: bytes) -> bytes:
        at = self.place(body)
        return body[:at] + self.chance.randbytes(self.chance.randrange(1, 9)) + body[at:]

    def repeat(self, body: bytes) -> bytes:
        start, end = sorted((self.place(body), self.place(body)))
        return body[:end] + body[start:end] * self.chance.randrange(1, 20) + body[end:]

    def splice(self, body: bytes) -> bytes:
        other = self.chance.choice(self.bodies)
        return body[: self.place(body)] + other[self.place(other) :]

    def overwrite(self, body: bytes) -> bytes:
        at = self.place(body)
        return body[:at] + self.chance.choice((b"\xff" * 10, b"\x00", b"\x80" * 9 + b"\x01", b"\x7f")) + body[at + 1 :]

    def noise(self, body: bytes) -> bytes:
        return self.chance.randbytes(len(body))


@pytest.fixture(scope="module")
def judge() -> Judge:
    """One count for the whole module."""
    return Judge()


def damaged(data: bytes, places: list[tuple[int, int]]) -> bytes:
    """`data` with some of its bytes set to others."""
    found = bytearray(data)
    for at, byte in places:
        found[at % len(found)] = byte
    return bytes(found)


bodies = st.sampled_from(sorted(ENVELOPES)).map(lambda kind: FRAMES[kind][4:])
submits = st.builds(
    lambda number, **fields: pb.Envelope(request_id=number, submit=pb.Submit(**fields)).SerializeToString(),
    st.integers(0, 2**64 - 1),
    prompt=st.text(max_size=80),
    width=st.none() | st.integers(0, 2**32 - 1),
    guidance_scale=st.none() | st.floats(),
    priority=st.integers(-(2**31), 2**31 - 1),
    inline_pictures=st.booleans(),
)
places = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4)
noise = st.binary(max_size=120)
framed = st.one_of(bodies, submits, st.builds(damaged, bodies, places), noise).map(encode_frame)
wrecks = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda length: length.to_bytes(4, "big")),
    st.builds(lambda frame, size: frame[: size % len(frame)], framed, st.integers(0, 10_000)),
    st.builds(damaged, framed, places),
    noise,
)
# Whole frames, something after which the stream may be out of step, and frames again.
streams = st.builds(
    lambda before, wreck, after: [*before, *wreck, *after],
    st.lists(framed, min_size=1, max_size=20),
    st.lists(wrecks, max_size=2),
    st.lists(framed, max_size=5),
)


@settings(
    derandomize=True, database=None, deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.sampled_from(STARTS), streams, st.integers(1, 2000))
def test_any_bytes_have_a_documented_outcome(
    judge: Judge,
    start: tuple[Role, State],
    frames: list[bytes],
    size: int,
) -> None:
    """Valid, damaged, truncated and random frames have documented outcomes, the same however they are cut into reads."""
    stream = b"".join(frames)
    whole = judge.session(*start, iter([stream]))
    again = Judge()
    assert again.session(*start, iter(frames)) == whole
    assert again.session(*start, pieces(stream, size)) == whole
    assert again.session(*start, pieces(stream)) == whole


def test_many_frames(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    """As many frames as are asked for have documented outcomes, and the process does not grow by them."""
    mutator = Mutator(SEED)
    made_by_hypothesis = judge.frames
    process = psutil.Process()
    before = process.memory_info().rss
    while judge.frames < FRAMES_WANTED:
        role, state = mutator.chance.choice(STARTS)
        frames = mutator.stream(role)
        outcomes = judge.session(role, state, mutator.reads(frames))
        if mutator.chance.random() < 0.05:
            assert Judge().session(role, state, pieces(b"".join(frames))) == outcomes
    assert process.memory_info().rss - before < 64 * 1024 * 1024
    assert min(judge.counts[name] for name in ("received", "rejected", "broken", "cut off")) > 0
    with capsys.disabled():
        counts = ", ".join(f"{judge.counts[name]:,} {name}" for name in ("received", "rejected", "broken"))
        rest = f"{judge.counts['sessions']:,} sessions, {judge.counts['cut off']:,} of them cut off in mid-frame"
        print(f"\nfuzz: {judge.frames:,} frames ({made_by_hypothesis:,} by hypothesis): {counts}; {rest}")  # noqa: T201


def test_memory_is_flat_under_fuzz() -> None:
    """A long run of damaged sessions leaves no more memory behind than a short one."""
    judge = Judge()

    def run(mutator: Mutator, frames: int) -> None:
        wanted = judge.frames + frames
        while judge.frames < wanted:
            role, state = mutator.chance.choice(STARTS)
            judge.session(role, state, mutator.reads(mutator.stream(role)))

    mutator = Mutator(SEED + 1)
    run(mutator, 200)
    with traced():
        run(mutator, 200)
        before = held_by("server")
        run(mutator, 3000)
        after = held_by("server")
    assert after - before < 64 * 1024
