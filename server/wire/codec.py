"""Between the wire's messages and the server's commands, replies and events. Pure: no state, no I/O.

Every table here is total over its side of proto/atelier.proto; a test holds that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ai.types import EngineNumbers
from proto import atelier_pb2 as pb
from server import commands, events, replies
from server.errors import AtelierError, Code, JobFailure, Refusal
from server.job import Job, JobState
from server.webhook import ALL_EVENTS, HookEvent, HookKind, Webhook
from watermark import ImageMark, Position, Signature, SignatureError, Size, TextMark

# ---------------------------------------------------------------------------------------------------------------------
# Messages to commands

DEFAULT_OPACITY = 0.7  # as the signature's own default; spelled out since proto3 cannot

_POSITIONS: dict[int, Position] = {
    pb.Signature.POSITION_UNSPECIFIED: Position.BOTTOM_RIGHT,
    pb.Signature.TOP_LEFT: Position.TOP_LEFT,
    pb.Signature.TOP_CENTER: Position.TOP_CENTER,
    pb.Signature.TOP_RIGHT: Position.TOP_RIGHT,
    pb.Signature.BOTTOM_LEFT: Position.BOTTOM_LEFT,
    pb.Signature.BOTTOM_CENTER: Position.BOTTOM_CENTER,
    pb.Signature.BOTTOM_RIGHT: Position.BOTTOM_RIGHT,
}
_SIZES: dict[int, Size] = {
    pb.Signature.SIZE_UNSPECIFIED: Size.MEDIUM,
    pb.Signature.SMALL: Size.SMALL,
    pb.Signature.MEDIUM: Size.MEDIUM,
    pb.Signature.LARGE: Size.LARGE,
}

_HOOK_EVENTS: dict[int, HookEvent] = {
    pb.Webhook.START: HookEvent.START,
    pb.Webhook.PROGRESS: HookEvent.PROGRESS,
    pb.Webhook.COMPLETED: HookEvent.COMPLETED,
}


def _given(message: Any, field: str) -> Any:
    """An optional field's value, None where the sender left it out."""
    return getattr(message, field) if message.HasField(field) else None


def _submit(message: pb.Submit, owner: str) -> commands.Submit:
    commands.check_adapter_count(len(message.adapters))  # before half a million of them are made into objects
    return commands.Submit(
        owner=owner,
        prompt=message.prompt,
        model=message.model,
        negative_prompt=message.negative_prompt,
        width=_given(message, "width"),
        height=_given(message, "height"),
        num_inference_steps=_given(message, "num_inference_steps"),
        guidance_scale=_given(message, "guidance_scale"),
        seed=_given(message, "seed"),
        num_images=message.num_images if message.HasField("num_images") else 1,
        adapters=tuple(
            commands.AdapterUse(use.name, use.scale if use.HasField("scale") else 1.0) for use in message.adapters
        ),
        solver=message.solver,
        priority=message.priority,
        deadline_seconds=_given(message, "deadline_seconds"),
        signature=_signature(message.signature) if message.HasField("signature") else None,
        preview_every_steps=message.preview_every_steps,
        init_image=message.init_image,
        strength=_given(message, "strength"),
        use_refiner=_given(message, "use_refiner"),
        refiner_strength=_given(message, "refiner_strength"),
        webhook=_webhook(message.webhook) if message.HasField("webhook") else None,
        idempotency_key=message.idempotency_key,
    )


def _webhook(message: pb.Webhook) -> Webhook:
    events = set(message.events)
    if not events <= _HOOK_EVENTS.keys():
        limit = ", ".join(f"{event.name} ({number})" for number, event in _HOOK_EVENTS.items())
        raise Refusal.invalid("webhook.events", f"of {limit}", sorted(events - _HOOK_EVENTS.keys())[:3])
    chosen = frozenset(_HOOK_EVENTS[event] for event in events)
    return Webhook(kind=HookKind.GENERIC, url=message.url, events=chosen or ALL_EVENTS)


def _signature(message: pb.Signature) -> Signature:
    kind = message.WhichOneof("mark")
    try:
        if kind is None:
            raise SignatureError(
                "mark", "a text or an image", "signature.mark must be a text or an image, it is neither"
            )
        return Signature(
            mark=TextMark(message.text) if kind == "text" else ImageMark(message.image),
            position=_chosen(_POSITIONS, message.position, "position"),
            size=_chosen(_SIZES, message.size, "size"),
            opacity=message.opacity if message.HasField("opacity") else DEFAULT_OPACITY,
            artist=message.artist,
        )
    except SignatureError as error:
        field = f"signature.{error.field}"
        raise Refusal(Code.INVALID_PARAMETER, f"{field}: {error.message}", field=field, limit=error.limit) from None


def _chosen(table: dict[int, Any], number: int, field: str) -> Any:
    if number not in table:
        limit = f"0 to {max(table)}"
        raise SignatureError(field, limit, f"must be {limit}, not {number}")
    return table[number]


DECODERS: dict[str, Callable[[Any, str], commands.Command]] = {
    "submit": _submit,
    "cancel": lambda message, owner: commands.Cancel(owner=owner, job_id=message.job_id),
    "watch": lambda message, owner: commands.Watch(owner=owner, job_id=message.job_id, from_event=message.from_event),
    "get_job": lambda message, owner: commands.GetJob(owner=owner, job_id=message.job_id),
    "list_models": lambda message, owner: commands.ListModels(),
    "get_server_status": lambda message, owner: commands.GetServerStatus(),
    "ping": lambda message, owner: commands.Ping(message.client_time_us),
}
"""A request's message to its command. Raises Refusal."""

# ---------------------------------------------------------------------------------------------------------------------
# Errors


def encode_error(request_id: int, error: AtelierError) -> pb.Envelope:
    """A refusal as the answer to a request."""
    return pb.Envelope(request_id=request_id, error=_error(error))


def encode_goodbye(error: AtelierError) -> pb.Envelope:
    """The last message of a connection."""
    return pb.Envelope(goodbye=pb.Goodbye(code=error.code.name, message=error.message))


def _error(error: AtelierError) -> pb.Error:
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


# ---------------------------------------------------------------------------------------------------------------------
# Replies to messages

_JOB_STATES: dict[JobState, pb.JobState] = {
    JobState.QUEUED: pb.JOB_QUEUED,
    JobState.STARTING: pb.JOB_STARTING,
    JobState.PROCESSING: pb.JOB_PROCESSING,
    JobState.RETRYING: pb.JOB_RETRYING,
    JobState.SUCCEEDED: pb.JOB_SUCCEEDED,
    JobState.FAILED: pb.JOB_FAILED,
    JobState.CANCELED: pb.JOB_CANCELED,
}
_MODEL_STATES: dict[replies.ModelState, pb.ModelState] = {
    replies.ModelState.ON_DISK: pb.MODEL_ON_DISK,
    replies.ModelState.LOADING: pb.MODEL_LOADING,
    replies.ModelState.READY: pb.MODEL_READY,
    replies.ModelState.UNAVAILABLE: pb.MODEL_UNAVAILABLE,
}
_SERVER_STATES: dict[replies.ServerState, pb.ServerState] = {
    replies.ServerState.LOADING: pb.LOADING,
    replies.ServerState.READY: pb.READY,
    replies.ServerState.DRAINING: pb.DRAINING,
    replies.ServerState.FAILED: pb.FAILED,
}


def _pong(request_id: int, reply: replies.Pong) -> pb.Envelope:
    envelope = pb.Envelope(request_id=request_id)
    pong = envelope.pong  # in place: half the time of building it apart, and a Ping is mostly this
    pong.client_time_us = reply.client_time_us
    pong.server_time_us = reply.server_time_us
    return envelope


def _cancel_requested(request_id: int, reply: replies.CancelRequested) -> pb.Envelope:
    requested = pb.CancelRequested(job_id=reply.job_id, state=_JOB_STATES[reply.state])
    return pb.Envelope(request_id=request_id, cancel_requested=requested)


def _job(request_id: int, view: replies.JobView) -> pb.Envelope:
    job: Job = view.job
    request = job.request
    message = pb.Job(
        job_id=job.id,
        state=_JOB_STATES[job.state],
        model=request.model,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        seed=request.seed,
        num_images=request.num_images,
        solver=request.solver,
        priority=request.priority,
        percent=view.fraction * 100,
        created_at_us=_microseconds(job.created_at),
        started_at_us=_microseconds(job.started_at),
        completed_at_us=_microseconds(job.completed_at),
        artifacts=[_artifact(artifact) for artifact in job.artifacts],
        warnings=job.warnings,
        error=_error(job.failure) if job.failure else None,
        last_event=view.last_event,
        adapters=[pb.AdapterUse(name=use.name, scale=use.scale) for use in request.adapters],
        strength=request.strength,
        refiner_strength=request.refiner_strength or 0.0,
    )
    return pb.Envelope(request_id=request_id, job=message)


def _models(request_id: int, reply: replies.ModelList) -> pb.Envelope:
    return pb.Envelope(request_id=request_id, models=pb.Models(models=[_model(view) for view in reply.models]))


def _model(view: replies.ModelView) -> pb.Model:
    card = view.card
    return pb.Model(
        name=card.name,
        family=card.family,
        description=card.description,
        state=_MODEL_STATES[view.state],
        default_width=card.defaults.width,
        default_height=card.defaults.height,
        default_num_inference_steps=card.defaults.num_inference_steps,
        default_guidance_scale=card.defaults.guidance_scale,
        size_multiple=card.size_multiple,
        min_size=card.min_size,
        solvers=card.solvers,
        adapters=list(card.adapters),
        problem=view.problem,
    )


def _status(request_id: int, reply: replies.StatusReply) -> pb.Envelope:
    status = pb.ServerStatus(
        state=_SERVER_STATES[reply.state],
        server_version=reply.server_version,
        uptime_seconds=reply.uptime_seconds,
        connections=reply.connections,
        jobs_waiting=reply.jobs_waiting,
        jobs_running=reply.jobs_running,
        jobs_succeeded=reply.jobs_succeeded,
        jobs_failed=reply.jobs_failed,
        jobs_canceled=reply.jobs_canceled,
        batch_size=reply.batch_size,
        steps=reply.steps,
        step_seconds=reply.step_seconds,
        reactor_lag_p99_ms=reply.reactor_lag_p99_ms,
        device=reply.device,
        problem=reply.problem,
        queue_wait_seconds=reply.queue_wait_seconds,
        join_wait_seconds=reply.join_wait_seconds,
        devices=[_device(numbers) for numbers in reply.devices],
        outbox=_outbox(reply.outbox),
    )
    return pb.Envelope(request_id=request_id, server_status=status)


def _outbox(outbox: replies.OutboxView) -> pb.OutboxStatus:
    return pb.OutboxStatus(
        webhooks_waiting=outbox.webhooks_waiting,
        webhooks_unknown=outbox.webhooks_unknown,
        webhooks_failed=outbox.webhooks_failed,
        webhooks_oldest_seconds=outbox.webhooks_oldest_seconds,
        dispatches_waiting=outbox.dispatches_waiting,
        dispatches_oldest_seconds=outbox.dispatches_oldest_seconds,
    )


def _device(numbers: EngineNumbers) -> pb.DeviceStatus:
    memory = numbers.memory
    return pb.DeviceStatus(
        device=numbers.device,
        images_running=numbers.running,
        images_waiting=numbers.waiting + numbers.parked,
        batch_size=numbers.last_batch,
        batch_rows=numbers.last_rows,
        step_seconds=numbers.step_times.mean,
        models=numbers.models,
        memory=pb.MemoryUse(
            limit=memory.limit,
            models=memory.models,
            adapters=memory.adapters,
            latents=memory.latents,
            activations=memory.activations,
        ),
        gpu_utilisation=numbers.gpu_utilisation,
        adapter_hits=numbers.adapter_hits,
        adapter_loads=numbers.adapter_loads,
        lost=numbers.lost,
        images_parked=numbers.parked,
    )


REPLY_ENCODERS: dict[type, Callable[[int, Any], pb.Envelope]] = {
    replies.Pong: _pong,
    replies.CancelRequested: _cancel_requested,
    replies.JobView: _job,
    replies.ModelList: _models,
    replies.StatusReply: _status,
}
"""A reply to its message. Admitted and Watched have none: they are answered by the job's events."""

# ---------------------------------------------------------------------------------------------------------------------
# Events to messages

_PHASES: dict[events.Phase, pb.Phase] = {
    events.Phase.QUEUED: pb.QUEUED,
    events.Phase.ENCODING: pb.ENCODING,
    events.Phase.DENOISING: pb.DENOISING,
    events.Phase.DECODING: pb.DECODING,
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


def _result(request_id: int, event: events.Succeeded) -> pb.Envelope:
    result = pb.Result(
        job_id=event.job_id,
        event_number=event.number,
        artifacts=[_artifact(artifact) for artifact in event.artifacts],
        warnings=event.warnings,
        queued_seconds=event.queued_seconds,
        processing_seconds=event.processing_seconds,
    )
    return pb.Envelope(request_id=request_id, result=result)


def _failed(request_id: int, event: events.Failed) -> pb.Envelope:
    failed = pb.Failed(job_id=event.job_id, event_number=event.number, error=_error(event.failure))
    return pb.Envelope(request_id=request_id, failed=failed)


def _canceled(request_id: int, event: events.Canceled) -> pb.Envelope:
    return pb.Envelope(request_id=request_id, canceled=pb.Canceled(job_id=event.job_id, event_number=event.number))


EVENT_ENCODERS: dict[type, Callable[[int, Any], pb.Envelope]] = {
    events.Progress: _progress,
    events.Preview: _preview,
    events.Succeeded: _result,
    events.Failed: _failed,
    events.Canceled: _canceled,
}
"""An event to its message; Accepted has a function of its own."""


def encode_chunk(request_id: int, job_id: str, artifact: events.Artifact, offset: int, data: bytes) -> pb.Envelope:
    """A piece of a picture."""
    chunk = pb.Chunk(job_id=job_id, image_index=artifact.image_index, offset=offset, size=artifact.size, data=data)
    return pb.Envelope(request_id=request_id, chunk=chunk)


def _artifact(artifact: events.Artifact) -> pb.Artifact:
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


def _microseconds(seconds: float | None) -> int:
    return 0 if seconds is None else int(seconds * 1_000_000)
