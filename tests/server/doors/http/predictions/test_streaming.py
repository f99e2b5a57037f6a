"""A prediction's stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from replicate.stream import EventSource, ServerSentEvent

from ai.types import DeadlineExceeded, OutOfMemory
from server import events
from server.doors.http.predictions.streaming import _PARTS, Heard, heard_last
from tests.server.doors.http.door import Door
from tests.server.fakes import picture_key, settle


def as_replicate_reads(text: str) -> list[ServerSentEvent]:
    """By its own client's decoder, which breaks at an event that it does not know."""
    decoder = EventSource.Decoder()
    return [found for line in text.split("\n") if (found := decoder.decode(line)) is not None]


def told(text: str) -> list[tuple[str, str, str]]:
    """As id, name and data."""
    return [(one.id, one.event.value, one.data) for one in as_replicate_reads(text)]


async def asked(door: Door, **given: Any) -> str:
    """A prediction that was accepted: its id."""
    answer = await door.ask("POST", "/v1/predictions", {"model_id": "demo", "input": {"prompt": "a star", **given}})
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


def test_every_event_has_its_form() -> None:
    """The table is total; progress has two."""
    assert set(_PARTS) | {events.Progress, events.Output} == {
        events.Accepted, events.Progress, events.Preview, events.Succeeded, events.Failed, events.Canceled,
        events.Output,
    }  # fmt: skip


async def test_a_stream_says_how_far_it_is_and_what_came_of_it() -> None:
    """Each picture is an output of its own, and done is the last."""
    door = Door()
    job_id = await asked(door, num_outputs=2)
    exchange = await door.open("GET", f"/v1/predictions/{job_id}/stream")
    door.house.painter.start(job_id)
    await settle()
    door.house.painter.step(job_id, 5)
    assert told(await exchange.take())[-1][1:] == ("logs", " 25%|██        | 5/20")
    door.house.painter.finish(job_id)
    heard = told(await exchange.take())
    assert [name for _, name, _ in heard] == ["logs", "output", "output", "done"]
    assert [data for _, name, data in heard if name == "output"] == [
        f"https://pictures.test/{picture_key(job_id, index)}" for index in range(2)
    ]
    assert heard[-1][2] == "{}"
    assert exchange.task.done()


async def test_progress_is_json_for_whoever_asks_for_it() -> None:
    """In place of lines for people."""
    door = Door()
    job_id = await asked(door)
    exchange = await door.open("GET", f"/v1/predictions/{job_id}/stream?progress=true")
    door.house.painter.start(job_id)
    await settle()
    door.house.painter.step(job_id, 5)
    (progress,) = await exchange.events()
    assert (progress["progress"], progress["progress_step"], progress["progress_total"]) == (0.25, 5, 20)
    exchange.hang_up()
    await exchange.answer()


async def test_who_comes_back_hears_the_rest() -> None:
    """From the part that was heard last on; after done there is nothing to come back for."""
    door = Door()
    job_id = await asked(door, num_outputs=2)
    door.house.painter.paint(job_id)
    await settle()
    path = f"/v1/predictions/{job_id}/stream"
    whole = told((await door.ask("GET", path)).body.decode())
    assert [name for _, name, _ in whole] == ["output", "output", "done"]
    for number, (event_id, _, _) in enumerate(whole[:-1], 1):
        again = await door.ask("GET", path, headers={"last-event-id": event_id})
        assert told(again.body.decode()) == whole[number:]
    assert (await door.ask("GET", path, headers={"last-event-id": whole[-1][0]})).status == 204
    before = await door.ask("GET", path, headers={"last-event-id": "1"})
    assert told(before.body.decode()) == whole


@pytest.mark.parametrize(
    ("error", "wish", "heard"),
    [
        (OutOfMemory("no room"), {}, [("error", "no room"), ("done", '{"reason":"error"}')]),
        (DeadlineExceeded("too late"), {"cancel-after": "60s"}, [("done", '{"reason":"canceled"}')]),
        (DeadlineExceeded("its model's"), {}, [("error", "its model's"), ("done", '{"reason":"error"}')]),
    ],
)
async def test_a_stream_says_why_there_is_no_picture(error: Any, wish: dict[str, str], heard: Any) -> None:
    """What failed it; what its own deadline ended was canceled then."""
    door = Door()
    body = {"model_id": "demo", "input": {"prompt": "a star"}}
    job_id = (await door.ask("POST", "/v1/predictions", body, headers=wish)).json()["id"]
    door.house.painter.fail(job_id, error)
    await settle()
    answer = await door.ask("GET", f"/v1/predictions/{job_id}/stream")
    found = told(answer.body.decode())
    assert [(name, data) for _, name, data in found] == heard
    last = {"last-event-id": found[-1][0]}
    assert (await door.ask("GET", f"/v1/predictions/{job_id}/stream", headers=last)).status == 204


async def test_a_canceled_one_is_done() -> None:
    """With the reason."""
    door = Door()
    job_id = await asked(door)
    exchange = await door.open("GET", f"/v1/predictions/{job_id}/stream")
    await door.ask("POST", f"/v1/predictions/{job_id}/cancel")
    (done,) = told(await exchange.take())
    assert (done[1], json.loads(done[2])) == ("done", {"reason": "canceled"})


@pytest.mark.parametrize(
    ("told_id", "heard"),
    [
        ("7", Heard(7)),
        ("7:2", Heard(7, 2)),
        ("", None),
        ("x", None),
        ("-1", None),
        ("7:", None),
        ("9" * 16, None),
        ("٣", None),
    ],
)
def test_what_was_heard_last(told_id: str, heard: Heard | None) -> None:
    """What is no id of ours says nothing: EventSource cannot be told to mend it."""
    assert heard_last(told_id) == heard
