"""What jobs say, and what goes wrong, as the wire's messages. Pure: no state, no I/O; total over the events of server.events."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ai.types import Json
from proto import atelier_pb2 as pb
from server import events
from server.errors import AtelierError, Code, JobFailure


def encode_error(request_id: int, error: AtelierError) -> pb.Envelope:
    """A refusal as the answer to a request."""
    return pb.Envelope(request_id=request_id, error=error_message(error))


def encode_goodbye(error: AtelierError) -> pb.Envelope:
    """The last message of a connection."""
    return pb.Envelope(goodbye=pb.Goodbye(code=error.code.name, message=error.message))


def error_message(error: AtelierError) -> pb.Error:
    """An error, whatever it is the answer to."""
    return pb.Error(
        code=error.code.name,
        field=error.field,
        limit=error.limit,
        message=error.message,
        retry_after_seconds=error.retry_after_seconds,
    )


def decode_failure(message: pb.Error) -> JobFailure:
    """What a client was told, as an error to raise."""
    known = {code.value for code in Code}
    return JobFailure(
        Code(message.code) if message.code in known else Code.INTERNAL_ERROR,
        message.message,
        field=message.field,
        limit=message.limit,
        retry_after_seconds=message.retry_after_seconds,
    )


_PHASES: dict[events.Phase, pb.Phase] = {
    events.Phase.QUEUED: pb.QUEUED,
    events.Phase.ENCODING: pb.ENCODING,
    events.Phase.DENOISING: pb.DENOISING,
    events.Phase.DECODING: pb.DECODING,
    events.Phase.WRITING: pb.WRITING,
    events.Phase.FINISHING: pb.FINISHING,
    events.Phase.PARKED: pb.PARKED,
    events.Phase.RETRYING: pb.RETRYING,
}


def encode_accepted(request_id: int, event: events.Accepted, *, duplicate: bool) -> pb.Envelope:
    """Accepted: `duplicate` is known to the asker alone, so it is no part of the event."""
    accepted = pb.Accepted(job_id=event.job_id, duplicate=duplicate, seed=event.seed)
    return pb.Envelope(request_id=request_id, accepted=accepted)


def _progress(request_id: int, event: events.Progress) -> pb.Envelope:
    progress = pb.Progress(
        job_id=event.job_id,
        event_number=event.number,
        phase=_PHASES[event.phase],
        step=event.step,
        total_steps=event.total_steps,
        percent=event.fraction * 100,
        eta_seconds=event.eta_seconds,
    )
    return pb.Envelope(request_id=request_id, progress=progress)


def _preview(request_id: int, event: events.Preview) -> pb.Envelope:
    preview = pb.Preview(
        job_id=event.job_id,
        event_number=event.number,
        image_index=event.image_index,
        step=event.step,
        png=event.png,
    )
    return pb.Envelope(request_id=request_id, preview=preview)


def _output(request_id: int, event: events.Output) -> pb.Envelope:
    output = pb.Output(job_id=event.job_id, event_number=event.number, offset=event.offset, text=event.text)
    return pb.Envelope(request_id=request_id, output=output)


def _result(request_id: int, event: events.Succeeded) -> pb.Envelope:
    result = pb.Result(
        job_id=event.job_id,
        event_number=event.number,
        artifacts=[artifact_message(artifact) for artifact in event.artifacts],
        warnings=event.warnings,
        queued_seconds=event.queued_seconds,
        processing_seconds=event.processing_seconds,
        output=json_text(event.output),
        figures=event.figures,
    )
    return pb.Envelope(request_id=request_id, result=result)


def _failed(request_id: int, event: events.Failed) -> pb.Envelope:
    failed = pb.Failed(job_id=event.job_id, event_number=event.number, error=error_message(event.failure))
    return pb.Envelope(request_id=request_id, failed=failed)


def _canceled(request_id: int, event: events.Canceled) -> pb.Envelope:
    return pb.Envelope(request_id=request_id, canceled=pb.Canceled(job_id=event.job_id, event_number=event.number))


EVENT_ENCODERS: dict[type, Callable[[int, Any], pb.Envelope]] = {
    events.Progress: _progress,
    events.Preview: _preview,
    events.Output: _output,
    events.Succeeded: _result,
    events.Failed: _failed,
    events.Canceled: _canceled,
}
"""An event to its message; Accepted has a function of its own."""


def json_text(value: Json) -> str:
    """As the wire has JSON: "" for none."""
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def encode_chunk(request_id: int, job_id: str, artifact: events.Artifact, offset: int, data: bytes) -> pb.Envelope:
    """A piece of a picture."""
    chunk = pb.Chunk(job_id=job_id, image_index=artifact.image_index, offset=offset, size=artifact.size, data=data)
    return pb.Envelope(request_id=request_id, chunk=chunk)


def artifact_message(artifact: events.Artifact) -> pb.Artifact:
    """Where a picture is."""
    return pb.Artifact(
        image_index=artifact.image_index,
        key=artifact.key,
        url=artifact.url,
        size=artifact.size,
        sha256=artifact.sha256,
        content_type=artifact.content_type,
        width=artifact.width,
        height=artifact.height,
        seed=artifact.seed,
    )
