"""What one request of a connection still has to say about its job: sans-IO, and bounded in memory.

Kept for a slow reader: the latest Progress, the latest Preview of each image, a text's pieces as one, Accepted and the terminal
event. Pictures are
never held: they are asked for piece by piece (`ReadWanted`) when the reader is ready for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from proto import atelier_pb2 as pb
from server.events import Accepted, Artifact, Canceled, Event, Failed, Output, Preview, Progress, Succeeded
from server.latest import LatestEvents
from server.wire.telling import EVENT_ENCODERS, encode_accepted, encode_chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the reader asked to be told besides the beginning and the end."""

    progress: bool = False
    previews: bool = False
    inline_pictures: bool = False
    output: bool = False


def wishes_of(message: pb.Submit | pb.Predict | pb.Watch) -> Wishes:
    """What a request says of how it is to be told."""
    if isinstance(message, pb.Predict):
        return Wishes(progress=message.progress, output=message.output)
    if isinstance(message, pb.Watch):
        wants = {"previews": message.previews, "output": message.output}
    else:
        wants = {"previews": message.preview_every_steps > 0}
    return Wishes(progress=message.progress, inline_pictures=message.inline_pictures, **wants)


@dataclass(frozen=True, slots=True)
class ReadWanted:
    """`size` bytes of a stored picture, from `offset` on; hand them to `JobStream.read`."""

    key: str
    offset: int
    size: int


class JobStream:
    """A watcher of one job for one request. `on_news` is called whenever there may be something to say."""

    __slots__ = (
        "_chunk_bytes", "_duplicate", "_image", "_offset", "_on_news", "_ready_chunk", "_unsaid", "_wishes", "done", "job_id",
        "request_id",
    )  # fmt: skip

    def __init__(
        self,
        request_id: int,
        job_id: str,
        wishes: Wishes,
        *,
        duplicate: bool,
        chunk_bytes: int,
        on_news: Callable[[JobStream], None],
    ) -> None:
        self.request_id = request_id
        self.job_id = job_id
        self.done = False  # everything has been said
        self._wishes = wishes
        self._duplicate = duplicate
        self._chunk_bytes = chunk_bytes
        self._on_news = on_news
        self._unsaid = LatestEvents()
        self._image = 0  # the picture that is being sent …
        self._offset = 0  # … and how much of it was
        self._ready_chunk: pb.Envelope | None = None

    @property
    def ended(self) -> bool:
        """Whether the job has: nothing more will be heard, though something may be left to say."""
        return self._unsaid.terminal is not None

    def job_event(self, event: Event) -> None:
        """Take one event of the job."""
        if isinstance(event, Progress) and not self._wishes.progress:
            return
        if isinstance(event, Preview) and not self._wishes.previews:
            return
        if isinstance(event, Output) and not self._wishes.output:
            return
        self._unsaid.add(event)
        self._on_news(self)

    def next(self) -> pb.Envelope | ReadWanted | None:
        """What is to be said now, what has to be read before that can be known, or None: nothing yet."""
        event = self._unsaid.take()
        if isinstance(event, Accepted):
            return encode_accepted(self.request_id, event, duplicate=self._duplicate)
        if event is not None:
            return EVENT_ENCODERS[type(event)](self.request_id, event)
        terminal = self._unsaid.terminal
        if terminal is None:
            return None
        piece = self._next_piece(terminal)
        if piece is not None:
            return piece
        self.done = True
        return EVENT_ENCODERS[type(terminal)](self.request_id, terminal)

    def read(self, data: bytes) -> None:
        """Take the bytes that the last ReadWanted asked for."""
        artifact = self._succeeded().artifacts[self._image]
        self._ready_chunk = encode_chunk(self.request_id, self.job_id, artifact, self._offset, data)
        self._advance(artifact, len(data))

    def unreadable(self, reason: str) -> None:
        """The bytes that the last ReadWanted asked for cannot be had: the result is told without them, and says so."""
        terminal = self._succeeded()
        artifact = terminal.artifacts[self._image]
        warning = f"picture {artifact.image_index} could not be read back from the storage: {reason}"
        self._unsaid.terminal = replace(terminal, warnings=(*terminal.warnings, warning))
        self._advance(artifact, artifact.size)

    def _next_piece(self, terminal: Succeeded | Failed | Canceled) -> pb.Envelope | ReadWanted | None:
        """The next piece of the pictures, or None when all were said or none are wanted."""
        if self._ready_chunk is not None:
            chunk, self._ready_chunk = self._ready_chunk, None
            return chunk
        if not isinstance(terminal, Succeeded) or not self._wishes.inline_pictures:
            return None
        if self._image == len(terminal.artifacts):
            return None
        artifact = terminal.artifacts[self._image]
        return ReadWanted(artifact.key, self._offset, min(self._chunk_bytes, artifact.size - self._offset))

    def _succeeded(self) -> Succeeded:
        assert isinstance(self._unsaid.terminal, Succeeded)
        return self._unsaid.terminal

    def _advance(self, artifact: Artifact, size: int) -> None:
        self._offset += size
        if self._offset >= artifact.size:
            self._image += 1
            self._offset = 0
