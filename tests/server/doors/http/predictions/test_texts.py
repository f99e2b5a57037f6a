"""Predictions of a model that writes: created, streamed piece by piece, looked at on their way and at their end."""

from __future__ import annotations

import json
from typing import Any

from server.errors import Code
from server.model_names import version_of
from tests.server.doors.http.door import Door
from tests.server.doors.http.predictions.test_streaming import told
from tests.server.fakes import CARD, OTHER_CARD, TEXT_CARD, settle
from tests.server.house import House


def a_door() -> Door:
    """Of a house that has a model of texts too."""
    return Door(house=House(cards=(CARD, OTHER_CARD, TEXT_CARD)))


async def asked(door: Door, **given: Any) -> str:
    """A text that was accepted: its id."""
    answer = await door.ask("POST", "/v1/predictions", {"model_id": "words", "input": {"prompt": "once", **given}})
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


async def test_a_text_is_streamed_as_it_is_written() -> None:
    """Each piece is an output; a line break within one stays what it is."""
    door = a_door()
    job_id = await asked(door)
    exchange = await door.open("GET", f"/v1/predictions/{job_id}/stream")
    door.house.painter.start(job_id)
    await settle()
    door.house.painter.speak(job_id, 0, " upon")
    first = told(await exchange.take())
    assert first[-1][1:] == ("output", " upon")
    door.house.painter.speak(job_id, 5, "\n\u2028a\n")
    door.house.painter.answer(job_id, " upon\n\u2028a\ntime.")
    heard = [(name, data) for _, name, data in (*first, *told(await exchange.take()))]
    assert "".join(data for name, data in heard if name == "output") == " upon\n\u2028a\ntime."
    assert heard[-1] == ("done", "{}")


async def test_who_comes_back_hears_the_rest() -> None:
    """Last-Event-ID says how many characters were heard, also when the text is over meanwhile."""
    door = a_door()
    job_id = await asked(door)
    door.house.painter.start(job_id)
    door.house.painter.speak(job_id, 0, "one two")
    await settle()
    exchange = await door.open("GET", f"/v1/predictions/{job_id}/stream")
    event_id, _, data = told(await exchange.take())[-1]
    assert (data, event_id.partition("+")[2]) == ("one two", "7")
    door.house.painter.speak(job_id, 7, " three")
    headers = {"last-event-id": event_id}
    again = await door.open("GET", f"/v1/predictions/{job_id}/stream", headers=headers)
    assert [data for _, name, data in told(await again.take()) if name == "output"] == [" three"]
    door.house.painter.answer(job_id, "one two three four")
    await settle()
    over = await door.ask("GET", f"/v1/predictions/{job_id}/stream", headers=headers)
    heard = told(over.body.decode())
    assert [(name, data) for _, name, data in heard] == [("output", " three four"), ("done", "{}")]
    done = await door.ask("GET", f"/v1/predictions/{job_id}/stream", headers={"last-event-id": heard[-1][0]})
    assert done.status == 204


async def test_a_prediction_shows_its_text_on_its_way_and_its_tokens_at_its_end() -> None:
    """`output` is a text; `metrics` count its tokens."""
    door = a_door()
    job_id = await asked(door, max_length=9, seed=3)
    door.house.painter.start(job_id)
    door.house.painter.speak(job_id, 0, "one")
    await settle()
    under_way = (await door.ask("GET", f"/v1/predictions/{job_id}")).json()
    assert (under_way["status"], under_way["output"]) == ("processing", "one")
    assert under_way["input"] == {
        "prompt": "once", "max_length": 9, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "stop": [], "seed": 3,
    }  # fmt: skip
    door.house.painter.answer(job_id, "one two")
    await settle()
    ended = (await door.ask("GET", f"/v1/predictions/{job_id}")).json()
    assert (ended["status"], ended["output"], ended["progress_step"]) == ("succeeded", "one two", 2)
    assert ended["metrics"]["output_token_count"] == 2
    job = (await door.ask("GET", f"/v1/jobs/{job_id}")).json()
    assert (job["output"], job["input"]["seed"], job["width"], job["prompt"]) == ("one two", 3, 0, "once")
    assert (await door.ask("GET", f"/outputs/metadata/{job_id}.json")).status == 404


async def test_an_input_is_held_against_the_model_s_own_schema() -> None:
    """A picture's fields are none of a text's, and the other way round; each refusal names the field."""
    door = a_door()

    async def refused(model: str, given: dict[str, Any]) -> tuple[int, str]:
        answer = await door.ask("POST", "/v1/predictions", {"model": model, "input": given})
        return answer.status, answer.json()["error"]["details"]["field"]

    assert await refused("words", {"prompt": "a", "width": 64}) == (422, "input.width")
    assert await refused("words", {"prompt": "a", "top_p": 2}) == (422, "input.top_p")
    assert await refused("demo", {"prompt": "a", "top_p": 1}) == (422, "input.top_p")
    assert await refused("demo", {}) == (422, "input.prompt")


async def test_a_text_s_model_is_described_for_both_dialects() -> None:
    """Its type, its inputs and that a text comes out."""
    door = a_door()
    told_of = (await door.ask("GET", "/v1/models/words")).json()
    assert (told_of["model_type"], told_of["solvers"], told_of["adapters"]) == ("text-generation", [], [])
    assert told_of["input_schema"]["max_length"]["maximum"] == TEXT_CARD.context - 1
    version = (await door.ask("GET", f"/v1/models/atelier/words/versions/{version_of('words')}")).json()
    schemas = version["openapi_schema"]["components"]["schemas"]
    assert (schemas["Output"]["type"], schemas["Input"]["required"]) == ("string", [])
    assert list(schemas["Input"]["properties"]) == list(TEXT_CARD.input_schema)
    listed = (await door.ask("GET", "/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["demo", "other", "words"]


async def test_the_own_stream_tells_pieces_with_their_offsets() -> None:
    """And the output with the end."""
    door = a_door()
    job_id = await asked(door)
    exchange = await door.open("GET", f"/v1/jobs/{job_id}/events")
    door.house.painter.start(job_id)
    door.house.painter.speak(job_id, 0, "one")
    door.house.painter.speak(job_id, 3, " two")
    await settle()
    door.house.painter.answer(job_id, "one two")
    heard = [json.loads(line[6:]) for line in (await exchange.take()).split("\n") if line.startswith("data: ")]
    pieces = [(one["offset"], one["text"]) for one in heard if one["event"] == "output"]
    assert "".join(text for _, text in pieces) == "one two"
    assert (heard[-1]["event"], heard[-1]["output"]) == ("succeeded", "one two")


async def test_what_a_dialect_of_pictures_cannot_paint_it_refuses() -> None:
    """The code is the model's fault, not the server's."""
    door = a_door()
    answer = await door.ask("POST", "/v1/jobs", {"prompt": "a", "model": "words"})
    assert (answer.status, answer.json()["error"]["code"]) == (422, Code.INVALID_PARAMETER.name)
    images = await door.ask(
        "POST", "/v1/images/generations", {"prompt": "a", "model": "words", "stream": True, "partial_images": 1}
    )
    assert images.status == 400
