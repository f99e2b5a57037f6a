"""Counters that several nodes share: in Redis, by the library `limits`.

While Redis is away every node counts for itself, in its own memory: limits hold, but each node's are its own. Who waits for an
answer of Redis waits at most `PATIENCE` for each; after a failure nobody asks it again for `PAUSE`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import structlog
from limits.aio.storage import RedisStorage
from limits.errors import StorageError
from pydantic import SecretStr

from server.metering.counters import Counted, Counters

log = structlog.get_logger("atelier.limits")

PATIENCE = 0.5  # seconds; Redis answers in one thousandth of that, and a request that waits is a person who waits
PAUSE = 5.0  # seconds
PREFIX = "atelier"


class SharedCounters:
    """`Counters` in Redis, or for as long as that is away, in `own`. `url` may hold a password."""

    def __init__(
        self, url: SecretStr, own: Counters, now: Callable[[], float] = time.monotonic, *, patience: float = PATIENCE
    ) -> None:
        self._patience = patience
        self._url = url
        self._own = own
        self._now = now
        self._storage: RedisStorage | None = None
        self._ask_again_at = 0.0
        self.away = False

    async def add(self, key: str, seconds: int, amount: int) -> Counted:
        """In Redis if it is there."""
        if self._now() >= self._ask_again_at:
            try:
                counted = await self._add(key, seconds, amount)
            except (StorageError, OSError, TimeoutError) as error:
                self._gone(error)
            else:
                self._back()
                return counted
        return await self._own.add(key, seconds, amount)

    async def take_back(self, key: str, seconds: int, amount: int) -> None:
        """From Redis, as long as it is there."""
        if self.away:
            return
        try:
            storage = self._opened()
            if await storage.get(key) >= amount:  # else its window has ended, and another may have begun
                await storage.incr(key, seconds, -amount)
        except (StorageError, OSError, TimeoutError) as error:
            self._gone(error)

    async def close(self) -> None:
        """Let go of the connections."""
        storage, self._storage = self._storage, None
        if storage is not None:
            await cast(Any, storage.bridge).storage.aclose()

    async def _add(self, key: str, seconds: int, amount: int) -> Counted:
        storage = self._opened()
        total = await storage.incr(key, seconds, amount)
        return Counted(total, max(0.0, await storage.get_expiry(key) - time.time()), self)

    def _opened(self) -> RedisStorage:
        if self._storage is None:  # here, in the loop whose sockets these are
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff

            options: dict[str, Any] = {
                "socket_timeout": self._patience,
                "socket_connect_timeout": self._patience,
                "retry": Retry(NoBackoff(), 0),  # the library's own pauses would be waited for by every request
            }
            self._storage = RedisStorage(
                self._url.get_secret_value(),
                wrap_exceptions=True,
                implementation="redispy",
                key_prefix=PREFIX,
                **options,
            )
        return self._storage

    def _gone(self, error: Exception) -> None:
        self._ask_again_at = self._now() + PAUSE
        if not self.away:
            self.away = True
            log.warning("limits.redis_away", reason=type(error.__cause__ or error).__name__)

    def _back(self) -> None:
        if self.away:
            self.away = False
            log.info("limits.redis_back")
