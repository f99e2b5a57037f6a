"""Two hundred live sessions at thirty frames a second on the embedded stream model, and a thousand UDP subscribers of one stream.

    python -m bench.realtime [--rounds N] [--seconds N] [--sessions N] [--subscribers N] [--lead MS] [--quick]

The server is `atelier serve` with its usual settings, tokens, records and doors. Frames go in by TCP, results come out by UDP
(bench.live_load, a process of its own on the same machine, which takes its share of the cores). Latencies count from the moment
at which a frame was due, to its datagram, read. In each round, one after the other:

    aligned      all sessions capture `lead` before the server's tick, which LiveOpened and results tell
    unaligned    each session captures at a moment of its own: a frame waits half a tick in the mean, and up to a whole one
    beside       aligned, while a picture of the demo model is painted, one after the other, by the same server
    timer        a bare timer loop in a process of its own: how late this machine wakes it, alone and during `aligned`

    tick_p99_ms     aligned, from captured to read: the aim is 33, a tick's time
    tick_alone_ms   the part of it from the beginning of the tick
    starved         sessions without a result for more than a second, in any window; the aim is 0
    udp_loss        of a thousand subscribers of one session (bench.udp_audience), by the gaps of the sequence; the aim is 0.001
    beside_ratio    p99 beside painting over p99 without, round by round; the aim is 2
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench.atelier_server import Server, atelier
from bench.children import Child, end_on_sigterm, running
from bench.report import Spread, print_figures, print_machine, print_table, ratios
from bench.talking import Talker
from proto import atelier_pb2 as pb

RATE = 30.0  # frames a second, and ticks
AIM_MS, AIM_LOSS, AIM_BESIDE = 33.0, 0.001, 2.0
LEADS = (6.0, 9.0, 12.0, 16.0, 20.0)  # milliseconds that are tried, where none is given
TRIAL = 2.0  # seconds for each
SIZE, STEPS = 128, 20  # of the pictures painted beside
WARM = 1.0  # seconds of frames before anything is measured
ENDS = frozenset({"result", "failed", "canceled"})


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float  # of each window
    sessions: int
    subscribers: int
    lead: float  # milliseconds; 0: the best of LEADS


@dataclass(slots=True)
class Rounds:
    """What the windows gave, a value a round; milliseconds."""

    aligned: list[dict[str, float]] = field(default_factory=list)
    unaligned: list[dict[str, float]] = field(default_factory=list)
    beside: list[dict[str, float]] = field(default_factory=list)
    timer: list[float] = field(default_factory=list)
    timer_beside: list[float] = field(default_factory=list)
    pictures: list[float] = field(default_factory=list)  # a second
    audience: list[dict[str, float]] = field(default_factory=list)

    @property
    def windows(self) -> list[dict[str, float]]:
        """All with sessions."""
        return [*self.aligned, *self.unaligned, *self.beside]


class Painting:
    """Pictures on a connection of its own, one after the other, until it is told to stop."""

    def __init__(self, port: int) -> None:
        self._talker = Talker(port)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._paint, name="painting")
        self.painted = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """After the picture that is under way."""
        self._over.set()
        self._thread.join()
        self._talker.close()

    def _paint(self) -> None:
        while not self._over.is_set():
            submit = pb.Submit(prompt="a small red star", width=SIZE, height=SIZE, num_inference_steps=STEPS)
            self._talker.ask(submit=submit)
            while (kind := self._talker.next().WhichOneof("message")) not in ENDS:
                pass
            self.painted += kind == "result"


@contextmanager
def painting(port: int) -> Iterator[Painting]:
    """Pictures are painted meanwhile."""
    work = Painting(port)
    work.start()
    try:
        yield work
    finally:
        work.stop()


def measure(plan: Plan) -> dict[str, float]:
    """All rounds, and the audience."""
    most = plan.sessions + 10
    settings = {"MAX_LIVE_SESSIONS_PER_OWNER": most, "MAX_LIVE_SESSIONS": most, "UDP_PORT": 0}
    seen = Rounds()
    with atelier(settings=settings) as server:
        with running("bench.timer_loop") as timer:
            lead = _sessions(server, timer, plan, seen)
        _audience(server, plan, seen)
    _report(plan, lead, seen)
    return _figures(plan, seen)


def _sessions(server: Server, timer: Child, plan: Plan, seen: Rounds) -> float:
    """The windows with sessions; the lead that was taken, milliseconds."""
    seen.timer += [timer.ask(plan.seconds) for _ in range(plan.rounds)]
    with running("bench.live_load", str(server.port)) as load:
        load.ask({"open": plan.sessions, "rate": RATE})
        load.ask({"play": WARM, "lead": None})
        lead = plan.lead or min(LEADS, key=lambda one: _window(load, TRIAL, one)["p99"])
        for _ in range(plan.rounds):
            timer.tell(plan.seconds)
            seen.aligned.append(_window(load, plan.seconds, lead))
            seen.timer_beside.append(timer.hear())
            seen.unaligned.append(_window(load, plan.seconds, None))
            with painting(server.port) as work:
                seen.beside.append(_window(load, plan.seconds, lead))
                seen.pictures.append(work.painted / plan.seconds)
    return lead


def _window(load: Child, seconds: float, lead: float | None) -> dict[str, float]:
    told: dict[str, float] = load.ask({"play": seconds, "lead": None if lead is None else lead / 1e3})
    return told


def _audience(server: Server, plan: Plan, seen: Rounds) -> None:
    """One session that is fed at its rate, and everybody listens to it."""
    with ExitStack() as stack:
        load = stack.enter_context(running("bench.live_load", str(server.port)))
        audience = stack.enter_context(running("bench.udp_audience", str(server.port)))
        (live_id,) = load.ask({"open": 1, "rate": RATE})
        audience.ask({"watch": live_id, "clients": plan.subscribers})
        for _ in range(plan.rounds):
            load.tell({"play": plan.seconds + 2 * WARM, "lead": None})
            audience.tell({"hear": plan.seconds})
            seen.audience.append(audience.hear())
            load.hear()


def _report(plan: Plan, lead: float, seen: Rounds) -> None:
    first = seen.aligned[0]
    print(
        f"{plan.sessions} sessions, {RATE:g} frames a second each; {plan.rounds} rounds of {plan.seconds:g} s; "
        f"aligned: {lead:g} ms before the tick; {first['sent']:,.0f} frames a window\n"
    )
    rows = []
    for name, windows in (("aligned", seen.aligned), ("unaligned", seen.unaligned), ("beside painting", seen.beside)):
        columns = [
            Spread.of(one[key] for one in windows).text(1) for key in ("p50", "p99", "most", "tick_p99", "late_p99")
        ]
        totals = [f"{sum(one[key] for one in windows):,.0f}" for key in ("dropped", "lost", "starved")]
        rows.append([name, *columns, *totals])
    head = [
        "captured to read, ms",
        "p50",
        "p99",
        "most",
        "from the tick, p99",
        "load late, p99",
        "dropped",
        "lost",
        "starved",
    ]
    print_table(head, rows)
    print(
        f"a bare timer loop is late by {Spread.of(seen.timer).text(2)} ms (p99) alone, "
        f"{Spread.of(seen.timer_beside).text(2)} beside the sessions; "
        f"{Spread.of(seen.pictures).text(2)} pictures a second were painted beside"
    )
    heard, lost = (sum(one[key] for one in seen.audience) for key in ("heard", "lost"))
    p99 = Spread.of(one["p99"] for one in seen.audience)
    print(
        f"{plan.subscribers:,} UDP subscribers of one session: {heard:,.0f} datagrams heard, {lost:,.0f} lost, "
        f"{sum(one['deaf'] for one in seen.audience):.0f} heard nothing; captured to read, p99: {p99.text(1)} ms\n"
    )


def _figures(plan: Plan, seen: Rounds) -> dict[str, float]:
    aligned, unaligned = ([one["p99"] for one in windows] for windows in (seen.aligned, seen.unaligned))
    beside = ratios((one["p99"] for one in seen.beside), aligned)
    heard, lost = (sum(one[key] for one in seen.audience) for key in ("heard", "lost"))
    loss = lost / (heard + lost) if heard + lost else 1.0
    starved = sum(one["starved"] for one in seen.windows)
    p99 = Spread.of(aligned).median
    for name, value, aim in (
        ("p99 from captured to read, aligned, ms", p99, AIM_MS),
        ("sessions starved", starved, 0),
        ("datagrams lost, share", loss, AIM_LOSS),
        ("p99 beside painting over without", beside.median, AIM_BESIDE),
    ):
        print(f"{name}: {value:.4g}; the aim is {aim:g}: {'held' if value <= aim else 'missed'}")
    print()
    return {
        "tick_p99_ms": p99,
        "sessions": plan.sessions,
        "udp_loss": loss,
        "unaligned_p99_ms": Spread.of(unaligned).median,
        "tick_alone_ms": Spread.of(one["tick_p99"] for one in seen.aligned).median,
        "timer_p99_ms": Spread.of(seen.timer).median,
        "timer_beside_p99_ms": Spread.of(seen.timer_beside).median,
        "starved": starved,
        "dropped_share": sum(one["dropped"] for one in seen.windows) / sum(one["sent"] for one in seen.windows),
        "session_loss": sum(one["lost"] for one in seen.windows) / max(1, sum(one["heard"] for one in seen.windows)),
        "beside_ratio": beside.median,
        "pictures_beside": Spread.of(seen.pictures).median,
        "subscribers": plan.subscribers,
    }


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each window")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--lead", type=float, default=0.0, help="milliseconds before the tick; 0: the best of several")
    parser.add_argument("--quick", action="store_true", help="one round of three seconds")
    given = parser.parse_args()
    end_on_sigterm()
    print_machine(["torch", "twisted", "protobuf"])
    rounds, seconds = (1, 3.0) if given.quick else (given.rounds, given.seconds)
    print_figures(measure(Plan(rounds, seconds, given.sessions, given.subscribers, given.lead)))


if __name__ == "__main__":
    main()
