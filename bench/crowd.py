"""Ten thousand connections on one server, five hundred of them at work, a third of these slow readers: memory, and a good client.

    python -m bench.crowd [--connections N] [--active N] [--seconds N]

The server is `atelier serve` with real settings, tokens and records, and an engine that tells a step of every job ten times a
second, with the time at which it told it (bench.http_server). A good client, alone in its process, follows one job: first with
nobody else there, then among the crowd (bench.crowd_clients, a process of its own).

    gap_p99      between two messages of progress, ms, as somebody sees it who looks at a bar; ten a second are told
    late_p99     from told to read, ms
    memory       resident, of the server, MB: alone, with the crowd at its beginning and at its end
"""

from __future__ import annotations

import argparse
import itertools
import socket
import struct
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass

from bench.atelier_server import Server, atelier
from bench.callers import TOKEN, WrongReply, frame, receive
from bench.children import end_on_sigterm, memory_kb, running
from bench.http_server import TURN
from bench.idle_connections import raise_open_files
from bench.report import print_figures, print_machine, print_table
from proto import atelier_pb2 as pb

JOBS = 100  # that tell their steps
WITHIN = 2.0  # times its value alone: the aim for the good client's p99
SETTLING = 20.0  # seconds until what slow readers do not read has filled what is between us
SPARE = 500  # connections more than the crowd's


@dataclass(frozen=True, slots=True)
class Seen:
    """A good client's window: milliseconds, sorted."""

    gaps: list[float]
    late: list[float]

    def figures(self) -> tuple[float, float, float, float]:
        """p50 and p99 of gaps, then of lateness."""
        return (
            _percentile(self.gaps, 0.5),
            _percentile(self.gaps, 0.99),
            _percentile(self.late, 0.5),
            _percentile(self.late, 0.99),
        )


def _percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


class GoodClient:
    """Follows one job and reads at once."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), 20.0)
        self._numbers = itertools.count(2)
        hello = pb.Hello(protocol_version=1, token=TOKEN, client_name="bench")
        self._say(pb.Envelope(request_id=1, hello=hello))
        self._hear("welcome")

    def job(self, *, progress: bool) -> str:
        """A new one's id; told to this connection if `progress`."""
        submit = pb.Submit(prompt="a red star", width=64, height=64, progress=progress)
        self._say(pb.Envelope(request_id=next(self._numbers), submit=submit))
        return self._hear("accepted").accepted.job_id

    def watched(self, seconds: float) -> Seen:
        """So long of progress."""
        gaps: list[float] = []
        late: list[float] = []
        end, before = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < end:
            told = self._hear("progress").progress.eta_seconds
            now = time.monotonic()
            since = (now % TURN - told) % TURN
            late.append((since if since < TURN / 2 else 0.0) * 1e3)
            if before:
                gaps.append((now - before) * 1e3)
            before = now
        return Seen(sorted(gaps), sorted(late))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def drain(self) -> None:
        """Read what has come meanwhile, so that the window begins now."""
        try:
            while True:
                self._connection.settimeout(0.02)
                self._next()
        except TimeoutError:
            self._connection.settimeout(20.0)

    def _say(self, envelope: pb.Envelope) -> None:
        self._connection.sendall(frame(envelope))

    def _hear(self, kind: str) -> pb.Envelope:
        """The next of a kind; progress of other kinds is passed over."""
        while (answer := self._next()).WhichOneof("message") != kind:
            if answer.WhichOneof("message") in ("error", "failed", "goodbye"):
                raise WrongReply(str(answer))
        return answer

    def _next(self) -> pb.Envelope:
        first = self._connection.recv(4)
        if not first:
            raise WrongReply("the server closed the connection")
        self._connection.settimeout(20.0)
        size: int = struct.unpack(">I", first + receive(self._connection, 4 - len(first)))[0]
        return pb.Envelope.FromString(receive(self._connection, size))


def memory(server: Server) -> float:
    """Resident, MB."""
    return memory_kb(server.pid)["Rss"] / 1e3


def measure(connections: int, active: int, seconds: float, settling: float = SETTLING) -> dict[str, float]:
    """Alone, then in the crowd."""
    raise_open_files(connections + SPARE)
    settings = {
        "MAX_CONNECTIONS": connections + SPARE, "MAX_CONNECTIONS_PER_ADDRESS": connections + SPARE,
        "MAX_PENDING_JOBS_PER_OWNER": 500,
    }  # fmt: skip
    slow = active // 3
    with (
        atelier(settings=settings, module="bench.http_server", arguments=("metronome",)) as server,
        ExitStack() as stack,
    ):
        good = stack.enter_context(closing(GoodClient(server.port)))
        good.job(progress=True)
        good.watched(2.0)
        alone = good.watched(seconds)
        memory_alone = memory(server)
        other = stack.enter_context(closing(GoodClient(server.port)))
        jobs = [other.job(progress=False) for _ in range(JOBS)]
        with running("bench.crowd_clients", str(server.port)) as crowd:
            held = crowd.ask({"idle": connections - active, "good": active - slow, "slow": slow, "jobs": jobs})
            time.sleep(settling)
            memory_begin = memory(server)
            before = crowd.ask("report")
            good.drain()
            crowded = good.watched(seconds)
            after = crowd.ask("report")
            memory_end = memory(server)
            status = server.status()
    print(
        f"{held:,} connections held, {active} of them at work, {slow} of these slow; {JOBS} jobs, ten steps a second each"
    )
    _report(alone, crowded)
    read = {kind: (after[kind] - before[kind]) / seconds / 1e3 for kind in ("good", "slow")}
    print(
        f"read: {read['good']:,.0f} kB a second by all who read well, {read['slow']:,.1f} by the slow; {after['lost']} lost"
    )
    print(
        f"memory: {memory_alone:.0f} MB alone, {memory_begin:.0f} with the crowd, {memory_end:.0f} after {seconds:g} s of it"
    )
    print(f"the reactor's lag, p99: {status.reactor_lag_p99_ms:.1f} ms\n")
    gap, late = (crowded.figures()[nth] / alone.figures()[nth] for nth in (1, 3))
    verdict = "held" if gap <= WITHIN else "missed"
    print(f"a good client's p99 between two messages is {gap:.2f} times that alone; the aim is {WITHIN:g}: {verdict}\n")
    return {
        "connections": held, "memory_mb": memory_end, "memory_grew_mb": memory_end - memory_begin,
        "kb_a_connection": (memory_begin - memory_alone) * 1e3 / held, "gap_p99_ms": crowded.figures()[1],
        "gap_p99_over_alone": gap, "late_p99_ms": crowded.figures()[3], "late_p99_over_alone": late,
    }  # fmt: skip


def _report(alone: Seen, crowded: Seen) -> None:
    rows = [
        [name, *(f"{value:.1f}" for value in seen.figures()), str(len(seen.late))]
        for name, seen in (("alone", alone), ("in the crowd", crowded))
    ]
    print_table(["a good client, ms", "between two, p50", "p99", "from told to read, p50", "p99", "heard"], rows)


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--active", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each window")
    given = parser.parse_args()
    end_on_sigterm()
    print_machine(["twisted", "protobuf"])
    print_figures(measure(given.connections, given.active, given.seconds))


if __name__ == "__main__":
    main()
