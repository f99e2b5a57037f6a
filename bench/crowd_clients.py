"""A crowd on one server: connections that say nothing, connections that follow jobs, and some of these that read slowly.

    python -m bench.crowd_clients PORT

Told {"idle", "good", "slow", "jobs"} on stdin, opens so many more and answers with how many there are; told "report", with
what they have read so far. All in one thread, by epoll; a slow one reads SIP bytes each SLOW_EVERY seconds, of SLOW_JOBS jobs.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from bench.callers import AtelierCaller, WrongReply, frame
from bench.idle_connections import raise_open_files
from proto import atelier_pb2 as pb

SLOW_EVERY = 2.0  # seconds
SIP = 512  # bytes: some eight messages of the hundred that came meanwhile
SLOW_JOBS = 5  # that a slow reader follows, so that what it does not read is much
SMALL_BUFFER = 4096  # bytes of the kernel's, on a slow reader's side
SPARE_FILES = 100
PIECE = 1 << 16


@dataclass(slots=True)
class Counts:
    """What was read, bytes."""

    good: int = 0
    slow: int = 0
    lost: int = 0  # connections that the server closed


class Crowd:
    """All connections of this process."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._poll = select.epoll()
        self._good: dict[int, socket.socket] = {}
        self._slow: list[socket.socket] = []
        self._idle: list[socket.socket] = []
        self._sip_at = time.monotonic() + SLOW_EVERY
        self.counts = Counts()

    def grow(self, idle: int, good: int, slow: int, jobs: list[str]) -> int:
        """Open so many more; how many there are."""
        for number in range(idle):
            self._idle.append(self._opened(number))
            self.work(0)
        for number in range(good):
            connection = self._opened(number)
            _follow(connection, [jobs[number % len(jobs)]])
            connection.setblocking(False)
            self._good[connection.fileno()] = connection
            self._poll.register(connection.fileno(), select.EPOLLIN)
            self.work(0)
        for number in range(slow):
            connection = self._opened(number, SMALL_BUFFER)
            _follow(connection, [jobs[(number + more) % len(jobs)] for more in range(SLOW_JOBS)])
            connection.setblocking(False)
            self._slow.append(connection)
            self.work(0)
        return len(self._idle) + len(self._good) + len(self._slow)

    def work(self, seconds: float) -> None:
        """Read what has come, for so long at most."""
        for descriptor, _ in self._poll.poll(seconds):
            if descriptor == sys.stdin.fileno():
                continue
            self.counts.good += self._read(self._good[descriptor], PIECE)
        now = time.monotonic()
        if now >= self._sip_at:
            self._sip_at = now + SLOW_EVERY
            self.counts.slow += sum(self._read(connection, SIP) for connection in self._slow)

    def serve(self) -> None:
        """Until stdin ends."""
        os.set_blocking(sys.stdin.fileno(), True)
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        while True:
            self.work(0.05)
            if select.select([sys.stdin], [], [], 0)[0]:
                line = sys.stdin.readline()
                if not line:
                    return
                _answer(self._told(json.loads(line)))

    def _told(self, wanted: Any) -> Any:
        if wanted == "report":
            return {"good": self.counts.good, "slow": self.counts.slow, "lost": self.counts.lost}
        return self.grow(**wanted)

    def _opened(self, number: int, buffer: int = 0) -> socket.socket:
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(20.0)
        connection.connect(("127.0.0.1", self._port))
        AtelierCaller(number).open(connection)
        return connection

    def _read(self, connection: socket.socket, most: int) -> int:
        try:
            data = connection.recv(most)
        except BlockingIOError:
            return 0
        if not data:
            self.counts.lost += 1
            raise WrongReply("the server closed a connection")
        return len(data)


def _follow(connection: socket.socket, jobs: list[str]) -> None:
    for request_id, job in enumerate(jobs, 2):
        watch = pb.Watch(job_id=job, progress=True)
        connection.sendall(frame(pb.Envelope(request_id=request_id, watch=watch)))


def _answer(told: Any) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    raise_open_files(12_000)
    Crowd(int(sys.argv[1])).serve()
