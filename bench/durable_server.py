"""`atelier serve` with an engine that costs nothing: what is left is what durable jobs cost.

    python -m bench.durable_server [--forgetful]

With --forgetful its records are in memory, which is what durability is compared with.
"""

from __future__ import annotations

import sys
from typing import Any

from atelier.serve import serve
from server.database.sql import SqlJobStore
from tests.quick_painter import paint_quickly
from tests.server.memory import MemoryJobStore


def forget() -> None:
    """Let every job be kept in memory alone."""
    memory = MemoryJobStore(100_000)
    patched: Any = SqlJobStore

    async def take_up(store: SqlJobStore, *, at: float, begin: bool) -> list[Any]:
        return []

    async def nothing(store: SqlJobStore, *, at: float) -> None:
        return None

    for name in ("admit", "find", "get", "move"):
        method = getattr(memory, name)
        setattr(patched, name, lambda store, *given, _method=method, **named: _method(*given, **named))
    patched.take_up, patched.renew, patched.give_back = take_up, nothing, nothing


if __name__ == "__main__":
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    if "--forgetful" in sys.argv:
        forget()
    paint_quickly(0.0)
    sys.exit(serve())
