"""From settings to the sources of live sessions, and the threads that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from config import Settings, SettingsError
from config.fields import PREFIX
from config.sources import BadSources, SourcePlan, read_sources
from factory.joining import joined
from server.clock import Clock
from server.live.sources.sources import Sources
from server.pools import ThreadedPool

FILE_THREADS = (
    2  # for folders and recordings, which wait for nobody; a camera waits for its next frame, and has one of its own
)


class LiveSources:
    """The operator's sources. `sources` opens them, once begun."""

    def __init__(self, settings: Settings, reactor: Any) -> None:
        plans = _plans(settings)
        cameras = sum(plan.kind == "camera" for plan in plans.values())
        self._reactor = reactor
        self._pool = ThreadedPool("live-sources", FILE_THREADS + cameras)
        self.sources = Sources(plans, cast(Clock, reactor), self._pool)

    def begin(self) -> None:
        """Threads are there from now on."""
        self._pool.start()

    async def close(self) -> bool:
        """End all sources; whether all threads have ended."""
        await self.sources.close()
        return await joined(self._reactor, self._pool.stop)


def _plans(settings: Settings) -> dict[str, SourcePlan]:
    """Raises SettingsError."""
    if not settings.live_sources:
        return {}
    try:
        return dict(read_sources(Path(settings.live_sources)))
    except BadSources as error:
        raise SettingsError(f"{PREFIX}LIVE_SOURCES: {error}") from None
