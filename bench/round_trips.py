"""The load client: a process that keeps many connections in a closed loop, and tells what it saw as a line of JSON.

    python -m bench.round_trips '{"caller": "atelier", "port": 9000, "pid": 4711, "connections": 64, "warm_up": 1, "seconds": 3}'

`pid` is the server's: its processor time is read at both ends of the measured window.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.callers import CALLERS, Caller, WrongReply
from bench.children import cpu_seconds
from bench.http_callers import HTTP_CALLERS

KINDS: Mapping[str, Callable[[int], Caller]] = {**CALLERS, **HTTP_CALLERS}
ROUND_TRIP_LIMIT = 10.0  # seconds of silence after which the run has failed


class Load:
    """Open connections, each with one question under way."""

    def __init__(self, caller: str, port: int, connections: int) -> None:
        self._poll = select.epoll()
        self._connections: dict[int, tuple[socket.socket, Caller]] = {}
        for number in range(connections):
            self._connect(KINDS[caller](number), port)

    def _connect(self, caller: Caller, port: int) -> None:
        connection = socket.create_connection(("127.0.0.1", port), ROUND_TRIP_LIMIT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller.open(connection)
        connection.sendall(caller.first())
        connection.setblocking(False)
        self._connections[connection.fileno()] = (connection, caller)
        self._poll.register(connection, select.EPOLLIN)

    @property
    def answered(self) -> int:
        """Answers so far, all of them right."""
        return sum(caller.answered for _, caller in self._connections.values())

    def run(self, seconds: float) -> float:
        """Keep going for so long; gives how long it was."""
        began = now = time.perf_counter()
        end = began + seconds
        connections, poll = self._connections, self._poll.poll
        while now < end:
            ready = poll(ROUND_TRIP_LIMIT)
            if not ready:
                raise WrongReply(f"no answer for {ROUND_TRIP_LIMIT} s")
            for descriptor, _ in ready:
                connection, caller = connections[descriptor]
                data = connection.recv(65_536)
                if not data:
                    raise WrongReply("the server closed a connection")
                question = caller.take(data)
                if question:
                    connection.send(question)  # the answer to the last one is here, so there is room
            now = time.perf_counter()
        return now - began

    def close(self) -> None:
        """Check the last answers, and hang up."""
        for connection, caller in self._connections.values():
            caller.check_last()
            connection.close()
        self._poll.close()


def measure(wanted: dict[str, Any]) -> dict[str, float]:
    """Warm up, then measure one window."""
    load = Load(wanted["caller"], wanted["port"], wanted["connections"])
    load.run(wanted["warm_up"])
    answered, server, client = load.answered, cpu_seconds(wanted["pid"]), time.process_time()
    seconds = load.run(wanted["seconds"])
    seen = {
        "round_trips": load.answered - answered,
        "seconds": seconds,
        "server_cpu": cpu_seconds(wanted["pid"]) - server,
        "client_cpu": time.process_time() - client,
    }
    load.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))), flush=True)
