from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.callers import AtelierCaller, Caller, GrpcCaller, HttpCaller, WrongReply, frame
from proto import atelier_pb2 as pb


def atelier_answer(question: bytes, shift: int = 0) -> bytes:
    """What Atelier's server would answer; `shift` makes it the answer to something else."""
    asked = pb.Envelope.FromString(question[4:])
    return frame(pb.Envelope(request_id=asked.request_id, pong=_pong(asked.ping, shift)))


def http_answer(question: bytes, shift: int = 0) -> bytes:
    """What FastAPI would answer; `shift` makes it the answer to something else."""
    body = _pong(pb.Ping.FromString(question.partition(b"\r\n\r\n")[2]), shift).SerializeToString()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def grpc_answer(question: bytes, shift: int = 0) -> bytes:
    """What grpc.aio would answer; `shift` makes it the answer to something else."""
    headers_size = question[2]
    stream = question[5:9]
    ping = pb.Ping.FromString(question[9 + headers_size + 9 + 5 :])
    pong = _pong(ping, shift).SerializeToString()
    message = b"\0" + len(pong).to_bytes(4, "big") + pong
    data = len(message).to_bytes(3, "big") + b"\0\0" + stream + message
    return b"\0\0\1\1\4" + stream + b"\x88" + data + b"\0\0\1\1\5" + stream + b"\x88"


def _pong(ping: pb.Ping, shift: int) -> pb.Pong:
    return pb.Pong(client_time_us=ping.client_time_us + shift, server_time_us=ping.client_time_us)


Answer = Callable[..., bytes]

SIDES: list[tuple[Callable[[int], Caller], Answer]] = [
    (AtelierCaller, atelier_answer),
    (HttpCaller, http_answer),
    (GrpcCaller, grpc_answer),
]


@pytest.mark.parametrize(("caller_class", "answer"), SIDES)
def test_right_answers_are_counted(caller_class: Callable[[int], Caller], answer: Answer) -> None:
    """Each right answer, whole or byte by byte, is counted and brings another question."""
    caller = caller_class(3)
    question = caller.first()
    for _ in range(100):
        following = caller.take(answer(question))
        assert following
        assert following != question
        question = following
    replies = [caller.take(byte.to_bytes(1, "big")) for byte in answer(question)]
    assert b"".join(replies) == replies[-1] != b""
    assert caller.answered == 101
    caller.check_last()


@pytest.mark.parametrize(("caller_class", "answer"), SIDES)
def test_wrong_answer_is_refused(caller_class: Callable[[int], Caller], answer: Answer) -> None:
    """An answer to another question stops the measurement."""
    caller = caller_class(0)
    with pytest.raises(WrongReply):
        caller.take(answer(caller.first(), 1))
