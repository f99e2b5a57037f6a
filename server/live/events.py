"""What live sessions are asked and what they say: plain data, and the interfaces between doors, sources and sessions.

All of it happens on the reactor thread. A listener is told each result once, in the tick that made it: it must not block, and it
must not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server.errors import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamModel:
    """What a client has to know of a stream model.

    A frame has a value for each of `inputs`, or, where there are none, an image of `height` by `width` pixels; a result has
    a value for each of `outputs`. `tick_hz` is how often a second it runs.
    """

    name: str
    description: str = ""
    inputs: tuple[str, ...] = ()
    height: int = 0
    width: int = 0
    outputs: tuple[str, ...]
    tick_hz: float

    @property
    def image_bytes(self) -> int:
        """Of one frame's image: red, green and blue of each pixel. 0: it takes none."""
        return 3 * self.height * self.width


@dataclass(frozen=True, slots=True)
class Frame:
    """One input. `captured_us` is microseconds since 1970 (UTC), 0: not told. `image` is raw RGB, rows from the top."""

    number: int
    captured_us: int = 0
    values: Sequence[float] = ()
    image: bytes = b""


@dataclass(frozen=True, slots=True)
class LiveOpened:
    """A session as its client needs it. `next_tick_us`: when the next tick begins, microseconds since 1970 (UTC)."""

    live_id: str
    model: StreamModel
    next_tick_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveResult:
    """What the model made of frame `number`: a value for each name. `sequence` counts the session's results from 1.

    `tick_us` is when its tick began; `dropped` are the session's frames that were never run, so far.
    """

    live_id: str
    number: int
    captured_us: int
    names: tuple[str, ...]
    values: Sequence[float]
    tick_us: int
    sequence: int
    dropped: int
    input_image: bytes = b""


@dataclass(frozen=True, slots=True)
class LiveClosed:
    """A session has ended; OK: somebody who may closed it."""

    live_id: str
    code: Code
    message: str = ""


class LiveListener(Protocol):
    """Who follows a session."""

    def live_result(self, result: LiveResult) -> None:
        """One more result."""
        ...

    def live_closed(self, closed: LiveClosed) -> None:
        """The last that is heard of it."""
        ...


class Live(Protocol):
    """The sessions, as doors see them. Another owner's session is none: Refusal (LIVE_NOT_FOUND)."""

    def models(self) -> Sequence[StreamModel]:
        """Those that sessions can be opened on."""
        ...

    async def open(self, owner: str, model: str, *, echo_input: bool = False, source: str = "") -> LiveOpened:
        """A new session, once its model is loaded.

        Raises Refusal (MODEL_NOT_FOUND, MODEL_LOAD_FAILED, RESOURCE_EXHAUSTED, UNAVAILABLE; INVALID_PARAMETER for the source).
        """
        ...

    def frame(self, owner: str, live_id: str, frame: Frame) -> None:
        """Take a frame for the next tick. Raises Refusal (LIVE_NOT_FOUND, INVALID_PARAMETER with its field and limit)."""
        ...

    def close(self, owner: str, live_id: str) -> LiveClosed:
        """End a session. Raises Refusal (LIVE_NOT_FOUND)."""
        ...

    def find(self, owner: str, live_id: str) -> LiveOpened:
        """A session as it is now. Raises Refusal (LIVE_NOT_FOUND)."""
        ...

    def watch(self, owner: str, live_id: str, listener: LiveListener) -> Callable[[], None]:
        """Tell a listener everything from now on, until the session ends or what is returned is called.

        Raises Refusal (LIVE_NOT_FOUND).
        """
        ...


class Source(Protocol):
    """Frames that come from elsewhere than a client: for one session, from `start` to `stop`."""

    def start(self, model: StreamModel, push: Callable[[Frame], None], ended: Callable[[str], None]) -> None:
        """Push frames, on the reactor thread. `ended` is called once if it comes to an end, with the reason ("": it is over)."""
        ...

    def stop(self) -> None:
        """Push no more."""
        ...


class Sources(Protocol):
    """The sources that the operator has configured."""

    def find(self, name: str, model: StreamModel, owner: str) -> Source:
        """A new one of that name for a session of this owner's.

        Raises Refusal (INVALID_PARAMETER, field source), also where it cannot serve that model.
        """
        ...
