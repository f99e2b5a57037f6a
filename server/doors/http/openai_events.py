"""A job's events as OpenAI's images API streams them.

    event: image_generation.partial_image
    data: {"type":"image_generation.partial_image","partial_image_index":0,"created_at":1760000000,…,"b64_json":"…"}

At most `partial_images` of those, then one image_generation.completed for each picture; image_edit.… where a picture was edited.
What fails is `event: error` with the body that every refusal has, of which its client makes an exception.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from server.clock import Clock
from server.doors.http.base64_pictures import in_base64
from server.doors.http.errors import body_of
from server.errors import AtelierError, Code, JobFailure, Refusal
from server.events import Canceled, Event, Failed, Preview, Succeeded
from server.interfaces import ArtifactStore
from server.job import Job


class ImageEvents:
    """Of one job, for one client."""

    def __init__(
        self,
        *,
        job: Job,
        kind: str,
        partial_images: int,
        warnings: Sequence[str],
        artifacts: ArtifactStore,
        chunk_bytes: int,
        clock: Clock,
        usage: Mapping[str, Any],
    ) -> None:
        request = job.pictures_asked
        self._kind = kind
        self._steps = max(1, int(request.num_inference_steps * (request.strength or 1)))
        self._wanted = partial_images
        self._told = 0
        self._warnings = warnings
        self._artifacts = artifacts
        self._chunk_bytes = chunk_bytes
        self._clock = clock
        self._usage = usage
        self._said = {
            "job_id": job.id,
            "size": f"{request.width}x{request.height}",
            "quality": "auto",
            "background": "opaque",
            "output_format": "png",
        }

    def encode(self, event: Event) -> bytes | AsyncIterator[bytes]:
        """For an EventStream."""
        if isinstance(event, Preview):
            return self._preview(event)
        if isinstance(event, Succeeded):
            return self._completed(event)
        if isinstance(event, Failed):
            return self._error(event.failure)
        if isinstance(event, Canceled):
            return self._error(JobFailure(Code.GENERATION_FAILED, "the job was canceled"))
        return b""

    def _preview(self, event: Preview) -> bytes:
        """The next partial image, when so much of the way is gone."""
        if self._told >= self._wanted or event.step * (self._wanted + 1) < (self._told + 1) * self._steps:
            return b""
        self._told += 1
        head, tail = self._frame("partial_image", partial_image_index=self._told - 1)
        return head + base64.b64encode(event.png) + tail

    async def _completed(self, event: Succeeded) -> AsyncIterator[bytes]:
        for artifact in event.artifacts:
            warnings = [*self._warnings, *event.warnings]
            head, tail = self._frame("completed", seed=artifact.seed, usage=self._usage, warnings=warnings)
            pieces = in_base64(self._artifacts, artifact, self._chunk_bytes)
            try:
                first = await anext(pieces)
            except Refusal as refusal:
                yield self._error(refusal)
                return
            yield head + first
            async for piece in pieces:
                yield piece
            yield tail

    def _frame(self, name: str, **more: Any) -> tuple[bytes, bytes]:
        """What comes before the picture's base64, and after it."""
        kind = f"{self._kind}.{name}"
        told = {"type": kind, "created_at": int(self._clock.seconds()), **self._said, **more}
        start = json.dumps(told, separators=(",", ":"))[:-1]
        return f'event: {kind}\ndata: {start},"b64_json":"'.encode(), b'"}\n\n'

    def _error(self, error: AtelierError) -> bytes:
        return f"event: error\ndata: {json.dumps(body_of(error, self._clock.seconds()))}\n\n".encode()
