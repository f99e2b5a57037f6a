"""Predictions: created, looked at, listed, waited for, canceled. Known faults of servers of this dialect are not here."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import SecretStr

from ai.types import DeadlineExceeded, OutOfMemory
from server.doors.http.parts import HttpLimits
from server.errors import Code, Refusal
from server.identity import Identities
from server.job import JobState
from server.model_names import version_of
from server.webhook import ALL_EVENTS, HookEvent
from server.webhook_secrets import owner_secret
from tests.server.doors.http.door import TOKEN, Answer, Door
from tests.server.fakes import picture_key, settle
from tests.server.house import ADA, BOB, TOKENS, House
from tests.server.pictures import a_png

VERSION = version_of("demo")
BOBS = TOKENS[BOB].get_secret_value()
HOOK = "https://shop.test/hook"


async def create(door: Door, given: Any = None, **asked: Any) -> Answer:
    """POST /v1/predictions of the demo model, with these fields of input."""
    body = {"model_id": "demo", "input": {"prompt": "a star", **(given or {})}, **asked.pop("body", {})}
    return await door.ask("POST", "/v1/predictions", body, **asked)


async def created(door: Door, **given: Any) -> str:
    """Its id."""
    answer = await create(door, given)
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


async def status(door: Door, job_id: str) -> str:
    """As GET tells it."""
    return str((await door.ask("GET", f"/v1/predictions/{job_id}")).json()["status"])


def refused(answer: Answer, field: str, code: Code = Code.INVALID_PARAMETER) -> str:
    """A refusal's message, if it names the field."""
    error = answer.json()["error"]
    assert (error["code"], error["details"].get("field")) == (code.name, field), error
    return str(error["message"])


# Created


@pytest.mark.parametrize(
    "names",
    [
        {"model_id": "demo"},
        {"model": "atelier/demo"},
        {"version": VERSION},
        {"version": "atelier/demo"},
        {"version": f"atelier/demo:{VERSION}"},
        {"version": VERSION, "model": "atelier/demo", "model_id": "demo"},
    ],
)
async def test_a_model_is_named_by_each_dialect_s_words(names: Any) -> None:
    """All of them name the same one."""
    answer = await Door().ask("POST", "/v1/predictions", {**names, "input": {"prompt": "a star"}})
    told = answer.json()
    assert answer.status == 201
    assert (told["model"], told["model_id"], told["version"]) == ("atelier/demo", "demo", VERSION)


@pytest.mark.parametrize(
    "path",
    ["/v1/models/atelier/other/predictions", f"/v1/models/atelier/other/versions/{version_of('other')}/predictions"],
)
async def test_a_model_s_own_path_names_it(path: str) -> None:
    """And the body does not."""
    asked = {"input": {"prompt": "a star", "width": 128, "height": 128}}
    answer = await Door().ask("POST", path, asked)
    assert (answer.status, answer.json()["model_id"]) == (201, "other")
    refused(await Door().ask("POST", path, {**asked, "version": VERSION}), "version")


@pytest.mark.parametrize(
    ("names", "field", "code"),
    [
        ({}, "version", Code.INVALID_PARAMETER),
        ({"model_id": "nope"}, "model_id", Code.MODEL_NOT_FOUND),
        ({"version": "0" * 64}, "version", Code.MODEL_NOT_FOUND),
        ({"version": VERSION, "model": "atelier/other"}, "model", Code.INVALID_PARAMETER),
    ],
)
async def test_a_model_that_is_not_named_is_refused(names: Any, field: str, code: Code) -> None:
    """As is one that is not here, and two that differ."""
    refused(await Door().ask("POST", "/v1/predictions", {**names, "input": {"prompt": "a star"}}), field, code)


async def test_everything_that_is_asked_reaches_the_job() -> None:
    """Under the names that the engine knows."""
    door = Door()
    given = {
        "prompt": "a star", "negative_prompt": "moon", "num_inference_steps": 3, "guidance_scale": 2, "width": 128, "height": 128,
        "seed": 7, "num_outputs": 2, "adapters": ["chalk", {"name": "ink", "scale": 0.5}], "lora": "style-1", "lora_scale": 2,
        "scheduler": "euler",
    }  # fmt: skip
    body = {
        "model_id": "other",
        "input": given,
        "webhook": HOOK,
        "webhook_events_filter": ["logs", "output"],
        "stream": True,
    }
    job_id = (await door.ask("POST", "/v1/predictions", body, headers={"cancel-after": "1m30s"})).json()["id"]
    job = await door.house.kept(job_id)
    asked = job.pictures_asked
    assert (asked.prompt, asked.negative_prompt, asked.num_inference_steps, asked.guidance_scale) == (
        "a star",
        "moon",
        3,
        2,
    )
    assert (asked.width, asked.height, asked.seed, asked.num_images, asked.solver) == (128, 128, 7, 2, "euler")
    assert [(use.name, use.scale) for use in asked.adapters] == [("chalk", 1), ("ink", 0.5), ("style-1", 2)]
    assert job.webhook is not None
    assert (job.webhook.url, job.webhook.events) == (HOOK, frozenset({HookEvent.PROGRESS, HookEvent.COMPLETED}))
    assert (job.deadline_seconds, job.owner) == (90, ADA)


async def test_null_is_the_default() -> None:
    """Front ends send every field of a form."""
    given = dict.fromkeys(["negative_prompt", "width", "seed", "num_outputs", "scheduler", "image", "adapters", "lora"])
    told = (await create(Door(), given)).json()["input"]
    assert (told["width"], told["height"], told["num_outputs"], told["negative_prompt"]) == (64, 72, 1, "")


async def test_a_picture_can_be_begun_with() -> None:
    """As a data: URI, of the size that it has."""
    door = Door(limits=HttpLimits(max_body_bytes=100_000, max_bodies_bytes=1 << 20, chunk_bytes=1024))
    image = f"data:image/png;base64,{base64.b64encode(a_png(64, 64)).decode()}"
    told = (await create(door, {"image": image, "strength": 0.5})).json()
    assert (told["input"]["width"], told["input"]["height"], told["input"]["strength"]) == (64, 64, 0.5)
    no_picture = f"data:image/png;base64,{base64.b64encode(b'GIF89a').decode()}"
    refused(await create(door, {"image": no_picture}), "input.image")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"prompt": ""}, "input.prompt"),
        ({"prompt": "  "}, "input.prompt"),
        ({"prompt": "x" * 101}, "input.prompt"),
        ({"width": 520}, "input.width"),
        ({"height": 65}, "input.height"),
        ({"num_inference_steps": 51}, "input.num_inference_steps"),
        ({"guidance_scale": 51}, "input.guidance_scale"),
        ({"seed": -1}, "input.seed"),
        ({"num_outputs": 5}, "input.num_outputs"),
        ({"scheduler": "K_EULER"}, "input.scheduler"),
        ({"strength": 0.5}, "input.strength"),
        ({"image": "http://a.test/x.png"}, "input.image"),
        ({"lora_scale": 1.0}, "input.lora_scale"),
        ({"adapters": ["a"] * 9}, "input.adapters"),
        ({"adapters": [{"name": "ink", "weight": 1}]}, "input.adapters[0].weight"),
        ({"width": "64"}, "input.width"),
        ({"num_images": 2}, "input.num_images"),
        ({"max_length": 100}, "input.max_length"),
    ],
)
async def test_what_does_not_fit_is_refused_by_its_name(given: Any, field: str) -> None:
    """A known fault: input was stored, and never checked. Nothing is clamped, and nothing is left out in silence."""
    door = Door()
    answer = await create(door, given)
    assert answer.status == 422
    assert refused(answer, field).startswith(field)
    assert door.house.painter.known == {}


async def test_an_adapter_that_is_not_here_is_named() -> None:
    """By its place in the list."""
    refused(await create(Door(), {"adapters": ["ink"]}), "input.adapters[0].name", Code.ADAPTER_NOT_FOUND)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"webhook": "ftp://shop.test"}, "webhook"),
        ({"webhook": HOOK, "webhook_events_filter": ["done"]}, "webhook_events_filter[0]"),
        ({"webhook_events_filter": ["start"]}, "webhook_events_filter"),
        ({"webhook": HOOK, "webhook_completed": HOOK}, "webhook_completed"),
        ({"webhok": HOOK}, "webhok"),
    ],
)
async def test_a_webhook_that_makes_no_sense_is_refused(asked: Any, field: str) -> None:
    """Rather than never called."""
    refused(await create(Door(), body=asked), field)


@pytest.mark.parametrize(
    ("asked", "events"),
    [
        ({"webhook": HOOK}, ALL_EVENTS),
        ({"webhook": HOOK, "webhook_events_filter": []}, ALL_EVENTS),
        ({"webhook": HOOK, "webhook_events_filter": ["start"]}, {HookEvent.START}),
        ({"webhook_completed": HOOK}, {HookEvent.COMPLETED}),
    ],
)
async def test_who_is_told_of_what(asked: Any, events: Any) -> None:
    """Without a filter, of everything."""
    door = Door()
    job = await door.house.kept((await create(door, body=asked)).json()["id"])
    assert job.webhook is not None
    assert (job.webhook.url, job.webhook.events) == (HOOK, events)


async def test_a_full_queue_says_when_to_come_again() -> None:
    """A known fault: limits were built, and applied to nothing."""
    door = Door(House(pending=1))
    await created(door)
    answer = await create(door)
    assert (answer.status, answer.json()["error"]["code"]) == (429, "RESOURCE_EXHAUSTED")
    assert int(answer.headers["retry-after"]) > 0


async def test_nobody_is_served_without_a_token() -> None:
    """Where there are tokens."""
    assert (await create(Door(), token="")).status == 401


# One key, one prediction


async def test_put_is_one_prediction_however_often() -> None:
    """201, then 200 with the first; another request under the id is refused, and another owner's id is another's."""
    door = Door()
    body = {"model_id": "demo", "input": {"prompt": "a star"}}
    answers = [await door.ask("PUT", "/v1/predictions/mine-1", body) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    other = await door.ask("PUT", "/v1/predictions/mine-1", {"model_id": "demo", "input": {"prompt": "a moon"}})
    refused(other, "idempotency_key", Code.IDEMPOTENCY_CONFLICT)
    assert (await door.ask("PUT", "/v1/predictions/mine-1", body, token=BOBS)).status == 201
    assert len(door.house.painter.known) == 2


async def test_what_was_put_is_found_by_its_own_id() -> None:
    """Looked at, streamed and canceled; by its owner alone."""
    door = Door()
    told = (await door.ask("PUT", "/v1/predictions/mine-1", {"model_id": "demo", "input": {"prompt": "a star"}})).json()
    assert (await door.ask("GET", "/v1/predictions/mine-1")).json()["id"] == told["id"]
    assert (await door.ask("GET", "/v1/predictions/mine-1", token=BOBS)).status == 404
    assert (await door.ask("POST", "/v1/predictions/mine-1/cancel")).json()["status"] == "canceled"
    assert (await door.ask("GET", "/v1/predictions/mine-1/stream")).body.endswith(b'data: {"reason":"canceled"}\n\n')


# Waited for


async def test_an_answer_is_held_until_the_end() -> None:
    """201, whole."""
    door = Door()
    exchange = await door.open(
        "POST", "/v1/predictions", {"model_id": "demo", "input": {"prompt": "a star"}}, headers={"prefer": "wait"}
    )
    assert not exchange.started.is_set()
    door.house.painter.paint("job-1")
    await settle()
    answer = await exchange.answer()
    assert (answer.status, answer.json()["status"], answer.headers["preference-applied"]) == (
        201,
        "succeeded",
        "wait=60",
    )
    assert answer.json()["output"] == [f"https://pictures.test/{picture_key('job-1')}"]
    assert answer.headers["location"] == answer.json()["urls"]["get"] == "http://paint.test/v1/predictions/job-1"
    await door.house.pass_time(1.0)  # the listeners' own timer ends with them
    assert door.clock.getDelayedCalls() == []


async def test_an_answer_is_held_no_longer_than_asked_for() -> None:
    """202, `starting`: Replicate's client takes every other status for the end. The job goes on."""
    door = Door()
    exchange = await door.open(
        "POST", "/v1/predictions", {"model_id": "demo", "input": {"prompt": "a star"}}, headers={"prefer": "wait=5"}
    )
    door.house.painter.start("job-1")
    await settle()
    await door.house.pass_time(4.9)
    assert not exchange.started.is_set()
    await door.house.pass_time(0.2)
    answer = await exchange.answer()
    assert (answer.status, answer.json()["status"]) == (202, "starting")
    assert await status(door, "job-1") == "processing"


async def test_a_client_that_goes_away_takes_nothing_with_it() -> None:
    """The prediction is painted all the same."""
    door = Door()
    exchange = await door.open(
        "POST", "/v1/predictions", {"model_id": "demo", "input": {"prompt": "a star"}}, headers={"prefer": "wait"}
    )
    exchange.hang_up()
    assert (await exchange.answer()).status == 499
    door.house.painter.paint("job-1")
    await settle()
    assert await status(door, "job-1") == "succeeded"


async def test_asynchronous_is_202() -> None:
    """As Cog answers it; a wish that is out of range is refused, with its header's name."""
    door = Door()
    answer = await create(door, headers={"prefer": "respond-async"})
    assert (answer.status, answer.headers["preference-applied"]) == (202, "respond-async")
    refused(await create(door, headers={"prefer": "wait=61"}), "Prefer")
    refused(await create(door, headers={"cancel-after": "1s"}), "Cancel-After")
    assert len(door.house.painter.known) == 1


# Canceled


async def test_a_cancel_stops_the_engine_and_is_not_overwritten() -> None:
    """A known fault: the row was changed, the worker went on, and its end took the cancel's place."""
    door = Door()
    job_id = await created(door)
    door.house.painter.start(job_id)
    await settle()
    answer = await door.ask("POST", f"/v1/predictions/{job_id}/cancel")
    assert (answer.status, answer.json()["status"]) == (200, "canceled")
    assert answer.json()["completed_at"] is not None
    assert door.house.painter.cancels == [job_id]
    door.house.painter.finish(job_id)  # it was at its last step
    await settle()
    assert await status(door, job_id) == "canceled"
    assert (await door.house.kept(job_id)).state is JobState.CANCELED
    await door.house.pass_time(1.0)
    assert door.house.is_free()


async def test_a_cancel_that_comes_too_late_changes_nothing() -> None:
    """What has succeeded has."""
    door = Door()
    job_id = await created(door)
    door.house.painter.paint(job_id)
    await settle()
    assert (await door.ask("POST", f"/v1/predictions/{job_id}/cancel")).json()["status"] == "succeeded"


async def test_nobody_cancels_another_s() -> None:
    """Nor learns that it is there."""
    door = Door()
    job_id = await created(door)
    answer = await door.ask("POST", f"/v1/predictions/{job_id}/cancel", token=BOBS)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "JOB_NOT_FOUND")
    assert door.house.painter.cancels == []


async def test_cancel_after_is_kept() -> None:
    """By the server's clock, without anybody who waits; told as canceled, with the reason."""
    door = Door()
    job_id = (await create(door, headers={"cancel-after": "5s"})).json()["id"]
    door.house.painter.start(job_id)
    await door.house.pass_time(4.9)
    assert await status(door, job_id) == "processing"
    await door.house.pass_time(0.2)
    told = (await door.ask("GET", f"/v1/predictions/{job_id}")).json()
    assert (told["status"], told["error_code"]) == ("canceled", "DEADLINE_EXCEEDED")
    assert door.house.painter.cancels == [job_id]


# Listed


async def three_of_ada_s(door: Door) -> list[str]:
    """One that failed, one that its deadline ended, one that waits; and one of Bob's."""
    made = []
    for error in (OutOfMemory("no room"), DeadlineExceeded("late"), None):
        wish = {"cancel-after": "60s"} if isinstance(error, DeadlineExceeded) else None
        made.append(str((await create(door, headers=wish)).json()["id"]))
        if error is not None:
            door.house.painter.fail(made[-1], error)
        await door.house.pass_time(1.0)
    await create(door, token=BOBS)
    return made


async def test_a_list_is_one_s_own_newest_first_in_both_dialects() -> None:
    """`results` and `predictions` are the same."""
    door = Door()
    made = await three_of_ada_s(door)
    told = (await door.ask("GET", "/v1/predictions")).json()
    assert [one["id"] for one in told["results"]] == made[::-1]
    assert told["predictions"] == told["results"]
    assert (told["next"], told["previous"]) == (None, None)
    assert told["results"][0] == (await door.ask("GET", f"/v1/predictions/{made[2]}")).json()


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("skip=1&limit=1", [1]),
        ("skip=3", []),
        ("status=failed", [0]),
        ("status=canceled", [1]),
        ("status=starting&limit=5", [2]),
        ("status=succeeded", []),
    ],
)
async def test_a_list_skips_and_chooses(query: str, numbers: list[int]) -> None:
    """By the status that each is told with."""
    door = Door()
    made = await three_of_ada_s(door)
    told = (await door.ask("GET", f"/v1/predictions?{query}")).json()
    assert [one["id"] for one in told["predictions"]] == [made[number] for number in numbers]


async def test_a_list_is_walked_by_its_addresses() -> None:
    """Down and up again, with the limit and the status kept."""
    door = Door()
    made = [await created(door) for _ in range(5)][::-1]
    pages, address = [], "http://paint.test/v1/predictions?limit=2&status=starting"
    while address:
        told = (await door.ask("GET", address.removeprefix("http://paint.test"))).json()
        pages.append([one["id"] for one in told["results"]])
        address = told["next"]
    assert pages == [made[:2], made[2:4], made[4:]]
    up = (await door.ask("GET", told["previous"].removeprefix("http://paint.test"))).json()
    assert [one["id"] for one in up["results"]] == made[2:4]
    assert (await door.ask("GET", up["previous"].removeprefix("http://paint.test"))).json()["previous"] is None


@pytest.mark.parametrize("query", ["skip=-1", "skip=10001", "limit=0", "limit=101", "status=done", "cursor=x"])
async def test_a_list_names_what_it_does_not_take(query: str) -> None:
    """Nothing is clamped."""
    refused(await Door().ask("GET", f"/v1/predictions?{query}"), query.partition("=")[0])


# Addresses, and the secret


async def test_addresses_are_those_that_the_request_calls_or_the_setting_says() -> None:
    """Absolute, all four."""
    own = (await create(Door())).json()["urls"]
    assert own == {name: f"http://paint.test/v1/predictions/job-1{rest}" for name, rest in ADDRESSES.items()}
    public = (await create(Door(base_url="https://paint.example/a"))).json()["urls"]
    assert public == {name: f"https://paint.example/a/v1/predictions/job-1{rest}" for name, rest in ADDRESSES.items()}


ADDRESSES = {"get": "", "cancel": "/cancel", "stream": "/stream", "web": ""}


async def test_the_webhooks_secret_is_told_to_those_with_a_token_alone() -> None:
    """Each owner's own: nobody can sign as another's receiver expects it."""
    secret = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, no").decode()
    door = Door(webhook_secret=SecretStr(secret), anonymous_owner="guest")
    keys = [(await door.ask("GET", "/v1/webhooks/default/secret", token=token)).json() for token in (TOKEN, BOBS)]
    assert keys == [{"key": owner_secret(SecretStr(secret), owner)} for owner in (ADA, BOB)]
    assert len({secret, *(told["key"] for told in keys)}) == 3
    anonymous = await door.ask("GET", "/v1/webhooks/default/secret", token="")
    assert (anonymous.status, anonymous.json()["error"]["code"]) == (403, "PERMISSION_DENIED")
    assert b"whsec_" not in anonymous.body


async def test_a_server_without_a_webhook_secret_says_so() -> None:
    """404, and what would make it call."""
    house = House()
    house.identities = Identities({ADA: TOKENS[ADA]})
    refused = await Door(house).ask("GET", "/v1/webhooks/default/secret")
    assert (refused.status, "ATELIER_WEBHOOK_SECRET" in refused.json()["error"]["message"]) == (404, True)


async def test_a_webhook_that_cannot_be_told_is_refused_by_its_own_name() -> None:
    """It is not a field of input."""

    def check(hook: Any) -> None:
        raise Refusal.invalid("webhook.url", "an address on the public Internet", hook.url)

    refused(await create(Door(House(check_webhook=check)), body={"webhook": HOOK}), "webhook.url")
