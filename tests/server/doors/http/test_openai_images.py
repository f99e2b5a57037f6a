"""OpenAI's images API, in memory."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from ai.types import GenerationError
from server.doors.http.openai_images import IMAGE_STATUSES
from server.errors import Code
from server.job import JobState
from tests.server.doors.http.door import Answer, Door, Exchange
from tests.server.fakes import settle
from tests.server.pictures import a_png

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


async def begun(door: Door, path: str = GENERATIONS, **wishes: Any) -> Exchange:
    """A request of Ada's whose job is about to be painted."""
    headers = wishes.pop("headers", None)
    return await door.open("POST", path, {"prompt": "a star", "size": "256x256", **wishes}, headers=headers)


async def painted(door: Door, **wishes: Any) -> Answer:
    """What is answered when job-1 is painted."""
    exchange = await begun(door, **wishes)
    door.house.painter.paint("job-1")
    return await exchange.answer()


def form(texts: Mapping[str, str], files: Mapping[str, bytes]) -> dict[str, Any]:
    """A multipart request, as `door.ask` takes it."""
    lines: list[bytes] = []
    for name, text in texts.items():
        lines += [b"--x", f'content-disposition: form-data; name="{name}"'.encode(), b"", text.encode()]
    for name, data in files.items():
        kind = f'content-disposition: form-data; name="{name}"; filename="a.png"'.encode()
        lines += [b"--x", kind, b"content-type: image/png", b"", data]
    return {
        "body": b"\r\n".join([*lines, b"--x--", b""]),
        "headers": {"content-type": "multipart/form-data; boundary=x"},
    }


def test_every_code_has_a_status() -> None:
    """The table is total, and a field that does not fit is a bad request."""
    assert set(IMAGE_STATUSES) == set(Code)
    assert IMAGE_STATUSES[Code.INVALID_PARAMETER] == 400


async def test_a_picture_is_answered_in_base64_when_it_is_painted() -> None:
    """The stored file, with what a client of OpenAI's reads beside it, and a length that is true."""
    door = Door()
    answer = await painted(door, seed=5)
    body = answer.json()
    (stored,) = door.house.artifacts.stored.values()
    assert answer.status == 200
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert base64.b64decode(body["data"][0]["b64_json"]) == stored
    assert body["data"][0]["seed"] == 5
    assert (body["created"], body["size"], body["output_format"]) == (1_000_000, "256x256", "png")
    assert body["usage"]["total_tokens"] == 0
    assert (body["warnings"], body["job_id"]) == ([], "job-1")
    assert max(size for _, _, size in door.house.artifacts.reads) <= door.parts.limits.chunk_bytes


async def test_several_pictures_are_one_job_with_seeds_in_a_row() -> None:
    """n pictures, each with its own address."""
    door = Door()
    body = (await painted(door, n=3, seed=5, response_format="url")).json()
    assert [image["seed"] for image in body["data"]] == [5, 6, 7]
    assert [image["url"] for image in body["data"]] == [
        f"https://pictures.test/{key}" for key in door.house.artifacts.stored
    ]
    assert "b64_json" not in body["data"][0]
    job = await door.house.kept("job-1")
    assert job.pictures_asked.num_images == 3


async def test_what_changes_nothing_is_said() -> None:
    """Fields that this server has no use for, but for their `auto`."""
    warnings = (await painted(Door(), quality="hd", style="vivid", moderation="auto", user="u-1")).json()["warnings"]
    assert [warning.split()[0] for warning in warnings] == ["quality", "style"]


async def test_our_own_words_reach_the_job() -> None:
    """What OpenAI has no word for."""
    door = Door()
    wishes = {
        "model": "other", "seed": 9, "negative_prompt": "moon", "num_inference_steps": 3, "guidance_scale": 2,
        "adapters": [{"name": "ink", "scale": 0.5}], "solver": "euler",
    }  # fmt: skip
    await painted(door, **wishes)
    request = (await door.house.kept("job-1")).pictures_asked
    assert (request.model, request.seed, request.negative_prompt, request.solver) == ("other", 9, "moon", "euler")
    assert (request.num_inference_steps, request.guidance_scale) == (3, 2.0)
    assert [(use.name, use.scale) for use in request.adapters] == [("ink", 0.5)]


@pytest.mark.parametrize(
    ("wishes", "param", "limit"),
    [
        ({"prompt": ""}, "prompt", "at least 1 characters"),
        ({"n": 5}, "n", "at most 4"),
        ({"size": "1024x1024"}, "size", "64 to 512, in steps of 8"),
        ({"size": "250x256"}, "size", "64 to 512, in steps of 8"),
        ({"size": "large"}, "size", None),
        ({"size": "0x64"}, "size", None),
        ({"output_format": "webp"}, "output_format", "one of 'png'"),
        ({"output_compression": 50}, "output_compression", "at least 100"),
        ({"background": "transparent"}, "background", "one of 'auto' or 'opaque'"),
        ({"response_format": "bytes"}, "response_format", "one of 'b64_json' or 'url'"),
        ({"partial_images": 2}, "partial_images", "0 without stream"),
        ({"stream": True, "partial_images": 4}, "partial_images", "at most 3"),
        ({"stream": True, "partial_images": 1, "n": 2}, "partial_images", None),
        ({"stream": True, "response_format": "url"}, "response_format", None),
        ({"mask": "x"}, "mask", "left out: there is no such field"),
        ({"solver": "magic"}, "solver", "one of dpmpp_2m, euler"),
        ({"strength": 0.5}, "strength", "left out: there is no such field"),
    ],
)
async def test_what_does_not_fit_is_a_bad_request(wishes: dict[str, Any], param: str, limit: str | None) -> None:
    """400 as OpenAI answers, with the field in its own word; its client is told not to try again."""
    door = Door()
    refused = await door.ask("POST", GENERATIONS, {"prompt": "a star", **wishes})
    error = refused.json()["error"]
    assert (refused.status, error["code"], error["type"]) == (400, "INVALID_PARAMETER", "invalid_request_error")
    assert error["param"] == error["details"]["field"] == param
    assert error["details"]["limit"]
    if limit is not None:
        assert error["details"]["limit"] == limit
    assert refused.headers["x-should-retry"] == "false"
    assert not door.house.painter.known


async def test_a_model_that_is_not_here_is_not_found() -> None:
    """404, with the names of those that are."""
    refused = await Door().ask("POST", GENERATIONS, {"prompt": "a star", "model": "dall-e-3"})
    assert (refused.status, refused.json()["error"]["param"]) == (404, "model")


async def test_a_failure_is_told_with_its_reason() -> None:
    """And whether it is worth another try: not what would fail again."""
    door = Door()
    exchange = await begun(door)
    door.house.painter.fail("job-1", GenerationError("the numbers are gone"))
    failed = await exchange.answer()
    assert (failed.status, failed.json()["error"]["code"]) == (500, "GENERATION_FAILED")
    assert failed.json()["error"]["type"] == "server_error"
    assert failed.headers["x-should-retry"] == "false"


async def test_a_job_that_somebody_cancels_is_told() -> None:
    """The request does not wait for ever."""
    door = Door()
    exchange = await begun(door)
    await door.ask("POST", "/v1/jobs/job-1/cancel")
    door.house.painter.confirm_cancel("job-1")
    answer = await exchange.answer()
    assert (answer.status, answer.json()["error"]["message"]) == (409, "job job-1 was cancelled")


async def test_who_goes_away_wants_no_picture() -> None:
    """The job is canceled: nobody could find it."""
    door = Door()
    exchange = await begun(door)
    exchange.hang_up()
    await settle()
    assert door.house.painter.cancels == ["job-1"]
    door.house.painter.confirm_cancel("job-1")
    assert (await door.house.kept("job-1")).state is JobState.CANCELED
    assert len(door.listeners) == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_who_has_a_key_may_come_again(stream: bool) -> None:
    """The job goes on, and the same request is answered with its picture."""
    door = Door()
    key = {"idempotency-key": "order-7"}
    exchange = await begun(door, headers=key, stream=stream)
    exchange.hang_up()
    await settle()
    assert door.house.painter.cancels == []
    door.house.painter.paint("job-1")
    answer = await (await begun(door, headers=key)).answer()
    assert (answer.status, answer.json()["job_id"]) == (200, "job-1")


async def test_a_picture_that_takes_too_long_is_given_up() -> None:
    """504, and its job is canceled."""
    door = Door()
    exchange = await begun(door)
    await door.house.pass_time(door.parts.waits.generation_timeout)
    answer = await exchange.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
    assert door.house.painter.cancels == ["job-1"]


async def test_a_picture_under_a_key_is_not_given_up() -> None:
    """504, and the job goes on: the same request is answered with it when it is there."""
    door = Door()
    key = {"idempotency-key": "order-8"}
    exchange = await begun(door, headers=key)
    await door.house.pass_time(door.parts.waits.generation_timeout)
    late = await exchange.answer()
    assert (late.status, late.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
    assert "retry-after" in late.headers
    assert door.house.painter.cancels == []
    door.house.painter.paint("job-1")
    answer = await (await begun(door, headers=key)).answer()
    assert (answer.status, answer.json()["job_id"]) == (200, "job-1")


async def test_a_stopping_server_lets_its_clients_come_again() -> None:
    """503 with when; the job is not canceled, since another life of the server will end it."""
    door = Door()
    exchange = await begun(door)
    door.house.health.drain()
    door.listeners.leave()
    answer = await exchange.answer()
    assert (answer.status, answer.headers["retry-after"], answer.headers["x-should-retry"]) == (503, "5", "true")
    assert door.house.painter.cancels == []


async def test_a_picture_that_cannot_be_read_is_refused() -> None:
    """Before anything was said."""
    door = Door()
    door.house.artifacts.read_error = OSError("the disk is gone")
    answer = await painted(door)
    assert (answer.status, answer.json()["error"]["code"]) == (503, "STORAGE_FAILED")
    assert "retry-after" in answer.headers


async def test_a_stream_has_partial_images_and_the_picture() -> None:
    """As many partial images as were asked for, spread over the way; then the stored picture."""
    door = Door()
    exchange = await begun(door, stream=True, partial_images=2, num_inference_steps=9, seed=5)
    assert exchange.headers["content-type"].startswith("text/event-stream")
    painter = door.house.painter
    painter.start("job-1")
    assert painter.known["job-1"].preview_every == 3
    for step in range(1, 10):
        painter.step("job-1", step)
        if step % 3 == 0:
            painter.preview("job-1", 0, step, step)
        await settle()
    first, second = await exchange.events()
    assert [event["type"] for event in (first, second)] == ["image_generation.partial_image"] * 2
    assert [event["partial_image_index"] for event in (first, second)] == [0, 1]
    assert base64.b64decode(first["b64_json"]).startswith(b"\x89PNG")
    assert (first["size"], first["quality"], first["background"], first["output_format"]) == (
        "256x256",
        "auto",
        "opaque",
        "png",
    )
    painter.finish("job-1", "the prompt is long")
    (completed,) = await exchange.events()
    (stored,) = door.house.artifacts.stored.values()
    assert completed["type"] == "image_generation.completed"
    assert base64.b64decode(completed["b64_json"]) == stored
    assert (completed["seed"], completed["warnings"]) == (5, ["the prompt is long"])
    assert completed["usage"]["input_tokens_details"] == {"image_tokens": 0, "text_tokens": 0}
    assert (await exchange.answer()).status == 200


async def test_a_stream_of_several_pictures_completes_each() -> None:
    """One event a picture; nothing in between can be mistaken for an event by its client's decoder."""
    door = Door()
    exchange = await begun(door, stream=True, n=2)
    door.house.painter.paint("job-1")
    told = await exchange.take()
    assert told.count("event: image_generation.completed\n") == 2
    assert "retry:" not in told
    assert "id:" not in told


async def test_a_stream_tells_what_went_wrong() -> None:
    """A failed job, a canceled one, a picture that cannot be read: an error that its client makes an exception of."""
    door = Door()
    door.house.artifacts.read_error = OSError("the disk is gone")
    unreadable = await begun(door, stream=True)
    canceled = await begun(door, stream=True)
    door.house.painter.paint("job-1")
    await door.ask("POST", "/v1/jobs/job-2/cancel")
    door.house.painter.confirm_cancel("job-2")
    for exchange, code in ((unreadable, "STORAGE_FAILED"), (canceled, "GENERATION_FAILED")):
        (event,) = await exchange.events()
        assert event["error"]["code"] == code
        assert (await exchange.answer()).status == 200


async def test_who_leaves_a_stream_wants_no_picture() -> None:
    """The job is canceled."""
    door = Door()
    exchange = await begun(door, stream=True)
    exchange.hang_up()
    await exchange.task
    assert door.house.painter.cancels == ["job-1"]


async def test_a_picture_is_edited() -> None:
    """Texts are numbers where they should be; the size is the upload's; strength says how much changes."""
    door = Door()
    texts = {"prompt": "a moon", "n": "2", "strength": "0.5", "seed": "5", "adapters": "[]", "stream": "false"}
    exchange = await door.open("POST", EDITS, **form(texts, {"image": a_png(72, 64)}))
    request = door.house.painter.known["job-1"]
    assert (request.prompt, request.num_images, request.strength, request.seed) == ("a moon", 2, 0.5, 5)
    assert (request.width, request.height) == (72, 64)
    door.house.painter.paint("job-1")
    body = (await exchange.answer()).json()
    assert (len(body["data"]), body["size"]) == (2, "72x64")


async def test_an_edit_streams_under_its_own_names() -> None:
    """Partial images are spread over the steps that strength leaves."""
    door = Door()
    texts = {"prompt": "a moon", "stream": "true", "partial_images": "1", "num_inference_steps": "8", "strength": "0.5"}
    exchange = await door.open("POST", EDITS, **form(texts, {"image[]": a_png(64, 64)}))
    painter = door.house.painter
    assert painter.known["job-1"].preview_every == 2
    painter.start("job-1")
    painter.preview("job-1", 0, 2)
    await settle()
    painter.finish("job-1")
    assert [event["type"] for event in await exchange.events()] == ["image_edit.partial_image", "image_edit.completed"]


@pytest.mark.parametrize(
    ("texts", "files", "param"),
    [
        ({"prompt": "x"}, {}, "image"),
        ({"prompt": "x", "image": "a.png"}, {}, "image"),
        ({"prompt": "x"}, {"image": b""}, "image"),
        ({"prompt": "x"}, {"image": b"GIF89a"}, "image"),
        ({"prompt": "x"}, {"image": b"x" * 20_001}, "body"),
        ({"prompt": "x"}, {"image": b"\x89PNG", "image[]": b"\x89PNG"}, "image"),
        ({"prompt": "x"}, {"image": b"\x89PNG", "mask": b"\x89PNG"}, "mask"),
        ({"prompt": "x"}, {"image": b"\x89PNG", "other": b"y"}, "other"),
        ({}, {"image": b"\x89PNG"}, "prompt"),
        ({"prompt": "x", "n": "two"}, {"image": b"\x89PNG"}, "n"),
        ({"prompt": "x", "strength": "2"}, {"image": b"\x89PNG"}, "strength"),
        ({"prompt": "x", "adapters": "ink"}, {"image": b"\x89PNG"}, "adapters"),
        ({"prompt": "x", "style": "vivid"}, {"image": b"\x89PNG"}, "style"),
    ],
)
async def test_an_edit_that_does_not_fit_is_refused(texts: dict[str, str], files: dict[str, bytes], param: str) -> None:
    """With the field's name; a body that is too large is 413."""
    door = Door()
    refused = await door.ask("POST", EDITS, **form(texts, files))
    assert (refused.status, refused.json()["error"]["param"]) == (413 if param == "body" else 400, param)
    assert not door.house.painter.known
    assert door.house.places.taken == 0


async def test_an_edit_is_a_form() -> None:
    """JSON, and a form that breaks off, are refused as such."""
    door = Door()
    refused = await door.ask("POST", EDITS, {"prompt": "x"})
    assert (refused.status, refused.json()["error"]["param"]) == (400, "Content-Type")
    broken = await door.ask(
        "POST", EDITS, body=b"--x\r\nno", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert (broken.status, broken.json()["error"]["code"]) in ((400, "MALFORMED_MESSAGE"), (400, "INVALID_PARAMETER"))
    twice = form({"prompt": "x"}, {})
    twice["body"] = twice["body"].replace(
        b"--x--", b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\ny\r\n--x--'
    )
    assert (await door.ask("POST", EDITS, **twice)).json()["error"]["details"]["limit"] == "given once"


async def test_a_slow_reader_costs_a_piece_of_a_picture() -> None:
    """Nothing more is read from the storage than the client takes."""
    door = Door()
    exchange = await begun(door)
    exchange.reading.clear()
    door.house.painter.paint("job-1")
    await settle()
    assert len(door.house.artifacts.reads) <= 1
    exchange.reading.set()
    assert json.loads((await exchange.answer()).body)["data"]
