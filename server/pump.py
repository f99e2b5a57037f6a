"""The one writer of a connection: what its streams have to say goes out a message of each in turn, while there is room.

At most one piece of one picture is on its way from the storage, however many pictures wait: that bounds the memory of a
connection whose peer does not read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import structlog

from proto import atelier_pb2 as pb
from server.futures import Tasks
from server.interfaces import ArtifactStore
from server.wire.live import LiveStream
from server.wire.stream import JobStream, ReadWanted

log = structlog.get_logger("atelier.tcp")


Stream = JobStream | LiveStream


class Pump:
    """Writes with `say` for as long as `has_room` says so; `on_done` hears of each stream that has said everything."""

    def __init__(
        self,
        *,
        artifacts: ArtifactStore,
        tasks: Tasks,
        say: Callable[[pb.Envelope], None],
        has_room: Callable[[], bool],
        on_done: Callable[[Stream], None],
    ) -> None:
        self._artifacts = artifacts
        self._tasks = tasks
        self._say = say
        self._has_room = has_room
        self._on_done = on_done
        self._ready: deque[Stream] = deque()  # streams that may have something to say, each at most once
        self._reading: JobStream | None = None  # its piece is being fetched, or waits to be written
        self._want_to_read: deque[tuple[JobStream, ReadWanted]] = deque()

    def news(self, stream: Stream) -> None:
        """A stream may have something to say."""
        if stream is not self._reading and stream not in self._ready:
            self._ready.append(stream)
        self.run()

    def all_news(self, streams: Iterable[Stream]) -> None:
        """The same of several: of hundreds, thirty times a second, also while nothing can be written."""
        waiting = {id(stream) for stream in self._ready}
        for stream in streams:
            if id(stream) not in waiting:
                waiting.add(id(stream))
                self._ready.append(stream)
        self.run()

    def run(self) -> None:
        """Write until nobody has anything to say or there is no more room."""
        while self._ready and self._has_room():
            stream = self._ready.popleft()
            item = stream.next()
            if isinstance(item, ReadWanted) and isinstance(stream, JobStream):
                self._want_to_read.append((stream, item))
                self._read_next()
            elif isinstance(item, pb.Envelope):
                if stream is self._reading and item.HasField("chunk"):
                    self._reading = None  # the piece is with the transport: the next may be fetched
                self._say(item)
                if stream.done:
                    self._on_done(stream)
                else:
                    self._ready.append(stream)
                self._read_next()

    def stop(self) -> None:
        """Say nothing more."""
        self._ready.clear()
        self._want_to_read.clear()

    def _read_next(self) -> None:
        if self._reading is None and self._want_to_read:
            stream, wanted = self._want_to_read.popleft()
            self._reading = stream
            self._tasks.start(self._read(stream, wanted))

    async def _read(self, stream: JobStream, wanted: ReadWanted) -> None:
        try:
            data = await self._artifacts.read(wanted.key, wanted.offset, wanted.size)
            if len(data) != wanted.size:
                raise OSError("it is shorter than it was")
            stream.read(data)
        except Exception as error:
            log.error("picture.unreadable", job_id=stream.job_id, key=wanted.key, exc_info=error)
            stream.unreadable((error.strerror if isinstance(error, OSError) else None) or str(error))
            self._reading = None
        self._ready.appendleft(stream)
        self.run()
