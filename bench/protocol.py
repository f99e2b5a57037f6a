"""Round trips of Atelier's Ping beside the same message over grpc.aio and over FastAPI, and what an idle connection costs.

    python -m bench.protocol [--rounds N] [--seconds S] [--quick]

Four servers, each a process of its own, wait on one core; a load client on the other core keeps 64 connections to one of
them in a closed loop. They take turns, round by round. Processor time is the server's own (user and system), read at both ends of
a window by the client. Every answer is compared with its question (bench.callers).

Atelier is its whole TCP door, made of the factory's parts with the settings' limits and tokens, but without an engine
(bench.door says why). The others are what their documentation shows for an asynchronous server, with nothing behind them.
All loops are asyncio's. The load clients of all three are the same epoll loop over bytes prepared beforehand. grpc's own
client costs about what a grpc server does and would measure itself too; it runs as a row of its own, to show that the
prepared one is not harder on the server.

An idle connection's cost is the growth of the server's resident memory (Pss) from 100 to 5,100 authenticated connections,
divided by 5,000; the kernel's socket buffers are not in it. Each connection is asked a Ping afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from bench.callers import TOKEN
from bench.children import Child, end_on_sigterm, memory_kb, running
from bench.idle_connections import raise_open_files
from bench.report import Spread, print_figures, print_machine, print_table, ratios

CONNECTIONS = 64
IDLE = 5000
IDLE_BEFORE = 100  # the first ones pay for what is made once
SPARE_FILES = 500  # beside the connections
WARM_UP = 0.7  # seconds of load before a window


@dataclass(slots=True)
class Contestant:
    """A server that runs, how it is called, and what the rounds gave."""

    name: str
    port: int
    pid: int
    client: str
    caller: str = ""
    rate: list[float] = field(default_factory=list)  # round trips a second
    cost: list[float] = field(default_factory=list)  # the server's processor seconds a round trip
    server_busy: list[float] = field(default_factory=list)
    client_busy: list[float] = field(default_factory=list)

    def play(self, seconds: float, cores: Sequence[int]) -> None:
        """One window of load."""
        wanted = {
            "caller": self.caller,
            "port": self.port,
            "pid": self.pid,
            "connections": CONNECTIONS,
            "warm_up": WARM_UP,
            "seconds": seconds,
        }
        with running(self.client, json.dumps(wanted), cores=cores) as client:
            seen = client.hear()
        self.rate.append(seen["round_trips"] / seen["seconds"])
        self.cost.append(seen["server_cpu"] / seen["round_trips"])
        self.server_busy.append(seen["server_cpu"] / seen["seconds"])
        self.client_busy.append(seen["client_cpu"] / seen["seconds"])

    def row(self) -> list[str]:
        """Its line of the table."""
        return [
            self.name,
            Spread.of(self.rate).text(),
            Spread.of(self.cost).text(1, 1e6),
            Spread.of(self.server_busy).text(0, 100),
            Spread.of(self.client_busy).text(0, 100),
        ]


def door(cores: Sequence[int] = (), **settings: object) -> AbstractContextManager[Child]:
    """Atelier's door, with these settings beside those that it needs here."""
    given = {"TCP_LISTEN": "tcp:0:interface=127.0.0.1", "TOKENS": f"bench:{TOKEN}", **settings}
    return running("bench.door", cores=cores, environment={f"ATELIER_{name}": str(given[name]) for name in given})


@contextmanager
def contestants(cores: Sequence[int]) -> Iterator[list[Contestant]]:
    """The servers: Atelier, grpc.aio, FastAPI, and grpc.aio again for its own client."""
    with (
        door(cores) as ours,
        running("bench.peers.grpc_aio", cores=cores) as grpc_aio,
        running("bench.peers.fastapi_http", cores=cores) as fastapi,
    ):
        load = "bench.round_trips"
        grpc_port, grpc_pid = grpc_aio.hear()["port"], grpc_aio.process.pid
        yield [
            Contestant("Atelier", ours.hear()["port"], ours.process.pid, load, "atelier"),
            Contestant("grpc.aio", grpc_port, grpc_pid, load, "grpc"),
            Contestant("FastAPI on uvicorn, httptools", fastapi.hear()["port"], fastapi.process.pid, load, "http"),
            Contestant("grpc.aio, its own client", grpc_port, grpc_pid, "bench.peers.grpc_aio_client"),
        ]


def measure_round_trips(rounds: int, seconds: float) -> dict[str, float]:
    """All rounds, the table, and the ratios."""
    cores = sorted(os.sched_getaffinity(0))
    apart = len(cores) > 1
    with contestants(cores[:1] if apart else ()) as playing:
        for _ in range(rounds):
            for contestant in playing:
                contestant.play(seconds, cores[-1:] if apart else ())
    print(f"{CONNECTIONS} connections, {rounds} rounds of {seconds:g} s each: median (smallest – largest)")
    print("server on one core, client on another" if apart else "NOISY: server and client share the only core")
    head = ["", "round trips/s", "server CPU, µs each", "server busy, %", "client busy, %"]
    print_table(head, [contestant.row() for contestant in playing])
    ours, grpc_aio, fastapi, _ = playing
    figures = {
        "throughput_ratio": ratios(ours.rate, grpc_aio.rate),
        "cpu_ratio": ratios(grpc_aio.cost, ours.cost),
        "fastapi_throughput_ratio": ratios(ours.rate, fastapi.rate),
    }
    print_table(["Atelier is better by", "times"], [[name, spread.text(2)] for name, spread in figures.items()])
    return {name: spread.median for name, spread in figures.items()}


def measure_idle(connections: int) -> float:
    """Kilobytes of the server's memory that an idle connection takes."""
    raise_open_files(IDLE_BEFORE + connections + SPARE_FILES)
    limit = IDLE_BEFORE + connections + 10
    with (
        door(MAX_CONNECTIONS=limit, MAX_CONNECTIONS_PER_ADDRESS=limit) as server,
        running("bench.idle_connections", str(server.hear()["port"])) as client,
    ):
        pid = server.process.pid
        client.ask(IDLE_BEFORE)
        before = memory_kb(pid)
        client.ask(connections)
        after = memory_kb(pid)
        client.ask("check")
        checked = memory_kb(pid)
    each = {name: (after[name] - before[name]) / connections for name in after}
    rows = [
        [f"with {IDLE_BEFORE} connections", *(f"{before[name]:,}" for name in each)],
        [f"with {connections:,} more", *(f"{after[name]:,}" for name in each)],
        ["after a Ping on each", *(f"{checked[name]:,}" for name in each)],
        ["growth for each connection", *(f"{each[name]:.2f}" for name in each)],
    ]
    print_table(["server's memory, kB", *each], rows)
    return each["Pss"]


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--quick", action="store_true", help="a smoke test: its figures mean nothing")
    given = parser.parse_args()
    end_on_sigterm()
    print_machine(["twisted", "grpcio", "fastapi", "uvicorn", "httptools", "protobuf"])
    rounds, seconds, idle = (1, 0.5, 500) if given.quick else (given.rounds, given.seconds, IDLE)
    figures = measure_round_trips(rounds, seconds)
    figures["idle_connection_kb"] = measure_idle(idle)
    print_figures(figures)


if __name__ == "__main__":
    main()
