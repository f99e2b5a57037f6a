"""One connection of the load client over HTTP/1.1 with keep-alive: GET /health, and POST /v1/jobs. Every answer is checked."""

from __future__ import annotations

import json
import socket

from bench.callers import RING, TOKEN, WrongReply

PICTURE = {"width": 64, "height": 64, "num_inference_steps": 2}  # the least that is painted


class HealthCaller:
    """GET /health."""

    def __init__(self, connection: int) -> None:
        self.answered = 0
        self._held = b""
        self._last = b""
        self._question = request("GET", "/health")

    def open(self, connection: socket.socket) -> None:
        """HTTP has no greeting."""

    def first(self) -> bytes:
        """The first question."""
        return self._question

    def take(self, data: bytes) -> bytes:
        """The next question."""
        self._held += data
        body = whole_body(self._held, b"200")
        if body is None:
            return b""
        self._last, self._held = body, b""
        self.answered += 1
        return self._question

    def check_last(self) -> None:
        """Parse it."""
        if json.loads(self._last)["status"] != "healthy":
            raise WrongReply(repr(self._last))


class SubmitCaller:
    """POST /v1/jobs. No two questions are equal, and no two answers may name one job."""

    def __init__(self, connection: int) -> None:
        self.answered = 0
        self._held = b""
        self._last = b""
        self._jobs: set[bytes] = set()
        self._ring = [
            request("POST", "/v1/jobs", {"prompt": f"a red circle, {connection} {turn}", "seed": turn, **PICTURE})
            for turn in range(RING)
        ]

    def open(self, connection: socket.socket) -> None:
        """HTTP has no greeting."""

    def first(self) -> bytes:
        """The first job."""
        return self._ring[0]

    def take(self, data: bytes) -> bytes:
        """The next job."""
        self._held += data
        body = whole_body(self._held, b"202")
        if body is None:
            return b""
        self._jobs.add(body[:64])  # it begins with the id
        self._last, self._held = body, b""
        self.answered += 1
        return self._ring[self.answered % RING]

    def check_last(self) -> None:
        """Parse it, and see that every answer was of a job of its own."""
        seed = (self.answered - 1) % RING
        told = json.loads(self._last)
        if told["seed"] != seed or len(self._jobs) != self.answered:
            raise WrongReply(repr(self._last))


HTTP_CALLERS: dict[str, type[HealthCaller] | type[SubmitCaller]] = {"health": HealthCaller, "submit": SubmitCaller}


def request(method: str, path: str, body: object = None) -> bytes:
    """A request of the benchmarks' own owner."""
    content = b"" if body is None else json.dumps(body).encode()
    length = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if content else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n{length}\r\n"
    return head.encode("ascii") + content


def whole_body(data: bytes, status: bytes) -> bytes | None:
    """The answer's body, or None while some of it is missing. Raises WrongReply for another status."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    if data[9:12] != status:
        raise WrongReply(repr(data[:500]))
    head = data[:head_end].lower() + b"\r\n"
    at = head.index(b"content-length:") + 15
    end = head_end + 4 + int(head[at : head.index(b"\r\n", at)])
    if len(data) < end:
        return None
    if len(data) > end:
        raise WrongReply(f"more than was asked for: {data!r}")
    return data[head_end + 4 :]
