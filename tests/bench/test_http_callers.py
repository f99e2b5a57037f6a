"""The HTTP load client: no answer counts that is not whole, right and of its own."""

from __future__ import annotations

import json
import socket
import time

import pytest

from bench.callers import WrongReply
from bench.http_callers import HealthCaller, SubmitCaller, whole_body
from bench.http_server import TURN
from bench.sse_listeners import Ear


def answer(status: str, body: object) -> bytes:
    """As a server writes it."""
    content = json.dumps(body, separators=(",", ":")).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def job(name: str, seed: int) -> bytes:
    """A job that was taken."""
    return answer("202 Accepted", {"id": name * 32, "state": "queued", "seed": seed})


def test_an_answer_is_taken_byte_by_byte() -> None:
    """Only the last byte of an answer makes it whole, and asks the next question."""
    caller = HealthCaller(0)
    data = answer("200 OK", {"status": "healthy"})
    asked = [caller.take(data[at : at + 1]) for at in range(len(data))]
    assert asked == [b""] * (len(data) - 1) + [caller.first()]
    assert caller.answered == 1
    caller.check_last()


def test_another_status_is_a_wrong_reply() -> None:
    """A refusal is no answer."""
    with pytest.raises(WrongReply, match="429"):
        whole_body(answer("429 Too Many Requests", {}), b"202")


def test_more_than_was_asked_for_is_a_wrong_reply() -> None:
    """Two answers to one question are one too many."""
    with pytest.raises(WrongReply, match="more than"):
        whole_body(answer("200 OK", {}) * 2, b"200")


def test_a_health_that_is_not_well_is_found_at_the_end() -> None:
    """The last body is read, not only counted."""
    caller = HealthCaller(0)
    caller.take(answer("200 OK", {"status": "on fire"}))
    with pytest.raises(WrongReply, match="on fire"):
        caller.check_last()


def test_every_submit_is_a_job_of_its_own() -> None:
    """Two answers that name one job are found out."""
    caller = SubmitCaller(0)
    for turn, name in enumerate("ab"):
        caller.take(job(name, turn))
    caller.check_last()
    caller.take(job("b", 2))
    with pytest.raises(WrongReply):
        caller.check_last()


def test_a_job_of_another_request_is_found_out() -> None:
    """The seed of the last answer is that of the last question."""
    caller = SubmitCaller(0)
    caller.take(job("a", 7))
    with pytest.raises(WrongReply):
        caller.check_last()


def event(step: int, told: float) -> bytes:
    """A step of the metronome's."""
    data = {"job_id": "j", "event": "progress", "number": step, "phase": "denoising", "step": step, "total_steps": 9,
            "fraction": 1e-06, "eta_seconds": round(told, 3)}  # fmt: skip
    return f"id: {step}\nevent: progress\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def test_a_listener_counts_what_it_heard_and_what_it_missed() -> None:
    """Lateness is the age of a step when its event is whole; steps that were left out are counted, whatever the pieces."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ear = Ear(server.getsockname()[1], "j")
        told = (time.monotonic() - 0.5) % TURN
        data = event(1, told) + event(2, told) + event(5, told)
        for at in range(0, len(data), 7):
            ear.hear(data[at : at + 7], measured=True)
        ear.socket.close()
    assert len(ear.late) == 3
    assert all(0.49 < late < 60 for late in ear.late)
    assert ear.missed == 2
