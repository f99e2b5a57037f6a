"""What a job says, from the wire's messages: the server's own event types, and the outcome with its pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ai.types import Json
from proto import atelier_pb2 as pb
from server.events import Accepted, Artifact, Canceled, Event, Failed, Output, Phase, Preview, Progress, Succeeded
from server.wire.telling import decode_failure

_PHASES: dict[int, Phase] = {
    pb.QUEUED: Phase.QUEUED,
    pb.ENCODING: Phase.ENCODING,
    pb.DENOISING: Phase.DENOISING,
    pb.DECODING: Phase.DECODING,
    pb.WRITING: Phase.WRITING,
    pb.FINISHING: Phase.FINISHING,
    pb.PARKED: Phase.PARKED,
    pb.RETRYING: Phase.RETRYING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A job that succeeded. `pictures` are the PNG files in the artifacts' order; empty where they were not asked for. One that
    paints nothing has an `output`: a text, or whatever JSON the model gives."""

    job_id: str
    artifacts: tuple[Artifact, ...]
    pictures: tuple[bytes, ...]
    warnings: tuple[str, ...]
    queued_seconds: float
    processing_seconds: float
    output: Json = None
    figures: Mapping[str, float] = field(default_factory=dict)


def _accepted(message: pb.Accepted) -> Accepted:
    return Accepted(number=0, job_id=message.job_id, seed=message.seed)


def _progress(message: pb.Progress) -> Progress:
    return Progress(
        number=message.event_number,
        job_id=message.job_id,
        phase=_PHASES.get(message.phase, Phase.QUEUED),  # a phase that a later server knows
        step=message.step,
        total_steps=message.total_steps,
        fraction=message.percent / 100,
        eta_seconds=message.eta_seconds,
    )


def _preview(message: pb.Preview) -> Preview:
    return Preview(
        number=message.event_number,
        job_id=message.job_id,
        image_index=message.image_index,
        step=message.step,
        png=message.png,
    )


def _output(message: pb.Output) -> Output:
    return Output(number=message.event_number, job_id=message.job_id, offset=message.offset, text=message.text)


def _succeeded(message: pb.Result) -> Succeeded:
    return Succeeded(
        number=message.event_number,
        job_id=message.job_id,
        artifacts=tuple(_artifact(artifact) for artifact in message.artifacts),
        warnings=tuple(message.warnings),
        queued_seconds=message.queued_seconds,
        processing_seconds=message.processing_seconds,
        output=json.loads(message.output) if message.output else None,
        figures=dict(message.figures),
    )


def _failed(message: pb.Failed) -> Failed:
    return Failed(number=message.event_number, job_id=message.job_id, failure=decode_failure(message.error))


def _canceled(message: pb.Canceled) -> Canceled:
    return Canceled(number=message.event_number, job_id=message.job_id)


EVENT_DECODERS: dict[str, Callable[[Any], Event]] = {
    "accepted": _accepted,
    "progress": _progress,
    "preview": _preview,
    "output": _output,
    "result": _succeeded,
    "failed": _failed,
    "canceled": _canceled,
}
"""A message's kind to its event. A Chunk is none: it is part of a Result."""

TERMINAL_KINDS = frozenset({"result", "failed", "canceled"})


def _artifact(message: pb.Artifact) -> Artifact:
    return Artifact(
        image_index=message.image_index,
        key=message.key,
        url=message.url,
        size=message.size,
        sha256=message.sha256,
        content_type=message.content_type,
        width=message.width,
        height=message.height,
        seed=message.seed,
    )
