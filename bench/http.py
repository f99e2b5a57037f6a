"""The HTTP door beside a bare FastAPI, while the engine paints, and with a thousand listeners.

    python -m bench.http [--rounds N] [--seconds S] [--quick]

health    GET /health of both, 64 connections in a closed loop, the servers on one core and the load client on the other, in
          turns. The bare one (bench.peers.fastapi_jobs) runs on the same uvicorn, httptools and asyncio loop.
submit    POST /v1/jobs of both, likewise. Ours answers when the job is committed to SQLite and on the disk; the bare one checks
          the same model, answers the same and forgets the job. The engine holds its jobs, so that a submit is measured, and
          nothing that comes after it; a row beside it has an engine that paints at once, so that every job is painted, signed,
          stored and ended in the same core. The server is asked how many jobs it has.
painting  GET /health fifty times a second, on schedule, while ten pictures at a time are painted by the embedded model.
listeners 1,000 server-sent event streams of ten jobs, each of which tells ten steps a second; from the moment a step is told on
          the reactor thread to the moment the listener's process has read it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.atelier_server import Server, atelier
from bench.callers import TOKEN, WrongReply
from bench.children import end_on_sigterm, free_port, running
from bench.durable import bare_sqlite
from bench.engine import reactor_lag
from bench.http_callers import PICTURE, HealthCaller
from bench.http_server import BEAT
from bench.idle_connections import raise_open_files
from bench.painting import AtelierPainter
from bench.protocol import CONNECTIONS, Contestant
from bench.report import Spread, print_figures, print_machine, print_table, ratios

AT_ONCE = 10  # pictures
ASKED_EVERY = 0.02  # seconds between two GET /health beside them
LISTENERS = 1000
JOBS = 10
SPARE_FILES = 500  # beside the connections


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server of ours, and where it speaks HTTP."""

    server: Server
    port: int


@contextmanager
def ours(engine: str = "", cores: Sequence[int] = (), **settings: object) -> Iterator[HttpServer]:
    """`atelier serve`, with one of bench.http_server's engines if one is named."""
    port = free_port()
    given = {
        "HTTP_LISTEN": f"tcp:{port}:interface=127.0.0.1",
        "LOG_LEVEL": "WARNING",
        "MAX_PENDING_JOBS": 1_000_000,
        "MAX_PENDING_JOBS_PER_OWNER": 1_000_000,
        "DRAIN_TIMEOUT": 1,
        **settings,
    }
    module, arguments = ("bench.http_server", (engine,)) if engine else ("atelier", ("serve",))
    with atelier(settings=given, cores=cores, module=module, arguments=arguments) as server:
        yield HttpServer(server, port)


def measure_against_fastapi(rounds: int, seconds: float) -> dict[str, Spread]:
    """GET and POST, round by round."""
    cores = sorted(os.sched_getaffinity(0))
    apart = len(cores) > 1
    server_cores, client_cores = (cores[:1], cores[-1:]) if apart else ((), ())
    commits = []
    with ExitStack() as stack:
        holding = stack.enter_context(ours("holding", server_cores))
        quick = stack.enter_context(ours("quick", server_cores))
        bare = stack.enter_context(running("bench.peers.fastapi_jobs", cores=server_cores))
        bare_port, bare_pid = bare.hear()["port"], bare.process.pid
        client = "bench.round_trips"
        pid = holding.server.pid
        playing = {
            "health": Contestant("Atelier, GET /health", holding.port, pid, client, "health"),
            "bare health": Contestant("FastAPI, GET /health", bare_port, bare_pid, client, "health"),
            "submit": Contestant("Atelier, POST /v1/jobs, durable", holding.port, pid, client, "submit"),
            "whole": Contestant("Atelier, POST and the whole job", quick.port, quick.server.pid, client, "submit"),
            "bare submit": Contestant("FastAPI, POST /v1/jobs, forgotten", bare_port, bare_pid, client, "submit"),
        }
        for _ in range(rounds):
            for name, contestant in playing.items():
                before = jobs_of(holding.server)
                contestant.play(seconds, client_cores)
                if name == "submit" and jobs_of(holding.server) - before < contestant.rate[-1] * seconds:
                    raise WrongReply("the server has fewer jobs than it said it had taken")
            commits.append(bare_sqlite()[0])
    print(f"{CONNECTIONS} connections, {rounds} rounds of {seconds:g} s each: median (smallest – largest)")
    print("server on one core, client on another" if apart else "NOISY: server and client share the only core")
    head = ["", "round trips/s", "server CPU, µs each", "server busy, %", "client busy, %"]
    print_table(head, [contestant.row() for contestant in playing.values()])
    print_table(["beside it", "ms"], [["a bare commit of SQLite, p50", Spread.of(commits).text(2, 1e3)]])
    rate = {name: contestant.rate for name, contestant in playing.items()}
    return {
        "health_ratio": ratios(rate["health"], rate["bare health"]),
        "submit_ratio": ratios(rate["submit"], rate["bare submit"]),
        "whole_job_ratio": ratios(rate["whole"], rate["bare submit"]),
    }


def jobs_of(server: Server) -> int:
    """How many it has under way."""
    status = server.status()
    return status.jobs_waiting + status.jobs_running


async def measure_painting(seconds: float) -> float:
    """Milliseconds of GET /health, p99, while pictures are painted."""
    with ours() as server:
        painters = [await AtelierPainter.connect(server.server.port) for _ in range(AT_ONCE)]
        begun = time.monotonic()
        asking = asyncio.create_task(ask_health(server.port, seconds))
        await reactor_lag(server.server, painters, seconds)
        took = await asking
        for painter in painters:
            painter.close()
        status = server.server.status()
    if status.jobs_succeeded < AT_ONCE or len(took) < 0.9 * seconds / ASKED_EVERY:
        raise WrongReply(f"{status.jobs_succeeded} pictures, {len(took)} answers in {time.monotonic() - begun:.0f} s")
    waits = sorted(took)
    p50, p99 = (waits[int(len(waits) * share)] for share in (0.5, 0.99))
    asked = f"GET /health every {ASKED_EVERY * 1e3:.0f} ms for {seconds:g} s"
    print(f"{asked}, {AT_ONCE} pictures at a time, {status.jobs_succeeded} painted")
    rows = [[f"{p50 * 1e3:.1f}", f"{p99 * 1e3:.1f}", f"{waits[-1] * 1e3:.1f}", f"{status.reactor_lag_p99_ms:.1f}"]]
    print_table(["p50, ms", "p99", "most", "reactor's lag, p99"], rows)
    return p99 * 1e3


async def ask_health(port: int, seconds: float) -> list[float]:
    """How long after the moment when it was due each answer came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    caller = HealthCaller(0)
    took = []
    due = time.monotonic()
    end = due + seconds
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        question, before = caller.first(), caller.answered
        writer.write(question)
        while caller.answered == before:
            caller.take(await reader.read(65_536))
        took.append(time.monotonic() - due)
        due += ASKED_EVERY
    writer.close()
    return took


def measure_listeners(listeners: int, seconds: float) -> float:
    """Milliseconds from told to read, p99."""
    raise_open_files(listeners + SPARE_FILES)
    cores = sorted(os.sched_getaffinity(0))
    apart = len(cores) > 1
    with ours("metronome", cores[:1] if apart else (), HTTP_MAX_CONNECTIONS=listeners + 10) as server:
        jobs = [submit(server.port, number) for number in range(JOBS)]
        wanted = {"port": server.port, "jobs": jobs, "listeners": listeners, "warm_up": 3.0, "seconds": seconds}
        with running("bench.sse_listeners", json.dumps(wanted), cores=cores[-1:] if apart else ()) as client:
            seen = client.hear()
    due = listeners * seconds / BEAT
    told = f"{listeners:,} listeners to {JOBS} jobs, {1 / BEAT:.0f} steps a second each, {seconds:g} s"
    print(told)
    head = ["p50, ms", "p99", "most", "heard, of those due, %", "missed steps", "client busy, %"]
    times = [f"{seen[name] * 1e3:.1f}" for name in ("p50", "p99", "most")]
    share = 100 * seen["heard"] / due
    print_table(head, [[*times, f"{share:.1f}", f"{seen['missed']:,}", f"{100 * seen['client_busy']:.0f}"]])
    if seen["fewest"] == 0:
        raise WrongReply("a listener heard nothing")
    return float(seen["p99"]) * 1e3


def submit(port: int, number: int) -> str:
    """A job's id."""
    asked = json.dumps({"prompt": f"job {number}", **PICTURE}).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    wanted = urllib.request.Request(f"http://127.0.0.1:{port}/v1/jobs", asked, headers)
    with urllib.request.urlopen(wanted, timeout=10) as answer:
        return str(json.load(answer)["id"])


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--quick", action="store_true", help="a smoke test: its figures mean nothing")
    given = parser.parse_args()
    end_on_sigterm()
    print_machine(["fastapi", "uvicorn", "httptools", "starlette", "pydantic", "sqlalchemy"])
    rounds, seconds, listeners = (1, 0.5, 100) if given.quick else (given.rounds, given.seconds, LISTENERS)
    compared = measure_against_fastapi(rounds, seconds)
    print_table(["over FastAPI", "times"], [[name, spread.text(2)] for name, spread in compared.items()])
    figures = {name: spread.median for name, spread in compared.items()}
    figures["health_painting_p99_ms"] = asyncio.run(measure_painting(3.0 if given.quick else 20.0))
    figures["sse_p99_ms"] = measure_listeners(listeners, 2.0 if given.quick else 10.0)
    print_figures(figures)


if __name__ == "__main__":
    main()
