"""One live session: its newest frame, and who follows it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from server.errors import Refusal
from server.live.events import Frame, LiveClosed, LiveListener, LiveResult, Source, StreamModel

MAX_AHEAD = 1.0  # seconds that a frame may be captured after it comes: clocks of phones and cameras are not ours
LONGEST_DT = 10.0  # seconds between two frames that a model is told of: after longer breaks nothing depends on it


@dataclass(slots=True)
class Taken:
    """A frame that waits for its tick, or is in it; `came_at` is seconds since 1970."""

    number: int
    captured_us: int
    came_at: float
    packed: bytes
    image: bytes


class Session:
    """`key` is its number in the stream process. `waiting` is the newest frame; an older one that waited is dropped for it."""

    __slots__ = (
        "_captured_us", "_listeners", "_number", "closed", "dropped", "echo_input", "key", "live_id", "model", "owner",
        "sequence", "source", "unfit", "waiting",
    )  # fmt: skip

    def __init__(self, live_id: str, key: int, owner: str, model: StreamModel, *, echo_input: bool) -> None:
        self.live_id = live_id
        self.key = key
        self.owner = owner
        self.model = model
        self.echo_input = echo_input
        self.source: Source | None = None
        self.waiting: Taken | None = None
        self.dropped = 0
        self.sequence = 0  # of its latest result
        self.unfit = 0  # frames in a row for which there was no result
        self.closed: LiveClosed | None = None
        self._number = -1  # of the newest frame that came
        self._captured_us: int | None = None  # of the frame that was run last; None: its state is new
        self._listeners: dict[object, LiveListener] = {}

    def take(self, frame: Frame, now: float) -> bool:
        """Have it wait for the next tick. False: a frame was dropped, this one or the one that waited.

        Raises Refusal (INVALID_PARAMETER), and then nothing is changed.
        """
        taken = Taken(
            frame.number, frame.captured_us, now, self._packed(frame), frame.image if self.echo_input else b""
        )
        if not 0 <= taken.captured_us <= (now + MAX_AHEAD) * 1e6:
            limit = f"0, or at most {MAX_AHEAD:g} s ahead of the server's clock"
            raise Refusal.invalid("captured_us", limit, taken.captured_us)
        taken.captured_us = taken.captured_us or int(now * 1e6)
        if frame.number <= self._number:
            self.dropped += 1
            return False
        self._number = frame.number
        overtakes = self.waiting is not None
        self.dropped += overtakes
        self.waiting = taken
        return not overtakes

    def _packed(self, frame: Frame) -> bytes:
        """As the stream process reads it. Raises Refusal."""
        model, values = self.model, frame.values
        if len(values) != len(model.inputs):
            limit = f"{len(model.inputs)} numbers" if model.inputs else "none: the model takes an image"
            raise Refusal.invalid("values", limit, f"{len(values)} numbers")
        if len(frame.image) != model.image_bytes:
            limit = f"{model.image_bytes} bytes: 3 times {model.height} times {model.width}"
            given = f"{len(frame.image)} bytes"
            raise Refusal.invalid("image", limit if model.height else "none: the model takes values", given)
        if not values:
            return frame.image
        if not math.isfinite(sum(values)):
            at = next(index for index, value in enumerate(values) if not math.isfinite(value))
            raise Refusal.invalid(f"values[{at}]", "a finite number", values[at])
        return array("f", values).tobytes()

    def dt(self, taken: Taken) -> float:
        """Seconds since the frame that was run before; 0 where the session's state is new."""
        if self._captured_us is None:
            return 0.0
        return min(max((taken.captured_us - self._captured_us) / 1e6, 0.0), LONGEST_DT)

    def goes(self, taken: Taken) -> None:
        """Its frame is in a tick now."""
        self.waiting = None
        self._captured_us = taken.captured_us

    def begins_anew(self, taken: Taken | None) -> bool:
        """Its state is lost, and the tick that `taken` was in; the frame waits again. False: a newer one waits already."""
        self._captured_us = None
        if taken is None:
            return True
        if self.waiting is None:
            self.waiting = taken
            return True
        self.dropped += 1
        return False

    def watch(self, listener: LiveListener) -> Callable[[], None]:
        """Tell it everything from now on, until what is returned is called."""
        place = object()
        self._listeners[place] = listener

        def stop() -> None:
            self._listeners.pop(place, None)

        return stop

    def tell(self, result: LiveResult) -> None:
        """Everybody hears it."""
        for listener in tuple(self._listeners.values()):
            listener.live_result(result)

    def end(self, closed: LiveClosed) -> None:
        """Everybody hears it, and nothing after it."""
        self.closed, self.waiting = closed, None
        if self.source is not None:
            self.source.stop()
        listeners, self._listeners = tuple(self._listeners.values()), {}
        for listener in listeners:
            listener.live_closed(closed)
