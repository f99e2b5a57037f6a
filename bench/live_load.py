"""Live sessions for a benchmark: frames go in by TCP, results come out by UDP. One thread, by epoll.

    python -m bench.live_load PORT

Told {"open": N, "rate": …} on stdin it opens N `quiet` sessions on CONNECTIONS connections, subscribes to each by datagram, and
answers with their ids; told {"play": SECONDS, "lead": SECONDS or null} it sends frames for so long, all of them `lead` before
the server's tick, or (null) each session at a moment of its own, and answers with what it saw. Captured is when a frame was due,
whatever held it up here.
"""

from __future__ import annotations

import gc
import heapq
import json
import select
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from bench.datagrams import UdpClient
from bench.talking import Talker
from bot.live.motion import CYCLE, values_of
from bot.live.phase import Phase
from proto import atelier_pb2 as pb
from proto import atelier_udp_pb2 as udp
from server.wire.datagrams import HEADER

CONNECTIONS = 4
SEED = 7
STREAM = "stream"  # the model_type
STARVED = 1.0  # seconds without a result
IDLE = 0.5  # seconds between two looks while nothing is asked
TAIL = 0.25  # seconds in which the last results come


@dataclass(slots=True)
class Session:
    """One session, and what it was sent and heard in the window that is measured. Seconds, by time.time."""

    live_id: str
    connection: Talker
    values: list[tuple[float, ...]]
    number: int = 0  # of its latest frame
    sent: int = 0
    heard: int = 0
    sequence: int = 0
    lost: int = 0  # datagrams, by gaps
    dropped: int = 0  # frames that the server did not run, since the session began
    dropped_before: int = 0
    heard_at: float = 0.0
    longest: float = 0.0  # between two results


@dataclass(slots=True)
class Seen:
    """Milliseconds."""

    latencies: list[float] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)  # from a tick's beginning to its datagram
    late: list[float] = field(default_factory=list)  # frames that left here after they were due


class Load:
    """All sessions of this process."""

    def __init__(self, port: int) -> None:
        self._talkers = [Talker(port) for _ in range(CONNECTIONS)]
        self._udp = UdpClient(self._talkers[0])
        self._sessions: dict[str, Session] = {}
        self._phase: Phase | None = None
        self._rate = 30.0
        self._poll = select.epoll()
        self._poll.register(self._udp.socket, select.EPOLLIN)
        for talker in self._talkers:
            self._poll.register(talker.connection, select.EPOLLIN)

    def open(self, count: int, rate: float) -> list[str]:
        """So many more sessions; the ids of all."""
        self._rate = rate
        models = self._talkers[0].ask(list_models=pb.ListModels()).models.models
        name = next(model.name for model in models if model.model_type == STREAM)
        self._udp.socket.setblocking(True)
        for number in range(count):
            talker = self._talkers[number % CONNECTIONS]
            opened = talker.ask(open_live=pb.OpenLive(model=name, quiet=True)).live_opened
            self._phase = Phase(opened.tick_hz, opened.next_tick_us)
            session = Session(opened.live_id, talker, values_of(number, len(opened.inputs), SEED))
            self._sessions[opened.live_id] = session
            self._udp.subscribe(opened.live_id)
        return list(self._sessions)

    def idle(self) -> None:
        """Stay there."""
        self._udp.socket.setblocking(False)
        if time.monotonic() > self._udp.next_heartbeat:
            self._udp.heartbeat()
        self._take()

    def play(self, seconds: float, lead: float | None) -> dict[str, float]:
        """A window."""
        self._udp.socket.setblocking(False)
        self._take()
        sessions = list(self._sessions.values())
        for session in sessions:
            session.sent = session.heard = session.lost = 0
            session.longest, session.heard_at = 0.0, time.time()
            session.dropped_before = session.dropped
        seen = Seen()
        gc.collect()
        gc.disable()  # a pause of the client's is no latency of the server's
        try:
            self._send_all(sessions, seconds, lead, seen)
            end = time.time() + TAIL
            while (left := end - time.time()) > 0:
                self._wait(left, seen)
        finally:
            gc.enable()
        for session in sessions:
            session.longest = max(session.longest, time.time() - TAIL - session.heard_at)
        return _figures(sessions, seen)

    def _send_all(self, sessions: list[Session], seconds: float, lead: float | None, seen: Seen) -> None:
        period, end = 1 / self._rate, time.time() + seconds
        queue = [(self._first(at, len(sessions), lead), at) for at in range(len(sessions))]
        heapq.heapify(queue)
        while queue[0][0] < end:
            while (left := queue[0][0] - time.time()) > 0:
                self._wait(left, seen)
            together: dict[Talker, list[pb.Envelope]] = {}
            now = time.time()
            while queue[0][0] <= now:
                due, at = heapq.heappop(queue)
                session = sessions[at]
                together.setdefault(session.connection, []).append(_frame(session, due))
                coming = due + period if lead is None else self._before_tick(due + period, lead)
                heapq.heappush(queue, (max(coming, due + period / 2), at))
                seen.late.append((now - due) * 1e3)
            for talker, envelopes in together.items():
                talker.tell(envelopes)
                self._take(seen)

    def _first(self, at: int, of: int, lead: float | None) -> float:
        soon = time.time() + 2 / self._rate
        return soon + at / of / self._rate if lead is None else self._before_tick(soon, lead)

    def _before_tick(self, moment: float, lead: float) -> float:
        """The one nearest to that moment."""
        assert self._phase is not None
        return self._phase.next_tick((moment + lead - self._phase.period / 2) * 1e6) / 1e6 - lead

    def _wait(self, seconds: float, seen: Seen) -> None:
        if time.monotonic() > self._udp.next_heartbeat:
            self._udp.heartbeat()
        for descriptor, _ in self._poll.poll(max(seconds, 0.0)):
            if descriptor == self._udp.socket.fileno():
                self._take(seen)
            else:
                raise RuntimeError(str(self._of(descriptor).next()))  # a frame that was refused: there is nothing else

    def _of(self, descriptor: int) -> Talker:
        return next(talker for talker in self._talkers if talker.connection.fileno() == descriptor)

    def _take(self, seen: Seen | None = None) -> None:
        """All datagrams that have come."""
        while True:
            try:
                data = self._udp.socket.recv(2048)
            except BlockingIOError:
                return
            now = time.time()
            said = udp.ServerDatagram.FromString(data[HEADER:])
            session = self._sessions.get(said.live_result.live_id)
            if session is not None:
                self._hear(session, said.live_result, now, seen)

    def _hear(self, session: Session, result: udp.LiveResult, now: float, seen: Seen | None) -> None:
        if session.sequence:
            session.lost += max(0, result.sequence - session.sequence - 1)
        session.sequence, session.dropped = result.sequence, result.dropped
        session.heard += 1
        session.longest, session.heard_at = max(session.longest, now - session.heard_at), now
        assert self._phase is not None
        self._phase.ticked(result.tick_us)
        if seen is not None:
            seen.latencies.append((now - result.captured_us / 1e6) * 1e3)
            seen.ticks.append((now - result.tick_us / 1e6) * 1e3)


def _frame(session: Session, due: float) -> pb.Envelope:
    session.number += 1
    session.sent += 1
    frame = pb.LiveFrame(
        live_id=session.live_id, number=session.number, captured_us=int(due * 1e6),
        values=session.values[session.number % CYCLE],
    )  # fmt: skip
    return pb.Envelope(live_frame=frame)


def _figures(sessions: list[Session], seen: Seen) -> dict[str, float]:
    return {
        "p50": percentile(seen.latencies, 50),
        "p99": percentile(seen.latencies, 99),
        "most": max(seen.latencies, default=0.0),
        "tick_p99": percentile(seen.ticks, 99),
        "late_p99": percentile(seen.late, 99),
        "sent": sum(session.sent for session in sessions),
        "heard": sum(session.heard for session in sessions),
        "lost": sum(session.lost for session in sessions),
        "dropped": sum(session.dropped - session.dropped_before for session in sessions),
        "starved": sum(session.longest > STARVED for session in sessions),
        "longest": max((session.longest for session in sessions), default=0.0),
    }


def percentile(values: list[float], percent: float) -> float:
    """Of any number of values, one at least."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))]


def main() -> None:
    """Until stdin ends; while nobody asks, heartbeats go on."""
    load = Load(int(sys.argv[1]))
    while True:
        while not select.select([sys.stdin], [], [], IDLE)[0]:
            load.idle()
        line = sys.stdin.readline()
        if not line:
            return
        told: dict[str, Any] = json.loads(line)
        answer: Any = load.open(told["open"], told["rate"]) if "open" in told else load.play(told["play"], told["lead"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
