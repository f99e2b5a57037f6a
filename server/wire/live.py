"""What live sessions say, as the wire's messages, and what one request that follows a session still has to say. Sans-IO.

A slow reader is owed the newest result alone: the ones before it are old, and nobody wants them any more.
"""

from __future__ import annotations

from collections.abc import Callable

from proto import atelier_pb2 as pb
from server.live.events import LiveClosed, LiveOpened, LiveResult


def encode_opened(request_id: int, opened: LiveOpened) -> pb.Envelope:
    """A session and its model."""
    model = opened.model
    message = pb.LiveOpened(
        live_id=opened.live_id,
        model=model.name,
        inputs=model.inputs,
        height=model.height,
        width=model.width,
        outputs=model.outputs,
        tick_hz=model.tick_hz,
        next_tick_us=opened.next_tick_us,
    )
    return pb.Envelope(request_id=request_id, live_opened=message)


def encode_closed(request_id: int, closed: LiveClosed) -> pb.Envelope:
    """The end of a session."""
    message = pb.LiveClosed(live_id=closed.live_id, code=closed.code.name, message=closed.message)
    return pb.Envelope(request_id=request_id, live_closed=message)


def encode_result(request_id: int, result: LiveResult) -> pb.Envelope:
    """One result."""
    return pb.Envelope(request_id=request_id, live_result=result_message(result))


def result_message(result: LiveResult) -> pb.LiveResult:
    """One result, whatever it travels in."""
    message = pb.LiveResult(
        live_id=result.live_id,
        number=result.number,
        captured_us=result.captured_us,
        tick_us=result.tick_us,
        input_image=result.input_image,
        sequence=result.sequence,
        dropped=result.dropped,
    )
    add = message.elements.add
    for index, (name, value) in enumerate(zip(result.names, result.values, strict=True)):
        add(index=index, name=name, value=value)
    return message


class LiveStream:
    """A `LiveListener` for one request of a connection. `on_news` is called whenever there may be something to say."""

    __slots__ = ("_closed", "_on_news", "_result", "done", "live_id", "request_id", "stop")

    def __init__(self, request_id: int, live_id: str, on_news: Callable[[LiveStream], None]) -> None:
        self.request_id = request_id
        self.live_id = live_id
        self.done = False  # everything has been said
        self.stop: Callable[[], None] = _nothing  # ends the listening
        self._on_news = on_news
        self._result: LiveResult | None = None
        self._closed: LiveClosed | None = None

    def live_result(self, result: LiveResult) -> None:
        """Takes the place of one that was not said."""
        self._result = result
        self._on_news(self)

    def live_closed(self, closed: LiveClosed) -> None:
        """Said after the last result."""
        self._closed = closed
        self._on_news(self)

    def next(self) -> pb.Envelope | None:
        """What is to be said now, or None: nothing yet."""
        if self._result is not None:
            result, self._result = self._result, None
            return encode_result(self.request_id, result)
        if self._closed is None:
            return None
        closed, self._closed, self.done = self._closed, None, True
        return encode_closed(self.request_id, closed)


def _nothing() -> None:
    """Nobody listens yet."""
