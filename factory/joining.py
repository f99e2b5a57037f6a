"""Waiting for threads to end, without the reactor waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

JOIN_TIMEOUT = 10.0  # seconds for threads to end when everything else has; a step takes less


async def joined(reactor: Any, stop: Callable[[], None], seconds: float = JOIN_TIMEOUT) -> bool:
    """Call a `stop` that waits for threads; False where they do not end in time (a model that loads, a disk that hangs)."""
    ended = asyncio.get_running_loop().create_future()

    def join() -> None:
        stop()
        reactor.callFromThread(ended.set_result, None)

    threading.Thread(target=join, name="joining", daemon=True).start()
    done, _ = await asyncio.wait([ended], timeout=seconds)
    return bool(done)
