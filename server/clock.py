"""Time, as an argument. Twisted's reactor and its task.Clock are both a `Clock`; IReactorTime says the same for zope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is to come."""

    def active(self) -> bool:
        """Whether it is still to come."""
        ...

    def cancel(self) -> None:
        """It is not to come. Raises if it has come, or was cancelled."""
        ...

    def reset(self, secondsFromNow: float) -> None:  # noqa: N803  # Twisted's name
        """Let it come so many seconds from now."""
        ...

    def getTime(self) -> float:  # noqa: N802  # Twisted's name
        """When it will come, by the clock's seconds."""
        ...


class Clock(Protocol):
    """Seconds since 1970 (UTC), and calls to come."""

    def seconds(self) -> float:
        """The time now."""
        ...

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any) -> Timer:  # noqa: A002, N802
        """Call after `delay` seconds, on the reactor thread."""
        ...
