"""A custom model's process as its desk sees it, and what the desk asks of whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ai.custom.cards import CustomCard
from ai.custom.framing import Message


@dataclass(frozen=True, slots=True)
class Ending:
    """How a model's process ended, as its keeper tells it."""

    why: str  # "exit", "memory", "stopped", "server gone"; "lost" where the keeper itself was ended
    code: int | None = None
    signal: int | None = None
    peak: int = 0

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Ending:
        """From its last line."""
        return cls(str(told.get("ended")), told.get("code"), told.get("signal"), int(told.get("peak", 0)))

    def __str__(self) -> str:
        if self.why == "memory":
            return f"its process took {self.peak / 1e6:,.0f} MB of memory, and was ended"
        if self.why != "exit":
            return "its process was ended from outside"
        how = f"signal {self.signal}" if self.signal is not None else f"exit status {self.code}"
        return f"its process ended ({how})"


class Timer(Protocol):
    """A call that is to come."""

    def active(self) -> bool:
        """Whether it is still to come."""
        ...

    def cancel(self) -> None:
        """It is not to come."""
        ...


class Clock(Protocol):
    """Seconds, and calls to come (`server.clock`)."""

    def seconds(self) -> float:
        """The time now."""
        ...

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any) -> Timer:  # noqa: A002, N802
        """Call after `delay` seconds, on the same thread."""
        ...


class Process(Protocol):
    """A model's process, and its keeper."""

    def send(self, head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> None:
        """Ask it something (ai.custom.child)."""
        ...

    def end(self) -> None:
        """Kill it and all that it has begun. `Listener.ended` follows."""
        ...


class Listener(Protocol):
    """Who hears of a process; on the same thread, never from within a call of `Process`."""

    def heard(self, message: Message) -> None:
        """What it says."""
        ...

    def garbled(self, reason: str) -> None:
        """What it said cannot be read, and nothing will be."""
        ...

    def takes(self, size: int) -> None:
        """Bytes of memory, by now."""
        ...

    def ended(self, ending: Ending) -> None:
        """It is no more; the last that is heard."""
        ...


Launch = Callable[[CustomCard, int, Listener], Process]
"""Begins the process of a model, with a limit of memory in bytes. Raises OSError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of models whose classes have none of their own; bytes and seconds."""

    memory: int
    load_seconds: float
    predict_seconds: float
    max_output: int
