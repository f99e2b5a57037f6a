"""Two worker processes beside one, on the demo model: pictures a second of `atelier serve --processes 2` over `--processes 1`.

    python -m bench.workers [--rounds N] [--seconds N] [--clients N] [--processes N]

Clients in a closed loop, each on a connection of its own, ask for one picture after the other (128 × 128, 20 steps, guidance 4,
no adapter). Both servers are there all the time and take turns, one window after the other, so that a disturbance of this machine
hits both; the one that waits has nothing to do. One process takes as many CPU threads as it finds good; each of several takes its
share of the cores.

    workers_ratio    pictures a second of the several over those of the one, round by round
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from contextlib import ExitStack

from bench.atelier_server import atelier
from bench.children import end_on_sigterm
from bench.report import Spread, print_figures, print_machine, print_table, ratios
from bench.talking import Talker
from proto import atelier_pb2 as pb

SIZE, STEPS, GUIDANCE = 128, 20, 4.0
ENDS = frozenset({"result", "failed", "canceled"})
WARM = 10.0  # seconds in which both find their threads and parts


class Client:
    """Asks for one picture after the other, until it is stopped."""

    def __init__(self, port: int, number: int) -> None:
        self._talker = Talker(port)
        self._seed = number * 1_000_000
        self._over = False
        self._thread = threading.Thread(target=self._ask, name=f"client-{number}")
        self.ends: list[float] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """After the picture that is under way."""
        self._over = True

    def join(self) -> None:
        """Until that is there."""
        self._thread.join()
        self._talker.close()

    def _ask(self) -> None:
        while not self._over:
            self._seed += 1
            submit = pb.Submit(
                prompt="a big red star on a blue background", seed=self._seed, width=SIZE, height=SIZE,
                num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            )  # fmt: skip
            self._talker.ask(submit=submit)
            while (kind := self._talker.next().WhichOneof("message")) not in ENDS:
                pass
            if kind != "result":
                raise RuntimeError(f"a picture came out as {kind}")
            self.ends.append(time.monotonic())


def window(port: int, clients: int, seconds: float) -> float:
    """Pictures a second; what is under way at the end counts by its share of the time."""
    crowd = [Client(port, number) for number in range(clients)]
    began = time.monotonic()
    for client in crowd:
        client.start()
    time.sleep(seconds)
    for client in crowd:
        client.stop()
    for client in crowd:
        client.join()
    return sum(len(client.ends) for client in crowd) / (time.monotonic() - began)


def measure(rounds: int, seconds: float, clients: int, processes: int, warm: float = WARM) -> dict[str, float]:
    """Both, in turns."""
    rates: dict[int, list[float]] = {1: [], processes: []}
    with ExitStack() as stack:
        ports = {
            count: stack.enter_context(atelier(arguments=("serve", "--processes", str(count)))).port for count in rates
        }
        for port in ports.values():
            window(port, clients, warm)
        for number in range(rounds):
            for count in sorted(rates, reverse=bool(number % 2)):
                rates[count].append(window(ports[count], clients, seconds))
    ratio = ratios(rates[processes], rates[1])
    print(f"{clients} clients in a closed loop; {rounds} rounds of {seconds:g} s each")
    print_table(["processes", "pictures a second"], [[str(count), Spread.of(rates[count]).text(3)] for count in rates])
    print(f"{processes} processes over one: {ratio.text(2)}, on {len(os.sched_getaffinity(0))} cores\n")
    return {
        "workers_ratio": ratio.median, "workers": processes, "pictures_one": Spread.of(rates[1]).median,
        "pictures_several": Spread.of(rates[processes]).median,
    }  # fmt: skip


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each window")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    end_on_sigterm()
    print_machine(["torch", "diffusers", "twisted"])
    print_figures(measure(given.rounds, given.seconds, given.clients, given.processes))


if __name__ == "__main__":
    main()
