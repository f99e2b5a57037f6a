"""How a request came, for whoever traces it: told by its door in a context variable, since nothing between needs it."""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass

MAX_TRACEPARENT = 200  # characters; W3C's version 00 has 55


@dataclass(frozen=True, slots=True)
class Incoming:
    """The door, when the request was there (seconds since 1970; None: not noted), and the caller's W3C traceparent ("": none)."""

    door: str = "tcp"
    at: float | None = None
    traceparent: str = ""


INCOMING: ContextVar[Incoming] = ContextVar("incoming", default=Incoming())  # noqa: B039  # frozen
"""Set in the task that carries the request out, and so in what that task starts."""


def traceparent_of(given: object) -> str:
    """A header's value, where it can be one."""
    return given if isinstance(given, str) and len(given) <= MAX_TRACEPARENT else ""


def over_tcp(message: object) -> Context:
    """Where a request over TCP is carried out: its caller's trace stands in the message, if it has one."""
    context = copy_context()
    context.run(INCOMING.set, Incoming(traceparent=traceparent_of(getattr(message, "traceparent", ""))))
    return context
