"""Replies as the wire's messages. Pure: no state, no I/O; total over what handlers answer (server.replies)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ai.cards import ModelCard
from ai.types import EngineNumbers, GenerationRequest
from proto import atelier_pb2 as pb
from server import replies
from server.adapter_names import shown_name
from server.job import Job, JobState
from server.live.events import StreamModel
from server.model_names import shown
from server.wire.live import encode_closed, encode_opened
from server.wire.telling import artifact_message, error_message, json_text

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
        model=shown(request.model),
        seed=request.seed,
        priority=request.priority,
        percent=view.fraction * 100,
        created_at_us=_microseconds(job.created_at),
        started_at_us=_microseconds(job.started_at),
        completed_at_us=_microseconds(job.completed_at),
        artifacts=[artifact_message(artifact) for artifact in job.artifacts],
        warnings=job.warnings,
        error=error_message(job.failure) if job.failure else None,
        last_event=view.last_event,
        output=json_text(job.output),
        figures=job.figures,
    )
    if isinstance(request, GenerationRequest):
        _add_picture(message, request)
    else:
        message.input = json_text(request.input)
    return pb.Envelope(request_id=request_id, job=message)


def _add_picture(message: pb.Job, request: GenerationRequest) -> None:
    """What was asked for of pictures."""
    message.prompt = request.prompt
    message.negative_prompt = request.negative_prompt
    message.width = request.width
    message.height = request.height
    message.num_inference_steps = request.num_inference_steps
    message.guidance_scale = request.guidance_scale
    message.num_images = request.num_images
    message.solver = request.solver
    message.strength = request.strength
    message.refiner_strength = request.refiner_strength or 0.0
    message.adapters.extend(pb.AdapterUse(name=shown_name(use.name), scale=use.scale) for use in request.adapters)


def _models(request_id: int, reply: replies.ModelList) -> pb.Envelope:
    models = [*map(_model, reply.models), *map(_stream_model, reply.stream)]
    return pb.Envelope(request_id=request_id, models=pb.Models(models=models))


def _stream_model(model: StreamModel) -> pb.Model:
    return pb.Model(
        name=model.name,
        description=model.description,
        state=pb.MODEL_READY,
        model_type="stream",
        default_width=model.width,
        default_height=model.height,
    )


def _model(view: replies.ModelView) -> pb.Model:
    card = view.card
    message = pb.Model(
        name=view.name,
        description=card.description,
        state=_MODEL_STATES[view.state],
        problem=view.problem,
        model_type=card.model_type,
    )
    if not isinstance(card, ModelCard):
        message.input_schema = json_text(card.input_schema)
        return message
    message.family = card.family
    message.default_width = card.defaults.width
    message.default_height = card.defaults.height
    message.default_num_inference_steps = card.defaults.num_inference_steps
    message.default_guidance_scale = card.defaults.guidance_scale
    message.size_multiple = card.size_multiple
    message.min_size = card.min_size
    message.solvers.extend(card.solvers)
    message.adapters.extend(card.adapters)
    return message


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
        settings=reply.settings,
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


def _udp_address(request_id: int, reply: replies.UdpAddress) -> pb.Envelope:
    address = pb.UdpAddress(
        host=reply.host,
        port=reply.port,
        key_id=reply.key_id,
        key=reply.key,
        expires_seconds=reply.expires_seconds,
        heartbeat_seconds=reply.heartbeat_seconds,
    )
    return pb.Envelope(request_id=request_id, udp_address=address)


REPLY_ENCODERS: dict[type, Callable[[int, Any], pb.Envelope]] = {
    replies.Pong: _pong,
    replies.CancelRequested: _cancel_requested,
    replies.JobView: _job,
    replies.ModelList: _models,
    replies.StatusReply: _status,
    replies.LiveFollowed: lambda request_id, reply: encode_opened(request_id, reply.opened),
    replies.LiveEnded: lambda request_id, reply: encode_closed(request_id, reply.closed),
    replies.UdpAddress: _udp_address,
}
"""A reply to its message. Admitted and Watched have none: they are answered by the job's events."""


def _microseconds(seconds: float | None) -> int:
    return 0 if seconds is None else int(seconds * 1_000_000)
