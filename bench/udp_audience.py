"""An audience of one live session: many UDP clients, each with a key and a socket of its own, who count what they miss.

    python -m bench.udp_audience PORT

Told {"watch": live_id, "clients": N} on stdin, lets N clients subscribe and answers with N; told {"hear": SECONDS}, it listens
for so long and answers with what all of them heard and lost, by the gaps of the topic's sequence. One thread, by epoll.
"""

from __future__ import annotations

import json
import select
import sys
import time
from dataclasses import dataclass
from typing import Any

from bench.datagrams import UdpClient
from bench.idle_connections import raise_open_files
from bench.live_load import percentile
from bench.talking import Talker
from proto import atelier_udp_pb2 as udp
from server.wire.datagrams import HEADER

SAMPLED = 16  # one datagram of so many has its latency taken: it costs as much as all the rest
SPARE_FILES = 100
UNDER_WAY = 2  # datagrams


@dataclass(slots=True)
class Listener:
    """One client: its sequence, and what it heard and lost in the window."""

    client: UdpClient
    sequence: int = 0
    heard: int = 0
    lost: int = 0


class Audience:
    """All clients of this process."""

    def __init__(self, port: int) -> None:
        self._talker = Talker(port)
        self._poll = select.epoll()
        self._listeners: dict[int, Listener] = {}
        self._by_heartbeat: list[Listener] = []  # in turns
        self._turn = 0

    def watch(self, live_id: str, clients: int) -> int:
        """So many more; how many there are. Those who are there go on listening meanwhile."""
        raise_open_files(clients + SPARE_FILES)
        for _ in range(clients):
            listener = Listener(UdpClient(self._talker))
            listener.client.subscribe(live_id)
            listener.client.socket.setblocking(False)
            self._poll.register(listener.client.socket, select.EPOLLIN)
            self._listeners[listener.client.socket.fileno()] = listener
            self._by_heartbeat.append(listener)
            self._turn_over(0.0, None)
        return len(self._listeners)

    def hear(self, seconds: float) -> dict[str, float]:
        """A window: it begins when all have heard what came before."""
        self._turn_over(0.05, None)
        for listener in self._listeners.values():
            listener.heard = listener.lost = 0
        latencies: list[float] = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._turn_over(min(left, 0.05), latencies)
        listeners = self._listeners.values()
        newest = max(listener.sequence for listener in listeners)
        for listener in listeners:
            behind = newest - listener.sequence
            listener.lost += behind if behind > UNDER_WAY else 0  # what it has not heard at the end, it has lost, too
        return {
            "heard": sum(one.heard for one in listeners),
            "lost": sum(one.lost for one in listeners),
            "deaf": sum(not one.heard for one in listeners),
            "p99": percentile(latencies, 99) if latencies else 0.0,
        }

    def idle(self) -> None:
        """Read what comes, and stay there."""
        self._turn_over(0.05, None)

    def _turn_over(self, seconds: float, latencies: list[float] | None) -> None:
        for descriptor, _ in self._poll.poll(seconds):
            self._read(self._listeners[descriptor], latencies)
        now = time.monotonic()
        for _ in range(len(self._by_heartbeat)):
            listener = self._by_heartbeat[self._turn % len(self._by_heartbeat)]
            if listener.client.next_heartbeat > now:
                return
            listener.client.heartbeat()
            self._turn += 1

    def _read(self, listener: Listener, latencies: list[float] | None) -> None:
        while True:
            try:
                data = listener.client.socket.recv(2048)
            except BlockingIOError:
                return
            said = udp.ServerDatagram.FromString(data[HEADER:])
            if said.WhichOneof("message") != "live_result":
                continue
            result = said.live_result
            if listener.sequence:
                listener.lost += max(0, result.sequence - listener.sequence - 1)
            listener.sequence = max(listener.sequence, result.sequence)
            listener.heard += 1
            if latencies is not None and not listener.heard % SAMPLED:
                latencies.append((time.time() - result.captured_us / 1e6) * 1e3)


def main() -> None:
    """Until stdin ends; while nobody asks, everything is still read."""
    audience = Audience(int(sys.argv[1]))
    while True:
        while not select.select([sys.stdin], [], [], 0)[0]:
            audience.idle()
        line = sys.stdin.readline()
        if not line:
            return
        told: dict[str, Any] = json.loads(line)
        answer: Any = audience.watch(told["watch"], told["clients"]) if "watch" in told else audience.hear(told["hear"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
