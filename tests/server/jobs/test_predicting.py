"""Jobs that paint nothing: admitted, written, told and recorded as any other."""

from __future__ import annotations

from typing import Any

import pytest

from ai.types import InputError, OutOfMemory
from server import events
from server.commands import Predict
from server.errors import Code, Refusal
from server.job import JobState
from server.webhook import HookKind, Webhook
from tests.server.fakes import CARD, OTHER_CARD, TEXT_CARD, Recorder, settle
from tests.server.house import ADA, House

CARDS = (CARD, OTHER_CARD, TEXT_CARD)


def a_house(**given: Any) -> House:
    """One that has a model of texts too."""
    return House(cards=CARDS, **given)


async def test_a_text_is_told_piece_by_piece_and_recorded_at_its_end() -> None:
    """Defaults are filled in; the output and its figures are the job's."""
    house = a_house()
    job = await house.text("once", given={"seed": 4, "stop": ["."]}, priority=3)
    watcher = Recorder()
    await house.board.follow(job.id, watcher)
    asked = house.painter.texts[job.id]
    assert (asked.prompt, asked.max_length, asked.temperature, asked.top_p, asked.top_k) == ("once", 63, 1.0, 1.0, 50)
    assert (asked.seed, asked.stop, asked.priority, asked.owner) == (4, (".",), 3, ADA)
    house.painter.start(job.id)
    house.painter.speak(job.id, 0, " upon")
    house.painter.speak(job.id, 5, " a")
    await settle()
    assert house.board.said(job.id) == " upon a"
    house.painter.answer(job.id, " upon a time")
    await settle()
    told = [(event.offset, event.text) for event in watcher.events if isinstance(event, events.Output)]
    assert told == [(0, " upon"), (5, " a")]
    end = watcher.events[-1]
    assert isinstance(end, events.Succeeded)
    assert (end.output, end.artifacts, dict(end.figures)["output_token_count"]) == (" upon a time", (), 3)
    kept = await house.kept(job.id)
    assert (kept.state, kept.output, kept.figures["input_token_count"]) == (JobState.SUCCEEDED, " upon a time", 2)
    assert house.is_free()


async def test_who_comes_late_hears_all_that_was_written() -> None:
    """In one piece, then more as it comes."""
    house = a_house()
    job = await house.text()
    for offset, text in ((0, "one"), (3, " two"), (7, " three")):
        house.painter.speak(job.id, offset, text)
    watcher = Recorder()
    await house.board.follow(job.id, watcher)
    house.painter.speak(job.id, 13, " four")
    assert [(event.offset, event.text) for event in watcher.events if isinstance(event, events.Output)] == [
        (0, "one two three"),
        (13, " four"),
    ]


async def test_nobody_is_told_anything_twice_when_it_begins_again() -> None:
    """After a failure that passes it is written from its beginning; only what is new is told."""
    house = a_house(retry_delays=[5.0])
    job = await house.text()
    watcher = Recorder()
    await house.board.follow(job.id, watcher)
    house.painter.start(job.id)
    house.painter.speak(job.id, 0, "one two")
    house.painter.fail(job.id, OutOfMemory("full"))
    await settle()
    await house.pass_time(5.0)
    for offset, text in ((0, "one"), (3, " two th"), (10, "ree")):
        house.painter.speak(job.id, offset, text)
    told = [(event.offset, event.text) for event in watcher.events if isinstance(event, events.Output)]
    assert told == [(0, "one two"), (7, " th"), (10, "ree")]


async def test_an_input_that_only_the_model_can_judge_fails_the_job_by_name() -> None:
    """As INVALID_PARAMETER, with the input and its limit."""
    house = a_house()
    job = await house.text()
    house.painter.start(job.id)
    house.painter.fail(job.id, InputError("input.prompt", "at most 63 tokens", "has 70 tokens"))
    await settle()
    failure = (await house.kept(job.id)).failure
    assert failure is not None
    assert (failure.code, failure.field, failure.limit) == (
        Code.INVALID_PARAMETER, "input.prompt", "at most 63 tokens",
    )  # fmt: skip


async def test_a_text_can_be_canceled() -> None:
    """It ends at once, and its row is freed."""
    house = a_house()
    job = await house.text()
    house.painter.start(job.id)
    house.painter.speak(job.id, 0, "one")
    house.lifecycle.cancel(job.id)
    await settle()
    assert (await house.kept(job.id)).state is JobState.CANCELED
    assert house.painter.cancels == [job.id]
    assert house.is_free()


@pytest.mark.parametrize(
    ("model", "given", "code", "field"),
    [
        ("words", {"prompt": 3}, Code.INVALID_PARAMETER, "input.prompt"),
        ("words", {"max_length": 64}, Code.INVALID_PARAMETER, "input.max_length"),
        ("words", {"temperature": -0.1}, Code.INVALID_PARAMETER, "input.temperature"),
        ("words", {"top_p": 0}, Code.INVALID_PARAMETER, "input.top_p"),
        ("words", {"top_k": 1.5}, Code.INVALID_PARAMETER, "input.top_k"),
        ("words", {"stop": [""]}, Code.INVALID_PARAMETER, "input.stop[0]"),
        ("words", {"stop": "."}, Code.INVALID_PARAMETER, "input.stop"),
        ("words", {"seed": -1}, Code.INVALID_PARAMETER, "input.seed"),
        ("words", {"min_p": 0.1}, Code.INVALID_PARAMETER, "input.min_p"),
        ("demo", {"prompt": "a"}, Code.INVALID_PARAMETER, "model"),
        ("nobody", {"prompt": "a"}, Code.MODEL_NOT_FOUND, "model"),
    ],
)
async def test_what_the_model_does_not_take_is_refused(model: str, given: Any, code: Code, field: str) -> None:
    """By its name, before there is a job."""
    house = a_house()
    with pytest.raises(Refusal) as refused:
        await house.submit(Predict(owner=ADA, model=model, input=given))
    assert (refused.value.code, refused.value.field) == (code, field)
    assert house.is_free()


async def test_pictures_are_not_asked_of_a_model_of_texts() -> None:
    """Submit says so."""
    with pytest.raises(Refusal) as refused:
        await a_house().job(model="words")
    assert (refused.value.code, refused.value.field) == (Code.INVALID_PARAMETER, "model")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"model": ""}, "model"),
        ({"input": {"prompt": float("nan")}}, "input"),
        ({"input": {"prompt": "\ud800"}}, "input"),
        ({"input": {"prompt": "x" * 1_000_001}}, "input"),
        ({"priority": 101}, "priority"),
        ({"deadline_seconds": 0.0}, "deadline_seconds"),
        ({"idempotency_key": "k" * 201}, "idempotency_key"),
    ],
)
def test_what_no_server_takes_is_refused_when_the_command_is_made(given: dict[str, Any], field: str) -> None:
    """By its name."""
    with pytest.raises(Refusal) as refused:
        Predict(**{"owner": ADA, "model": "words", **given})
    assert refused.value.field == field


async def test_one_key_is_one_job() -> None:
    """Another input under it is refused, and so is a Submit."""
    house = a_house()
    job = await house.text("once", idempotency_key="k")
    again = await house.submit(Predict(owner=ADA, model="words", input={"prompt": "once"}, idempotency_key="k"))
    assert (again.job.id, again.duplicate) == (job.id, True)
    with pytest.raises(Refusal) as other:
        await house.text("twice", idempotency_key="k")
    with pytest.raises(Refusal) as pictures:
        await house.job("once", idempotency_key="k")
    assert (other.value.code, pictures.value.code) == (Code.IDEMPOTENCY_CONFLICT,) * 2


async def test_texts_and_pictures_share_places_and_webhooks_are_checked() -> None:
    """A refused webhook leaves nothing behind."""

    def refuse(hook: Webhook) -> None:
        raise Refusal.invalid("webhook.url", "a public address", hook.url)

    house = a_house(pending_per_owner=2, check_webhook=refuse)
    with pytest.raises(Refusal, match="public"):
        await house.text(webhook=Webhook(kind=HookKind.GENERIC, url="http://10.0.0.1"))
    await house.text()
    await house.job()
    with pytest.raises(Refusal) as full:
        await house.text()
    assert full.value.code is Code.RESOURCE_EXHAUSTED
