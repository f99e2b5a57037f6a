"""Batches: many jobs in one request, one stream."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from server.doors.http import batches
from server.doors.http.batches import Heard
from server.doors.http.choir import Choir
from server.doors.http.parts import HttpLimits
from server.doors.http.schemas import from_base64
from server.jobs import init_images
from server.listing import JobPage
from tests.server.doors.http.door import KEEP_ALIVE, LIMITS, Answer, Door
from tests.server.fakes import settle
from tests.server.house import House
from tests.server.jobs.test_init_images import a_file

BATCH = "/v1/jobs/batch"
KEY = {"idempotency-key": "order-7"}


async def submitted(door: Door, *prompts: str, **more: Any) -> Answer:
    """A batch of Ada's."""
    return await door.ask("POST", BATCH, {"prompts": prompts}, **more)


async def test_many_prompts_are_a_job_each() -> None:
    """What is shared holds for all; every job is an ordinary one."""
    door = Door()
    answer = await door.ask(
        "POST", BATCH, {"prompts": ["a star", "a moon"], "shared": {"seed": 5, "width": 256, "height": 256}}
    )
    body = answer.json()
    assert (answer.status, body["accepted"]) == (202, 2)
    assert answer.headers["location"] == f"{BATCH}/{body['id']}"
    assert [item["job"]["prompt"] for item in body["items"]] == ["a star", "a moon"]
    assert [(item["index"], item["job"]["seed"], item["error"]) for item in body["items"]] == [
        (0, 5, None),
        (1, 5, None),
    ]
    assert (await door.ask("GET", "/v1/jobs/job-2")).json()["prompt"] == "a moon"
    assert (await door.ask("GET", f"{BATCH}/{body['id']}")).json() == body


async def test_whole_jobs_say_what_they_want_themselves() -> None:
    """Before what is shared."""
    door = Door()
    jobs = [{"prompt": "a star", "seed": 1}, {"prompt": "a moon"}]
    body = (await door.ask("POST", BATCH, {"jobs": jobs, "shared": {"seed": 5, "num_images": 2}})).json()
    assert [(item["job"]["seed"], item["job"]["num_images"]) for item in body["items"]] == [(1, 2), (5, 2)]


async def test_a_job_that_is_refused_says_so_in_its_place() -> None:
    """The others are taken; the error is that of a single job."""
    door = Door()
    jobs = [{"prompt": "a star"}, {"prompt": "a moon", "width": 7000}, {"prompt": "a sun"}]
    answer = await door.ask("POST", BATCH, {"jobs": jobs})
    body = answer.json()
    assert (answer.status, body["accepted"]) == (202, 2)
    first, second, third = body["items"]
    assert first["job"]
    assert third["job"]
    assert second["job"] is None
    assert (second["error"]["code"], second["error"]["param"]) == ("INVALID_PARAMETER", "width")
    again = (await door.ask("GET", f"{BATCH}/{body['id']}")).json()
    assert (again["accepted"], again["items"][1]) == (2, {"index": 1, "job": None, "error": None})


async def test_a_batch_of_which_nothing_is_taken_is_refused() -> None:
    """With the first job's reason."""
    refused = await submitted(Door(), "x" * 101, "y" * 101)
    assert (refused.status, refused.json()["error"]["param"]) == (422, "prompt")


async def test_the_rest_of_a_batch_is_taken_later_under_the_same_key() -> None:
    """A full queue refuses some; the same request takes those when there is room, and doubles none."""
    door = Door(House(pending_per_owner=2))
    first = await submitted(door, "a", "b", "c", headers=KEY)
    assert [item["error"] and item["error"]["code"] for item in first.json()["items"]] == [
        None,
        None,
        "RESOURCE_EXHAUSTED",
    ]
    door.house.painter.paint("job-1")
    await settle()
    second = await submitted(door, "a", "b", "c", headers=KEY)
    assert (second.status, second.json()["accepted"], second.json()["id"]) == (202, 3, first.json()["id"])
    assert len({item["job"]["id"] for item in second.json()["items"]}) == 3
    third = await submitted(door, "a", "b", "c", headers=KEY)
    assert (third.status, third.json()["accepted"]) == (200, 3)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "prompts"),
        ({"prompts": ["a"], "jobs": [{"prompt": "b"}]}, "prompts"),
        ({"prompts": ["a"] * 4}, "prompts"),
        ({"jobs": [{"prompt": "a"}] * 4}, "jobs"),
        ({"prompts": [""]}, "prompts[0]"),
        ({"jobs": [{"prompt": "a"}, {"prompt": "b", "nonsense": 1}]}, "jobs[1].nonsense"),
        ({"jobs": [{"prompt": "a", "idempotency_key": "mine"}]}, "idempotency_key"),
        ({"prompts": ["a"], "shared": {"seed": "5"}}, "shared.seed"),
    ],
)
async def test_a_batch_that_cannot_be_read_is_refused_whole(asked: dict[str, Any], field: str) -> None:
    """Before any of its jobs is taken."""
    door = Door(limits=LIMITS.__class__(max_body_bytes=20_000, max_bodies_bytes=1 << 20, chunk_bytes=1024, max_batch=3))
    refused = await door.ask("POST", BATCH, asked)
    assert (refused.status, refused.json()["error"]["details"]["field"]) == (422, field)
    assert not door.house.painter.known


async def test_one_stream_has_every_job_s_events() -> None:
    """In turn, each with its job's id and index, to the last job's end."""
    door = Door()
    batch_id = (await submitted(door, "a star", "a moon")).json()["id"]
    stream = await door.open("GET", f"{BATCH}/{batch_id}/events")
    door.house.painter.paint("job-2")
    events = await stream.events()
    assert [(event["event"], event["job_id"], event["index"]) for event in events[:2]] == [
        ("accepted", "job-1", 0),
        ("accepted", "job-2", 1),
    ]
    assert (events[-1]["event"], events[-1]["index"]) == ("succeeded", 1)
    assert not stream.ended
    door.house.painter.paint("job-1")
    assert [event["event"] for event in await stream.events()][-1] == "succeeded"
    assert (await stream.answer()).status == 200
    assert len(door.listeners) == 0


async def test_who_comes_back_hears_what_was_not_heard() -> None:
    """By the id of the last event; after all ends, 204."""
    door = Door()
    batch_id = (await submitted(door, "a star", "a moon")).json()["id"]
    door.house.painter.paint("job-2")
    await settle()
    stream = await door.open("GET", f"{BATCH}/{batch_id}/events")
    told = await stream.take()
    stream.hang_up()
    await stream.task
    last = [line.removeprefix("id: ") for line in told.splitlines() if line.startswith("id: ")][-1]
    assert last == "3-2"
    again = await door.open("GET", f"{BATCH}/{batch_id}/events", headers={"last-event-id": last})
    assert await again.events() == []
    door.house.painter.paint("job-1")
    events = await again.events()
    assert {event["job_id"] for event in events} == {"job-1"}
    assert events[-1]["event"] == "succeeded"
    ended = await door.ask("GET", f"{BATCH}/{batch_id}/events", headers={"last-event-id": "3-3"})
    assert (ended.status, ended.body) == (204, b"")


@pytest.mark.parametrize("strange", ["", "x", "3", "-", "3-", "ÿ-1", "f" * 300 + "-1"])
def test_an_id_that_is_none_says_nothing(strange: str) -> None:
    """EventSource cannot be told to mend it."""
    heard = Heard.read(strange)
    assert not heard.end_of(0)
    assert heard.from_event(0) == 0


async def test_a_slow_reader_of_a_batch_hears_the_latest_and_every_end() -> None:
    """Memory is bounded by the number of jobs."""
    door = Door()
    batch_id = (await submitted(door, "a star", "a moon")).json()["id"]
    stream = await door.open("GET", f"{BATCH}/{batch_id}/events")
    await stream.events()
    stream.reading.clear()
    for job_id in ("job-1", "job-2"):
        door.house.painter.start(job_id)
        for step in range(1, 20):
            door.house.painter.step(job_id, step)
            await settle()
        door.house.painter.finish(job_id)
    await settle()
    stream.reading.set()
    events = await stream.events()
    assert len([event for event in events if event["event"] == "progress"]) <= 4
    assert sorted(event["index"] for event in events if event["event"] == "succeeded") == [0, 1]


async def test_a_stream_with_nothing_to_say_shows_that_it_lives_and_ends_with_the_server() -> None:
    """A comment; then the end of the answer."""
    door = Door()
    batch_id = (await submitted(door, "a star")).json()["id"]
    stream = await door.open("GET", f"{BATCH}/{batch_id}/events")
    await stream.take()
    for _ in range(15):
        await door.house.pass_time(KEEP_ALIVE / 15)
    assert await stream.take() == ": here\n\n"
    door.listeners.leave()
    await stream.answer()
    assert stream.ended


async def test_a_batch_is_canceled() -> None:
    """All that has not ended."""
    door = Door()
    batch_id = (await submitted(door, "a star", "a moon")).json()["id"]
    door.house.painter.paint("job-1")
    await settle()
    assert (await door.ask("POST", f"{BATCH}/{batch_id}/cancel")).status == 202
    assert door.house.painter.cancels == ["job-2"]


@pytest.mark.parametrize(
    "batch_id", ["x", "0" * 32, "0" * 32 + "-0", "0" * 32 + "-2", "0" * 32 + "-101", "0" * 32 + "-9999"]
)
@pytest.mark.parametrize("rest", ["", "/events"])
async def test_a_batch_that_is_not_there_is_refused(batch_id: str, rest: str) -> None:
    """So is another owner's."""
    door = Door()
    refused = await door.ask("GET", f"{BATCH}/{batch_id}{rest}")
    assert (refused.status, refused.json()["error"]["code"]) == (404, "JOB_NOT_FOUND")


async def test_a_batch_is_its_owner_s() -> None:
    """Nobody else sees it."""
    door = Door()
    batch_id = (await submitted(door, "a star")).json()["id"]
    assert (await door.ask("GET", f"{BATCH}/{batch_id}", token="bob-token-0123456789")).status == 404


async def test_a_job_that_is_gone_between_leaves_nobody_behind() -> None:
    """A choir that cannot begin leaves the board and the listeners."""
    door = Door()
    job_id = await door.job()
    choir = Choir(door.house.board, door.listeners, [(job_id, 0), ("gone", 0)])
    with pytest.raises(Exception, match="no job"):
        await choir.__aenter__()
    assert len(door.listeners) == 0


async def test_a_shared_image_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From base64 and from its format; all jobs of the batch start from the same pixels."""
    seen = {"base64": 0, "format": 0}

    def counting(name: str, whole: Any) -> Any:
        def call(*given: Any) -> Any:
            seen[name] += 1
            return whole(*given)

        return call

    monkeypatch.setattr(batches, "from_base64", counting("base64", from_base64))
    monkeypatch.setattr(init_images, "_decoded", counting("format", init_images._decoded))
    door = Door()
    shared = {"init_image": base64.b64encode(a_file(64, 64)).decode(), "strength": 0.5}
    answer = await door.ask("POST", BATCH, {"prompts": ["a star", "a moon", "a sun"], "shared": shared})
    assert (answer.status, answer.json()["accepted"]) == (202, 3)
    assert seen == {"base64": 1, "format": 1}


async def test_a_shared_image_that_is_none_is_told_of_each_job() -> None:
    """And so the batch is refused."""
    refused = await Door().ask("POST", BATCH, {"prompts": ["a", "b"], "shared": {"init_image": "?"}})
    assert (refused.status, refused.json()["error"]["param"]) == (422, "init_image")


async def test_a_made_up_id_costs_a_question_for_a_hundred_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many it says to have: nothing says which ids were given out."""
    door = Door(limits=HttpLimits(max_body_bytes=20_000, max_bodies_bytes=1 << 20, chunk_bytes=1024, max_batch=1000))
    asked: list[JobPage] = []
    whole = door.house.store.page

    async def page(owner: str, page: JobPage) -> Any:
        asked.append(page)
        return await whole(owner, page)

    async def find(owner: str, key: str) -> Any:
        raise AssertionError("one at a time")

    monkeypatch.setattr(door.house.store, "page", page)
    monkeypatch.setattr(door.house.store, "find", find)
    assert (await door.ask("GET", f"{BATCH}/{'0' * 32}-1000")).status == 404
    assert len(asked) == 10
    assert len(frozenset[str]().union(*(one.keys for one in asked))) == 1000
