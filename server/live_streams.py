"""What one connection has of live sessions: those that it opened, which end with it, and those that it follows."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from server.errors import Refusal
from server.live.events import Live
from server.replies import LiveFollowed
from server.wire.live import LiveStream

log = structlog.get_logger("atelier.tcp")


class LiveStreams:
    """`on_news` hears of each stream that may have something to say."""

    def __init__(self, live: Live, on_news: Callable[[LiveStream], None]) -> None:
        self._live = live
        self._on_news = on_news
        self._streams: dict[int, LiveStream] = {}  # by request_id
        self._opened: set[str] = set()

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._streams

    def __len__(self) -> int:
        return len(self._streams)

    def follow(self, owner: str, request_id: int, reply: LiveFollowed, *, quiet: bool) -> None:
        """From now on, or, where it is `quiet`, only until the connection ends. Raises Refusal for one that is gone."""
        live_id = reply.opened.live_id
        if reply.opened_here:
            self._opened.add(live_id)
        if quiet:
            return
        stream = LiveStream(request_id, live_id, self._on_news)
        stream.stop = self._live.watch(owner, live_id, stream)
        self._streams[request_id] = stream

    def forget(self, stream: LiveStream) -> None:
        """It has said everything."""
        self._streams.pop(stream.request_id, None)
        self._opened.discard(stream.live_id)
        stream.stop()

    def end(self, owner: str, live_id: str) -> None:
        """Close a session that nobody is there for; it may be gone already."""
        try:
            self._live.close(owner, live_id)
        except Refusal:
            log.debug("live.gone", live_id=live_id)

    def end_all(self, owner: str) -> None:
        """The connection is gone."""
        for stream in self._streams.values():
            stream.stop()
        self._streams.clear()
        opened, self._opened = self._opened, set()
        for live_id in opened:
            self.end(owner, live_id)
