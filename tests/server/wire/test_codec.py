"""Between the wire's messages and commands, replies and events."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from ai.histogram import NO_SECONDS
from ai.types import EngineNumbers, MemoryNumbers, TextRequest
from proto import atelier_pb2 as pb
from server import commands, events, replies
from server.errors import Code, JobFailure, Refusal
from server.job import JobState
from server.webhook import ALL_EVENTS, HookEvent, HookKind, Webhook
from server.wire import answers, codec, telling
from server.wire.connection import REQUESTS
from tests.server.database.contract import ARTIFACT, a_job
from tests.server.fakes import CARD, TEXT_CARD
from tests.server.pictures import a_png
from watermark import ImageMark, Position, Signature, Size, TextMark


def submit(**fields: Any) -> Any:
    """A Submit message as the command that Ada's connection makes of it."""
    return codec.DECODERS["submit"](pb.Submit(**{"prompt": "a star", **fields}), "ada")


# Totality


def test_every_request_has_a_decoder() -> None:
    """And nothing else has one; each makes a command of its own type."""
    assert set(codec.DECODERS) == REQUESTS
    messages = {
        kind: {
            "submit": pb.Submit(prompt="a star"),
            "predict": pb.Predict(model="words"),
            "open_live": pb.OpenLive(model="stream-demo"),
        }.get(kind, getattr(pb.Envelope(), kind))
        for kind in codec.DECODERS
    }  # fmt: skip
    made = {type(codec.DECODERS[kind](message, "ada")) for kind, message in messages.items()}
    over_http_alone = {commands.ListJobs, commands.GetModel, commands.CheckSubmit, *get_args(commands.CatalogueCommand)}
    assert made == set(get_args(commands.Command)) - over_http_alone


def test_every_reply_and_event_has_an_encoder() -> None:
    """Admitted, Watched and Accepted have their own ways; lists of jobs are told over HTTP alone."""
    answered = {
        kind for kind in vars(replies).values() if isinstance(kind, type) and kind.__module__ == "server.replies"
    }
    enums = {replies.ModelState, replies.ServerState}
    parts = {replies.ModelView, replies.OutboxView, replies.Admitted, replies.Watched, replies.JobList}
    parts |= {
        replies.VersionView,
        replies.Unoffered,
        replies.FoundModel,
        replies.AdapterList,
    }  # over HTTP alone
    assert set(answers.REPLY_ENCODERS) == answered - enums - parts
    told = {kind for group in get_args(events.Event) for kind in (get_args(group) or (group,))}
    assert set(telling.EVENT_ENCODERS) == told - {events.Accepted}


@pytest.mark.parametrize(
    ("table", "ours", "theirs", "unspecified"),
    [
        (answers._JOB_STATES, JobState, pb.JobState, {"JOB_STATE_UNSPECIFIED"}),
        (answers._MODEL_STATES, replies.ModelState, pb.ModelState, {"MODEL_STATE_UNSPECIFIED"}),
        (answers._SERVER_STATES, replies.ServerState, pb.ServerState, {"SERVER_STATE_UNSPECIFIED"}),
        (telling._PHASES, events.Phase, pb.Phase, set()),
    ],
    ids=["job states", "model states", "server states", "phases"],
)
def test_every_enum_is_told_in_full(table: Any, ours: Any, theirs: Any, unspecified: set[str]) -> None:
    """Each of ours has a number of its own, of the same name, and every number of the wire is used."""
    assert set(table) == set(ours)
    assert {theirs.Name(number) for number in table.values()} == set(theirs.keys()) - unspecified
    for state, number in table.items():
        assert theirs.Name(number).removeprefix("JOB_").removeprefix("MODEL_") == state.name


def test_every_place_and_size_of_a_signature_can_be_asked_for() -> None:
    """By the name it has on the wire; unspecified is bottom right and medium."""
    positions = {pb.Signature.Position.Name(number): place for number, place in codec._POSITIONS.items()}
    assert set(positions) == set(pb.Signature.Position.keys())
    assert positions.pop("POSITION_UNSPECIFIED") is Position.BOTTOM_RIGHT
    assert {name: place.name for name, place in positions.items()} == {place.name: place.name for place in Position}
    sizes = {pb.Signature.Size.Name(number): size for number, size in codec._SIZES.items()}
    assert sizes.pop("SIZE_UNSPECIFIED") is Size.MEDIUM
    assert {name: size.name for name, size in sizes.items()} == {size.name: size.name for size in Size}


def test_every_event_of_a_webhook_can_be_asked_for() -> None:
    """By its name; unspecified is none."""
    names = {pb.Webhook.Event.Name(number): event.name for number, event in codec._HOOK_EVENTS.items()}
    assert names == {event.name: event.name for event in HookEvent}
    assert set(pb.Webhook.Event.keys()) == {*names, "EVENT_UNSPECIFIED"}


# Commands


def test_a_submit_with_nothing_but_a_prompt() -> None:
    """What is left out is None, or the contract's own default."""
    assert submit() == commands.Submit(owner="ada", prompt="a star")


def test_a_submit_with_everything() -> None:
    """Each field arrives in its place, zeros that were sent among them."""
    command = submit(
        idempotency_key="key",
        model="demo",
        negative_prompt="rain",
        width=64,
        height=72,
        num_inference_steps=0,
        guidance_scale=0.0,
        seed=0,
        num_images=4,
        adapters=[pb.AdapterUse(name="ink"), pb.AdapterUse(name="gold", scale=0.0)],
        solver="euler",
        priority=-7,
        deadline_seconds=1.5,
        signature=pb.Signature(text="Ada"),
        preview_every_steps=3,
        init_image=b"a file",
        strength=0.5,
        use_refiner=False,
        refiner_strength=0.0,
        webhook=pb.Webhook(url="https://hooks.test", events=[pb.Webhook.START, pb.Webhook.START]),
    )
    assert command == commands.Submit(
        owner="ada",
        prompt="a star",
        model="demo",
        negative_prompt="rain",
        width=64,
        height=72,
        num_inference_steps=0,
        guidance_scale=0.0,
        seed=0,
        num_images=4,
        adapters=(commands.AdapterUse("ink", 1.0), commands.AdapterUse("gold", 0.0)),
        solver="euler",
        priority=-7,
        deadline_seconds=1.5,
        signature=Signature(TextMark("Ada")),
        preview_every_steps=3,
        init_image=b"a file",
        strength=0.5,
        use_refiner=False,
        refiner_strength=0.0,
        webhook=Webhook(kind=HookKind.GENERIC, url="https://hooks.test", events=frozenset({HookEvent.START})),
    )
    assert command.idempotency_key == "key"


def test_the_owner_is_the_connection_s() -> None:
    """Of whichever request needs one."""
    for kind in ("cancel", "watch", "get_job"):
        command: Any = codec.DECODERS[kind](getattr(pb.Envelope(), kind), "ada")
        assert command.owner == "ada"


def test_a_signature_with_everything() -> None:
    """An image, its place, size, opacity and artist; an opacity of 0 is one that was asked for."""
    message = pb.Signature(
        image=a_png(), position=pb.Signature.TOP_CENTER, size=pb.Signature.LARGE, opacity=0.0, artist="Ada L."
    )
    assert submit(signature=message).signature == Signature(
        ImageMark(a_png()), Position.TOP_CENTER, Size.LARGE, 0.0, "Ada L."
    )


@pytest.mark.parametrize(
    ("fields", "field", "limit"),
    [
        ({}, "signature.mark", "a text or an image"),
        ({"text": ""}, "signature.text", "at least 1 visible character"),
        ({"text": "a\nb"}, "signature.text", "one line"),
        ({"text": "x" * 101}, "signature.text", "at most 100 characters"),
        ({"image": b"GIF89a"}, "signature.image", "PNG"),
        ({"image": a_png()[:-5]}, "signature.image", "PNG"),
        ({"text": "a", "opacity": 1.01}, "signature.opacity", "0 to 1"),
        ({"text": "a", "opacity": math.nan}, "signature.opacity", "0 to 1"),
        ({"text": "a", "position": 7}, "signature.position", "0 to 6"),
        ({"text": "a", "position": -1}, "signature.position", "0 to 6"),
        ({"text": "a", "size": 4}, "signature.size", "0 to 3"),
        ({"text": "a", "artist": "x" * 201}, "signature.artist", "at most 200 characters"),
    ],
)
def test_a_bad_signature_is_refused_by_its_field(fields: dict[str, Any], field: str, limit: str) -> None:
    """As the field stands in the protocol."""
    with pytest.raises(Refusal) as caught:
        submit(signature=pb.Signature(**fields))
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, field)
    assert limit in caught.value.limit


def test_a_webhook_that_names_no_event_is_told_everything() -> None:
    """To whatever address: whether it may be called is for the server to say."""
    assert submit(webhook=pb.Webhook(url="x")).webhook == Webhook(kind=HookKind.GENERIC, url="x", events=ALL_EVENTS)


def test_an_event_that_there_is_not_is_refused() -> None:
    """As the field stands in the protocol, with those that there are."""
    with pytest.raises(Refusal, match=r"START \(1\), PROGRESS \(2\), COMPLETED \(3\), not \[0, 9\]") as caught:
        submit(webhook=pb.Webhook.FromString(b"\x12\x03\x09\x01\x00"))  # a later version's event among them
    assert caught.value.field == "webhook.events"


def test_half_a_million_adapters_are_refused_unread() -> None:
    """Before they are made into objects."""
    message = pb.Submit(prompt="a star", adapters=[pb.AdapterUse()] * 10_000)
    with pytest.raises(Refusal, match="at most 8"):
        codec.DECODERS["submit"](message, "ada")


# Errors


@pytest.mark.parametrize("code", list(Code))
def test_an_error_survives_the_way_there_and_back(code: Code) -> None:
    """Code, field, limit, text and time."""
    error = Refusal(code, "no", field="width", limit="64", retry_after_seconds=1.5)
    envelope = telling.encode_error(7, error)
    assert envelope.request_id == 7
    back = telling.decode_failure(envelope.error)
    assert vars(back) == vars(error)


def test_a_code_of_a_later_version_is_an_internal_error() -> None:
    """A client older than its server is told something rather than nothing."""
    message = pb.Error.FromString(pb.Error(message="new").SerializeToString() + b"\x08\xff\xff\x03")
    assert telling.decode_failure(message).code is Code.INTERNAL_ERROR


def test_a_goodbye_carries_code_and_text() -> None:
    """And no request's number."""
    envelope = telling.encode_goodbye(Refusal(Code.IDLE_TIMEOUT, "too quiet"))
    assert (envelope.request_id, envelope.goodbye.code, envelope.goodbye.message) == (0, pb.IDLE_TIMEOUT, "too quiet")


# Replies and events


def said(reply: object) -> Any:
    """A reply as its message."""
    envelope = answers.REPLY_ENCODERS[type(reply)](5, reply)
    assert envelope.request_id == 5
    return getattr(envelope, envelope.WhichOneof("message") or "")


def test_a_job_is_told_whole() -> None:
    """All that its record and the board know; times in microseconds, 0 for what was not yet."""
    job = a_job(state=JobState.FAILED, started_at=2.5, failure=JobFailure(Code.STORAGE_FAILED, "full"))
    message = said(replies.JobView(job, 0.25, 9))
    assert (message.job_id, message.state, message.percent, message.last_event) == ("job-1", pb.JOB_FAILED, 25.0, 9)
    assert (message.created_at_us, message.started_at_us, message.completed_at_us) == (
        1_700_000_000_250_000,
        2_500_000,
        0,
    )
    assert (message.error.code, message.error.message) == (pb.STORAGE_FAILED, "full")
    for name in ("model", "prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale",
                 "seed", "num_images", "solver", "priority", "strength", "refiner_strength"):  # fmt: skip
        assert getattr(message, name) == getattr(job.pictures_asked, name)
    assert [(use.name, use.scale) for use in message.adapters] == [
        (use.name, use.scale) for use in job.pictures_asked.adapters
    ]
    assert not said(replies.JobView(a_job(), 0.0, 0)).HasField("error")


def test_a_text_s_job_is_told_whole() -> None:
    """What was asked for and what came of it are JSON; nothing is said of pictures."""
    request = TextRequest(
        request_id="job-1", model="words", prompt="a", max_length=5, temperature=0.5, top_p=0.9, top_k=3, seed=8
    )
    job = a_job(request=request, state=JobState.SUCCEEDED, output="a text", figures={"output_token_count": 2})
    message = said(replies.JobView(job, 1.0, 9))
    assert (message.model, message.seed, message.width, message.prompt) == ("words", 8, 0, "")
    assert json.loads(message.input) == request.input
    assert (json.loads(message.output), dict(message.figures)) == ("a text", {"output_token_count": 2})


def test_an_input_is_a_json_object() -> None:
    """Anything else is refused by name; nothing at all is an empty one."""
    assert codec.DECODERS["predict"](pb.Predict(model="words", input='{"a": [1, "x"]}'), "ada") == commands.Predict(
        owner="ada", model="words", input={"a": [1, "x"]}
    )
    assert codec.DECODERS["predict"](pb.Predict(model="words"), "ada") == commands.Predict(owner="ada", model="words")
    signed = codec.DECODERS["predict"](pb.Predict(model="words", signature=pb.Signature(text="Ada")), "ada")
    assert signed == commands.Predict(owner="ada", model="words", signature=Signature(TextMark("Ada")))
    for text in ("[1]", "{", '{"a": NaN}', "3"):
        with pytest.raises(Refusal) as refused:
            codec.DECODERS["predict"](pb.Predict(model="words", input=text), "ada")
        assert (refused.value.code, refused.value.field) == (Code.INVALID_PARAMETER, "input")


A_DEVICE = EngineNumbers(
    device="cuda:0", running=1, waiting=2, parked=3, last_batch=4, last_rows=8, step_times=NO_SECONDS.add(0.5),
    models=("demo",), memory=MemoryNumbers(limit=9, models=4, adapters=3, latents=2, activations=1), gpu_utilisation=0.75,
    adapter_hits=5, adapter_loads=6, lost="gone",
)  # fmt: skip


def test_models_and_status_and_the_rest_are_told_whole() -> None:
    """No field is left at its zero."""
    card = replace(
        CARD, family="sd15", description="shapes", adapters={"chalk": Path("chalk"), "ink": Path("ink.safetensors")}
    )
    view = replies.ModelView(card, replies.ModelState.UNAVAILABLE, "no files")
    (model,) = said(replies.ModelList((view,))).models
    said_of_it = {field.name for field, _ in model.ListFields()}
    assert said_of_it == {field.name for field in pb.Model.DESCRIPTOR.fields} - {"input_schema"}
    writing = replies.ModelView(TEXT_CARD, replies.ModelState.READY)
    (words,) = said(replies.ModelList((writing,))).models
    assert (words.name, words.model_type, words.default_width) == ("words", "text-generation", 0)
    assert json.loads(words.input_schema) == TEXT_CARD.input_schema
    assert list(model.adapters) == ["chalk", "ink"]
    status = said(
        replies.StatusReply(
            state=replies.ServerState.FAILED, server_version="1", uptime_seconds=1.0, connections=2, jobs_waiting=3,
            jobs_running=4, jobs_succeeded=5, jobs_failed=6, jobs_canceled=7, batch_size=8, steps=9, step_seconds=10.0,
            reactor_lag_p99_ms=11.0, device="cpu", problem="x", queue_wait_seconds=12.0, join_wait_seconds=13.0,
            devices=(A_DEVICE, EngineNumbers()),
            outbox=replies.OutboxView(
                webhooks_waiting=1, webhooks_unknown=2, webhooks_failed=3, webhooks_oldest_seconds=4.0,
                dispatches_waiting=5, dispatches_oldest_seconds=6.0,
            ),
            settings="https://settings.test: groups/gpu",
        )
    )  # fmt: skip
    assert {field.name for field, _ in status.ListFields()} == {
        field.name for field in pb.ServerStatus.DESCRIPTOR.fields
    }
    assert {field.name for field, _ in status.outbox.ListFields()} == {
        field.name for field in pb.OutboxStatus.DESCRIPTOR.fields
    }
    device, other = status.devices
    assert {field.name for field, _ in device.ListFields()} == {
        field.name for field in pb.DeviceStatus.DESCRIPTOR.fields
    }
    assert {field.name for field, _ in device.memory.ListFields()} == {
        field.name for field in pb.MemoryUse.DESCRIPTOR.fields
    }
    assert (device.images_waiting, device.images_parked) == (A_DEVICE.waiting + A_DEVICE.parked, A_DEVICE.parked)
    assert (device.step_seconds, device.gpu_utilisation) == (0.5, 0.75)
    assert not other.HasField("gpu_utilisation")
    requested = said(replies.CancelRequested("job-1", JobState.PROCESSING))
    assert (requested.job_id, requested.state) == ("job-1", pb.JOB_PROCESSING)
    pong = said(replies.Pong(3, 4))
    assert (pong.client_time_us, pong.server_time_us) == (3, 4)


EVENTS: list[events.Event] = [
    events.Progress(number=3, job_id="job-1", phase=events.Phase.DENOISING, step=5, total_steps=20,
                    fraction=0.25, eta_seconds=1.5),
    events.Preview(number=3, job_id="job-1", image_index=1, step=5, png=b"png"),
    events.Succeeded(number=3, job_id="job-1", artifacts=(ARTIFACT,), warnings=("cut",), queued_seconds=1.0,
                     processing_seconds=2.0, output="once", figures={"output_token_count": 1}),
    events.Output(number=3, job_id="job-1", offset=4, text=" upon"),
    events.Failed(number=3, job_id="job-1", failure=JobFailure(Code.STORAGE_FAILED, "full")),
    events.Canceled(number=3, job_id="job-1"),
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_told_whole(event: events.Event) -> None:
    """Under its request, with its number, and no field left at its zero."""
    envelope = telling.EVENT_ENCODERS[type(event)](5, event)
    message: Any = getattr(envelope, envelope.WhichOneof("message") or "")
    assert (envelope.request_id, message.event_number, message.job_id) == (5, 3, "job-1")
    assert {field.name for field, _ in message.ListFields()} == {field.name for field in message.DESCRIPTOR.fields}


def test_accepted_and_chunk_have_their_own_ways() -> None:
    """With what only the request knows."""
    accepted = telling.encode_accepted(5, events.Accepted(number=0, job_id="job-1", seed=7), duplicate=True).accepted
    assert (accepted.job_id, accepted.duplicate, accepted.seed) == ("job-1", True, 7)
    chunk = telling.encode_chunk(5, "job-1", ARTIFACT, 100, b"data").chunk
    assert (chunk.job_id, chunk.image_index, chunk.offset, chunk.size, chunk.data) == ("job-1", 3, 100, 123, b"data")


def test_an_artifact_is_told_whole() -> None:
    """Every field as it was stored."""
    (artifact,) = telling.EVENT_ENCODERS[events.Succeeded](5, EVENTS[2]).result.artifacts
    for field in pb.Artifact.DESCRIPTOR.fields:
        assert getattr(artifact, field.name) == getattr(ARTIFACT, field.name)


def test_a_trace_is_no_part_of_what_is_asked_for() -> None:
    """The same request in two traces is the same request; what an older server does not know harms nothing."""
    assert submit(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") == submit()
    told = pb.Submit(prompt="x", traceparent="00-1").SerializeToString()
    assert pb.Submit.FromString(told).traceparent == "00-1"
