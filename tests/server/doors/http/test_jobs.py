"""The own routes: submit, look, cancel, follow."""

from __future__ import annotations

import base64
import json
from typing import Any, get_args
from urllib.parse import quote

import pytest
from starlette.requests import Request

from server import events
from server.doors.amqp.own import FIELDS
from server.doors.http.events import TOLD, sse
from server.doors.http.parts import has_ended
from server.doors.http.schemas import JobRequest
from server.doors.http.waiting import wait_for_end
from server.errors import Code, JobFailure
from server.job import JobState
from tests.server.doors.http.door import KEEP_ALIVE, Door
from tests.server.fakes import picture_key, settle
from tests.server.house import BOB, TOKENS


def test_a_job_looks_as_it_does_over_rabbitmq() -> None:
    """The same fields; who submits here may ask for previews too, which a queue has no use for."""
    assert set(JobRequest.model_fields) == FIELDS - {"type"} | {"preview_every_steps"}


def test_every_event_has_its_form() -> None:
    """The table is total."""
    kinds = {kind for group in get_args(events.Event) for kind in (get_args(group) or (group,))}
    assert set(TOLD) == kinds


async def test_a_job_is_accepted_when_it_is_recorded() -> None:
    """202, with where it is, and every default filled in."""
    door = Door()
    answer = await door.ask("POST", "/v1/jobs", {"prompt": "a star", "width": None, "seed": 5})
    body = answer.json()
    assert answer.status == 202
    assert answer.headers["location"] == f"/v1/jobs/{body['id']}"
    assert (body["state"], body["width"], body["height"], body["seed"]) == ("queued", 64, 72, 5)
    assert (await door.house.kept(body["id"])).owner == "ada"
    assert body == (await door.ask("GET", f"/v1/jobs/{body['id']}")).json()


async def test_everything_that_is_asked_reaches_the_job() -> None:
    """Styles, signature, webhook, deadline, priority."""
    door = Door()
    asked = {
        "prompt": "a star", "model": "other", "negative_prompt": "moon", "width": 128, "height": 128, "num_inference_steps": 3,
        "guidance_scale": 2, "num_images": 2, "adapters": [{"name": "ink", "scale": 0.5}, {"name": "chalk"}], "priority": -3,
        "deadline_seconds": 60, "signature": {"text": "me", "position": "top-left", "size": "small", "opacity": 0.5},
        "preview_every_steps": 1, "webhook": {"url": "https://shop.test/hook", "events": ["completed"]},
    }  # fmt: skip
    job = await door.house.kept(await door.job(**asked))
    assert [(use.name, use.scale) for use in job.pictures_asked.adapters] == [("ink", 0.5), ("chalk", 1.0)]
    assert (job.pictures_asked.num_images, job.pictures_asked.priority, job.pictures_asked.preview_every) == (2, -3, 1)
    assert job.signature is not None
    assert (job.signature.position.value, job.signature.opacity) == ("top-left", 0.5)
    assert job.webhook is not None
    assert (job.webhook.url, [event.value for event in job.webhook.events]) == ("https://shop.test/hook", ["completed"])
    assert job.deadline_seconds == 60


@pytest.mark.parametrize("where", ["header", "body"])
async def test_one_key_is_one_job(where: str) -> None:
    """The same again answers 200 with the first; another request under the key is refused."""
    door = Door()

    async def ask(prompt: str) -> Any:
        if where == "header":
            return await door.ask("POST", "/v1/jobs", {"prompt": prompt}, headers={"idempotency-key": "k1"})
        return await door.ask("POST", "/v1/jobs", {"prompt": prompt, "idempotency_key": "k1"})

    first, again, other = await ask("a star"), await ask("a star"), await ask("a moon")
    assert (first.status, again.status) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status, other.json()["error"]["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert len(door.house.painter.known) == 1


async def test_two_keys_for_one_request_are_refused() -> None:
    """Whichever was meant."""
    asked = {"prompt": "a star", "idempotency_key": "one"}
    answer = await Door().ask("POST", "/v1/jobs", asked, headers={"idempotency-key": "other"})
    assert (answer.status, answer.json()["error"]["details"]["field"]) == (422, "idempotency_key")


async def test_an_accepted_job_lives_though_its_client_is_gone() -> None:
    """It hung up before it was answered."""
    door = Door()
    exchange = await door.open("POST", "/v1/jobs", {"prompt": "a star"})
    exchange.hang_up()
    await settle()
    assert len(door.house.painter.known) == 1


async def test_a_cancelled_job_is_cancelled() -> None:
    """At the engine, not only in a row; its end is told."""
    door = Door()
    job_id = await door.job()
    door.house.painter.start(job_id)
    await settle()
    answer = await door.ask("POST", f"/v1/jobs/{job_id}/cancel")
    assert (answer.status, answer.json()) == (202, {"id": job_id, "state": "processing"})
    assert door.house.painter.cancels == [job_id]
    door.house.painter.confirm_cancel(job_id)
    await settle()
    assert (await door.ask("GET", f"/v1/jobs/{job_id}")).json()["state"] == "canceled"


async def test_events_are_told_as_they_happen() -> None:
    """From accepted to the end, after which the response ends; each has its number as its id."""
    door = Door()
    job_id = await door.job(preview_every_steps=1)
    exchange = await door.open("GET", f"/v1/jobs/{job_id}/events")
    assert exchange.headers["content-type"].startswith("text/event-stream")
    said = await exchange.take()
    assert said.startswith("retry: 2000\n\nid: 0\nevent: accepted\ndata: {")
    door.house.painter.start(job_id)
    door.house.painter.step(job_id, 1)
    (progress,) = await exchange.events()
    assert (progress["event"], progress["phase"], progress["step"], progress["total_steps"]) == (
        "progress",
        "denoising",
        1,
        20,
    )
    door.house.painter.preview(job_id, 0, 1)
    (preview,) = [event for event in await exchange.events() if event["event"] == "preview"]
    assert base64.b64decode(preview["png"]).startswith(b"\x89PNG")
    door.house.painter.finish(job_id)
    told = await exchange.events()
    assert told[-1]["event"] == "succeeded"
    assert told[-1]["artifacts"][0]["url"] == f"https://pictures.test/{picture_key(job_id)}"
    assert exchange.ended
    assert len(door.listeners) == 0


async def test_a_failed_job_says_why() -> None:
    """With the code that every other door tells."""
    door = Door()
    job_id = await door.job()
    exchange = await door.open("GET", f"/v1/jobs/{job_id}/events")
    failure = JobFailure(Code.GENERATION_FAILED, "the brush broke")
    body = TOLD[events.Failed][1](events.Failed(number=3, job_id=job_id, failure=failure), "")
    assert body["error"] == {"code": "GENERATION_FAILED", "message": "the brush broke", "details": {}}
    exchange.hang_up()
    await settle()


async def test_who_comes_back_hears_what_followed() -> None:
    """By Last-Event-ID; what is no number of ours counts as nothing heard."""
    door = Door()
    job_id = await door.job()
    door.house.painter.start(job_id)
    door.house.painter.step(job_id, 1)
    await settle()
    again = await door.open("GET", f"/v1/jobs/{job_id}/events", headers={"last-event-id": "0"})
    assert [event["event"] for event in await again.events()] == ["progress"]
    odd = await door.open("GET", f"/v1/jobs/{job_id}/events", headers={"last-event-id": "x7"})
    assert [event["event"] for event in await odd.events()] == ["accepted", "progress"]
    late = await door.open("GET", f"/v1/jobs/{job_id}/events?from_event=1&progress=false")
    assert await late.events() == []
    door.house.painter.finish(job_id)
    for exchange in (again, odd, late):
        assert (await exchange.events())[-1]["event"] == "succeeded"


async def test_who_heard_the_end_is_told_not_to_come_back() -> None:
    """204, which ends a browser's EventSource; who has not heard it, hears it."""
    door = Door()
    job_id = await door.job()
    door.house.painter.paint(job_id)
    await settle()
    job = await door.house.kept(job_id)
    assert job.state is JobState.SUCCEEDED
    heard = await door.ask("GET", f"/v1/jobs/{job_id}/events", headers={"last-event-id": str(job.last_event)})
    assert (heard.status, heard.body) == (204, b"")
    missed = await door.ask("GET", f"/v1/jobs/{job_id}/events", headers={"last-event-id": str(job.last_event - 1)})
    assert b"event: succeeded" in missed.body


async def test_a_slow_reader_gets_the_latest_and_the_end() -> None:
    """A thousand steps while it does not read cost one progress."""
    door = Door()
    job_id = await door.job(preview_every_steps=1, num_images=2)
    exchange = await door.open("GET", f"/v1/jobs/{job_id}/events")
    await exchange.take()
    exchange.reading.clear()
    door.house.painter.start(job_id)
    for step in range(1, 20):
        door.house.painter.step(job_id, step)
        for image in (0, 1):
            door.house.painter.preview(job_id, image, step)
        await settle()
    door.house.painter.finish(job_id)
    await settle()
    exchange.reading.set()
    told = await exchange.events()
    assert [event["event"] for event in told].count("progress") <= 3
    assert [event["event"] for event in told].count("preview") <= 3
    assert told[-1]["event"] == "succeeded"
    assert [event["number"] for event in told] == sorted(event["number"] for event in told)


async def test_a_silent_stream_says_that_we_live() -> None:
    """A comment, once in the interval, and none where there was something to say."""
    door = Door()
    exchange = await door.open("GET", f"/v1/jobs/{await door.job()}/events")
    await exchange.take()
    said = ""
    for _ in range(45):
        door.clock.advance(KEEP_ALIVE / 15)
        said += await exchange.take()
    assert said == ": here\n\n" * 3
    exchange.hang_up()
    await settle()
    assert exchange.task.done()


async def test_a_client_that_goes_away_is_forgotten() -> None:
    """No listener, no watcher and no timer is left."""
    door = Door()
    job_id = await door.job()
    exchange = await door.open("GET", f"/v1/jobs/{job_id}/events")
    assert len(door.listeners) == 1
    exchange.hang_up()
    await settle()
    assert exchange.task.done()
    assert len(door.listeners) == 0
    door.clock.advance(KEEP_ALIVE)
    await settle()
    door.house.painter.paint(job_id)
    await settle()
    assert (await door.ask("GET", f"/v1/jobs/{job_id}")).json()["state"] == "succeeded"


async def test_a_server_that_stops_ends_the_streams_of_jobs_that_go_on() -> None:
    """Also of those that come while it stops; what has ended is told all the same."""
    door = Door()
    job_id, done = await door.job(), await door.job()
    door.house.painter.paint(done)
    exchange = await door.open("GET", f"/v1/jobs/{job_id}/events")
    door.listeners.leave()
    assert "succeeded" not in (await exchange.answer()).body.decode()
    late = await door.ask("GET", f"/v1/jobs/{job_id}/events")
    assert (late.status, late.body) == (200, b"retry: 2000\n\n")
    assert b"event: succeeded" in (await door.ask("GET", f"/v1/jobs/{done}/events")).body


async def test_what_waits_for_a_picture_can_be_asked_for() -> None:
    """`wait_for_end`: the end, the time given, or the client's going, whichever is first."""
    door = Door()

    @door.app.get("/wait")
    async def wait(request: Request, job_id: str) -> dict[str, Any]:
        view = await wait_for_end(door.parts, request, "ada", job_id, 5.0)
        return {"ended": has_ended(view)}

    job_id = await door.job()
    in_vain = await door.open("GET", f"/wait?job_id={job_id}")
    door.clock.advance(5.0)
    assert (await in_vain.answer()).json() == {"ended": False}
    gone = await door.open("GET", f"/wait?job_id={job_id}")
    gone.hang_up()
    assert (await gone.answer()).status == 499
    waiting = await door.open("GET", f"/wait?job_id={job_id}")
    door.house.painter.paint(job_id)
    assert (await waiting.answer()).json() == {"ended": True}
    assert len(door.listeners) == 0


def test_the_data_of_an_event_is_one_line() -> None:
    """Whatever stands in it: a line break would end it."""
    failure = JobFailure(Code.GENERATION_FAILED, "one\r\ntwo\u2028three")
    text = sse(events.Failed(number=3, job_id="j", failure=failure), "").decode()
    lines = text.splitlines()
    assert lines[:2] == ["id: 3", "event: failed"]
    assert json.loads(lines[2].removeprefix("data: "))["error"]["message"] == failure.message


async def test_a_list_of_jobs_goes_on_by_its_cursor() -> None:
    """Newest first, the owner's own; states alone where they are asked for."""
    door = Door()
    ids = []
    for _ in range(5):
        ids.append(await door.job())
        door.clock.advance(1.0)
    first = (await door.ask("GET", "/v1/jobs?limit=3")).json()
    assert [job["id"] for job in first["jobs"]] == ids[:1:-1]
    rest = (await door.ask("GET", f"/v1/jobs?limit=3&cursor={first['next']}")).json()
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == (ids[1::-1], None)
    await door.ask("POST", f"/v1/jobs/{ids[2]}/cancel")
    canceled = (await door.ask("GET", "/v1/jobs?state=canceled&state=failed")).json()
    assert [job["id"] for job in canceled["jobs"]] == [ids[2]]
    assert (await door.ask("GET", "/v1/jobs", token=TOKENS[BOB].get_secret_value())).json() == {
        "jobs": [],
        "next": None,
    }


@pytest.mark.parametrize(
    "cursor", ["x", "W10", "bnVsbA", "WyItIiwgTmFOLCAiYSJd", "WyItIiwgMS4wLCAiYVx1MDAwMCJd", "é", "W" * 300]
)
async def test_a_cursor_that_no_page_named_is_refused(cursor: str) -> None:
    """By its name, whatever it decodes to."""
    answer = await Door().ask("GET", f"/v1/jobs?cursor={quote(cursor)}")
    assert (answer.status, answer.json()["error"]["details"]["field"]) == (422, "cursor")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "state=lost"])
async def test_a_list_names_what_it_does_not_take(query: str) -> None:
    """Nothing is clamped."""
    answer = await Door().ask("GET", f"/v1/jobs?{query}")
    assert answer.status == 422
    assert answer.json()["error"]["details"]["field"].startswith(query.partition("=")[0])
