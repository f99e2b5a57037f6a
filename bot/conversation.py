"""What a client has under way: each request and its answers are a conversation that outlives a connection."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from google.protobuf.message import Message

from bot.errors import RefusedError, UnexpectedAnswerError
from proto import atelier_pb2 as pb
from server.wire.telling import decode_failure


class Conversation(Protocol):
    """One request of the client's, until its last answer."""

    @property
    def put_off(self) -> float | None:
        """Seconds after which to ask again, where the answer was that it cannot be answered now; None: it is over."""
        ...

    def opening(self) -> pb.Envelope:
        """What to say on a fresh connection; the connection adds the request_id."""
        ...

    def hear(self, kind: str, message: Any) -> bool:
        """Take an answer; True when it was the last."""
        ...

    def fail(self, error: Exception) -> None:
        """There will be no answer."""
        ...


class Question:
    """A request with one answer. Safe to ask again on another connection."""

    put_off = None  # who asked has more use for a quick no

    def __init__(self, asked: pb.Envelope, answer_kind: str) -> None:
        self._asked = asked
        self._answer_kind = answer_kind
        self.answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def opening(self) -> pb.Envelope:
        """The question."""
        return self._asked

    def hear(self, kind: str, message: Any) -> bool:
        """Take the answer."""
        if kind == "error":
            self.fail(RefusedError.told(decode_failure(message)))
        elif kind != self._answer_kind:
            self.fail(UnexpectedAnswerError(f"{kind} came where {self._answer_kind} was asked for"))
        elif not self.answer.done():
            self.answer.set_result(message)
        return True

    def fail(self, error: Exception) -> None:
        """There will be no answer."""
        if not self.answer.done():  # who asked may have been cancelled meanwhile
            self.answer.set_exception(error)
