"""A process of many listeners to server-sent events, which tells how late each event came.

    python -m bench.sse_listeners '{"port": 8001, "jobs": ["…"], "listeners": 1000, "warm_up": 2, "seconds": 10}'

The events are bench.http_server's, of the metronome: each says when it was told. Steps that a listener missed are counted.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from typing import Any

from bench.callers import WrongReply
from bench.http_callers import request
from bench.http_server import TURN

SILENCE = 10.0  # seconds after which the run has failed
_PROGRESS = re.compile(rb'"step":(\d+),"total_steps":\d+,"fraction":[\d.e-]+,"eta_seconds":([\d.]+)')
_PIECE = 1 << 16  # bytes read at once


class Ear:
    """One listener."""

    def __init__(self, port: int, job_id: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SILENCE)
        self.socket.sendall(request("GET", f"/v1/jobs/{job_id}/events"))
        self.socket.setblocking(False)
        self.late: list[float] = []
        self.missed = 0
        self._held = b""
        self._step = 0

    def hear(self, data: bytes, measured: bool) -> None:
        """Take what came. Events end with an empty line."""
        now = time.monotonic() % TURN
        held = self._held + data
        end = held.rfind(b"\n\n") + 2
        if end == 1:
            self._held = held
            return
        self._held = held[end:]
        for step, told in _PROGRESS.findall(held, 0, end):
            if measured:
                late = (now - float(told)) % TURN
                self.late.append(late if late < TURN / 2 else 0.0)  # a told time may be rounded up
                self.missed += int(step) - self._step - 1 if self._step else 0
            self._step = int(step)


def listen(wanted: dict[str, Any]) -> dict[str, Any]:
    """Open them all, wait until they hear, then measure one window."""
    jobs = wanted["jobs"]
    ears = [Ear(wanted["port"], jobs[number % len(jobs)]) for number in range(wanted["listeners"])]
    poll = select.epoll()
    by_descriptor = {ear.socket.fileno(): ear for ear in ears}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    hear_all(poll, by_descriptor, wanted["warm_up"], measured=False)
    busy = time.process_time()
    hear_all(poll, by_descriptor, wanted["seconds"], measured=True)
    busy = time.process_time() - busy
    late = sorted(value for ear in ears for value in ear.late)
    return {
        "heard": len(late),
        "fewest": min(len(ear.late) for ear in ears),
        "missed": sum(ear.missed for ear in ears),
        "p50": late[len(late) // 2],
        "p99": late[int(len(late) * 0.99)],
        "most": late[-1],
        "client_busy": busy / wanted["seconds"],
    }


def hear_all(poll: select.epoll, ears: dict[int, Ear], seconds: float, *, measured: bool) -> None:
    """Listen for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ready = poll.poll(SILENCE)
        if not ready:
            raise WrongReply(f"nothing was heard for {SILENCE:g} s")
        for descriptor, _ in ready:
            ear = ears[descriptor]
            data = ear.socket.recv(_PIECE)
            if not data:
                raise WrongReply("the server closed a stream")
            ear.hear(data, measured)


if __name__ == "__main__":
    print(json.dumps(listen(json.loads(sys.argv[1]))), flush=True)
