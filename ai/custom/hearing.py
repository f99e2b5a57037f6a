"""What a model's process says of a prediction, and its keeper of its end, as an engine has it.

Raises KeyError, TypeError, ValueError for nonsense.
"""

from __future__ import annotations

from collections.abc import Sequence

from ai.custom.framing import Message
from ai.custom.process import Ending
from ai.types import (
    Answered,
    EngineError,
    Finished,
    GenerationError,
    InputError,
    MemoryLimitExceeded,
    ModelLoadError,
    Phase,
    Picture,
    Previewed,
    Stepped,
)

STEPS = 100  # what progress is told in


def progress(request_id: str, message: Message, passed: float) -> Stepped:
    """How far it is, `passed` seconds after it began."""
    fraction = min(max(float(message.head["fraction"]), 0.0), 1.0)
    eta = passed * (1 - fraction) / fraction if fraction else 0.0
    return Stepped(request_id, Phase.WRITING, int(fraction * STEPS), STEPS, fraction, eta, passed)


def preview(request_id: str, message: Message) -> Previewed:
    """A picture on the way."""
    (picture,) = _pictures([message.head["size"]], message.parts)
    return Previewed(request_id, 0, 0, picture.width, picture.height, picture.rgb)


def end(request_id: str, message: Message) -> Answered | Finished:
    """What came of it: pictures, or plain data."""
    sizes = message.head.get("sizes")
    if sizes is None:
        return Answered(request_id, message.head["output"])
    return Finished(request_id, _pictures(sizes, message.parts), ())


def failure(model: str, message: Message) -> EngineError:
    """Why nothing came of it."""
    head = message.head
    kind, reason = head["kind"], str(head["reason"])
    if kind == "input":
        return InputError(str(head["field"]), "what the model takes", reason)
    if kind == "memory":
        return MemoryLimitExceeded(f"model {model}: found no more memory: {reason}")
    return GenerationError(f"model {model}: {reason}")


def ending(model: str, ended: Ending, memory_limit: int, *, loads: bool) -> EngineError:
    """Why its process ended by itself, as its keeper says; `loads`: before it had loaded."""
    reason = f"model {model}: {'load: ' if loads else ''}{ended}"
    if ended.why == "memory":
        reason += f"; {memory_limit / 1e6:,.0f} MB are its limit"
    if loads:
        return ModelLoadError(reason)
    return MemoryLimitExceeded(reason) if ended.why == "memory" else GenerationError(reason)


def _pictures(sizes: Sequence[Sequence[int]], pixels: Sequence[bytes]) -> tuple[Picture, ...]:
    """What a process says are pictures. Raises ValueError."""
    pictures = tuple(Picture(0, int(size[0]), int(size[1]), rgb) for size, rgb in zip(sizes, pixels, strict=True))
    if not pictures or any(
        picture.width < 1 or picture.height < 1 or len(picture.rgb) != 3 * picture.width * picture.height
        for picture in pictures
    ):
        raise ValueError("its pictures are not as large as it says")
    return pictures
