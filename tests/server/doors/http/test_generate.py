"""The SDXL dialect: what is answered, what is refused, what becomes of a job whose client goes away."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from ai.cards import ModelCard
from ai.types import DeadlineExceeded, EngineNumbers, GenerationError, ModelLoadError, OutOfMemory
from server.doors.http.parts import HttpLimits, Waits
from server.doors.http.waiting import GRACE, Preference, preference_of
from server.job import JobState
from server.replies import ModelState
from tests.server.doors.http.door import Answer, Door, Exchange
from tests.server.fakes import CARD, OTHER_CARD, settle
from tests.server.house import BOB, LIMITS, TOKENS, House
from tests.server.pictures import a_hollow_png, a_png

GENERATE, IMG2IMG = "/api/v1/generate", "/api/v1/img2img"
REFINED = replace(CARD, refiner=ModelCard(name="demo:refiner", source="models/refiner"))
CPU = EngineNumbers(device="cpu")
CUDA = EngineNumbers(device="cuda:0, cuda:1", device_name="NVIDIA H200, NVIDIA H200")


def a_door(**parts: Any) -> Door:
    """One whose engine has told what it paints with."""
    return Door(**{"numbers": lambda: CPU, **parts})


async def ask(door: Door, json_body: Any, **given: Any) -> Answer:
    """A request, the painting, and the answer. The job is the door's latest."""
    return await done(door, await door.open("POST", GENERATE, json_body, **given))


async def done(door: Door, exchange: Exchange) -> Answer:
    """What is answered when the job has been painted, if there is one."""
    for job_id in list(door.house.painter.known):
        door.house.painter.paint(job_id)
    return await exchange.answer()


def form(**sent: Any) -> dict[str, Any]:
    """A multipart request: texts, and files as (filename, content type, bytes); a list sends a name several times."""
    body = b""
    for name, values in sent.items():
        for value in values if isinstance(values, list) else [values]:
            disposition, content = f'form-data; name="{name}"', str(value).encode()
            if isinstance(value, tuple):
                disposition, content = f'{disposition}; filename="{value[0]}"\r\nContent-Type: {value[1]}', value[2]
            body += b"--b\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"
    return {"body": body + b"--b--\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}


def upload(data: bytes, kind: str = "image/png") -> tuple[str, str, bytes]:
    """A file."""
    return "start.png", kind, data


def jpeg(width: int, height: int) -> bytes:
    """A small one of a large size."""
    file = BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "JPEG")
    return file.getvalue()


async def is_free(door: Door) -> bool:
    """Whether nothing is left of any job, nor anybody who listens to one."""
    door.house.is_free()  # which lets the engine answer what it was asked
    await settle()
    await door.house.pass_time(1.0)  # the listeners' own pace
    return door.house.is_free()


# What is answered


async def test_a_picture_is_answered_when_it_is_painted() -> None:
    """Not before; with every field of the contract and no other, and each of the type it must have."""
    door = a_door()
    asked = {
        "prompt": "a star",
        "negative_prompt": "moon",
        "width": 128,
        "height": 64,
        "steps": 3,
        "guidance_scale": 2,
        "seed": 5,
    }
    exchange = await door.open("POST", GENERATE, asked)
    assert not exchange.started.is_set()
    answer = await done(door, exchange)
    created_at = answer.json()["meta"].pop("created_at")
    assert created_at == "1970-01-12T13:46:40.000Z"
    assert (answer.status, answer.json()) == (
        200,
        {
            "id": "job-1",
            "image_url": "/outputs/images/job-1.png",
            "meta_url": "/outputs/metadata/job-1.json",
            "meta": {
                "id": "job-1", "created_at": created_at, "model_id": "demo", "prompt": "a star", "negative_prompt": "moon",
                "width": 128, "height": 64, "steps": 3, "guidance_scale": 2.0, "seed": 5, "device": "cpu",
                "refiner_used": False, "refiner_strength": 0.0, "image_file": "job-1.png", "meta_file": "job-1.json",
            },
        },
    )  # fmt: skip


async def test_a_prompt_is_enough() -> None:
    """The server fills in its defaults, and tells the seed that it chose; null is the same as left out."""
    left_out = await ask(a_door(), {"prompt": "a star"})
    fields = (
        "negative_prompt",
        "width",
        "height",
        "steps",
        "guidance_scale",
        "seed",
        "use_refiner",
        "refiner_strength",
    )
    null = await ask(a_door(), {"prompt": "a star", **dict.fromkeys(fields)})
    assert left_out.json() == null.json()
    meta = left_out.json()["meta"]
    assert [meta[name] for name in ("negative_prompt", "width", "height", "steps", "guidance_scale", "seed")] == [
        "", 64, 72, 20, 4.0, 1001,
    ]  # fmt: skip


async def test_a_picture_and_its_meta_are_under_outputs() -> None:
    """At the addresses in the answer, for whoever has them; the picture in one piece, in parts, by HEAD."""
    door = a_door()
    told = (await ask(door, {"prompt": "a star"})).json()
    (stored,) = door.house.artifacts.stored.values()
    picture = await door.ask("GET", told["image_url"], token="")
    assert (picture.status, picture.headers["content-type"], picture.body) == (200, "image/png", stored)
    part = await door.ask("GET", told["image_url"], token="", headers={"range": "bytes=0-3"})
    assert (part.status, part.body) == (206, stored[:4])
    head = await door.ask("HEAD", told["image_url"])
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(stored)))
    meta = await door.ask("GET", told["meta_url"], token="")
    assert (meta.status, meta.headers["content-type"], meta.json()) == (200, "application/json", told["meta"])


async def test_numbers_may_be_written_as_texts_and_other_fields_mean_nothing() -> None:
    """As front ends send them, and as such servers took them."""
    answer = await ask(
        a_door(), {"prompt": "x", "width": "128", "steps": "3", "guidance_scale": "2.5", "scheduler": "new"}
    )
    meta = answer.json()["meta"]
    assert (meta["width"], meta["steps"], meta["guidance_scale"]) == (128, 3, 2.5)


async def test_a_request_is_its_key_s_job() -> None:
    """Asked again under the same Idempotency-Key, the picture is answered at once, and painted once."""
    door = a_door()
    keyed = {"headers": {"idempotency-key": "order-7"}}
    first = await ask(door, {"prompt": "a star"}, **keyed)
    second = await door.ask("POST", GENERATE, {"prompt": "a star"}, **keyed)
    assert (second.status, second.json()) == (200, first.json())
    other = await door.ask("POST", GENERATE, {"prompt": "another"}, **keyed)
    assert (other.status, other.json()["error"]["code"]) == (409, "IDEMPOTENCY_CONFLICT")


# The refiner


@pytest.mark.parametrize(
    ("asked", "used", "strength"),
    [
        ({}, True, 0.2), ({"use_refiner": True}, True, 0.2), ({"use_refiner": False, "refiner_strength": 0.3}, False, 0.0),
        ({"use_refiner": True, "refiner_strength": 0.3}, True, 0.3), ({"refiner_strength": 0.35}, True, 0.35),
        ({"refiner_strength": 0}, False, 0.0), ({"refiner_strength": 1}, True, 1.0),
    ],
)  # fmt: skip
async def test_the_refiner_is_used_as_asked(asked: dict[str, Any], used: bool, strength: float) -> None:
    """And the meta says what was done; the engine is told the same."""
    door = a_door(house=House(cards=(REFINED, OTHER_CARD)))
    meta = (await ask(door, {"prompt": "a star", **asked})).json()["meta"]
    assert (meta["refiner_used"], meta["refiner_strength"]) == (used, strength)
    assert (await door.house.kept("job-1")).pictures_asked.refiner_strength == strength


async def test_a_model_without_a_refiner_does_without() -> None:
    """Front ends ask for one always; the meta says that there was none."""
    meta = (await ask(a_door(), {"prompt": "a star", "use_refiner": True, "refiner_strength": 0.3})).json()["meta"]
    assert (meta["refiner_used"], meta["refiner_strength"]) == (False, 0.0)


# What is refused

WIDTHS, HEIGHTS = "64 to 512, in steps of 8", "64 to 256, in steps of 8"
REFUSED: list[tuple[str, Any, str]] = [
    ("width", 56, WIDTHS), ("width", 63, WIDTHS), ("width", 520, WIDTHS), ("width", 65, WIDTHS), ("width", -8, WIDTHS),
    ("width", 10**30, WIDTHS), ("height", 56, HEIGHTS), ("height", 264, HEIGHTS), ("height", 0, HEIGHTS),
    ("steps", 0, "1 to 50"), ("steps", 51, "1 to 50"), ("steps", -1, "1 to 50"),
    ("guidance_scale", -0.1, "0 to 50"), ("guidance_scale", 50.1, "0 to 50"),
    ("seed", -1, "0 to 9223372036854775803"), ("seed", 2**63, "0 to 9223372036854775803"),
    ("refiner_strength", -0.1, "0 to 1"), ("refiner_strength", 1.1, "0 to 1"),
    ("prompt", "", "at least 1 characters"), ("prompt", " ", "at least 1 character"), ("prompt", "x" * 101, "at most 100"),
    ("prompt", None, "a text"), ("prompt", 7, "a text"), ("negative_prompt", "x" * 101, "at most 100 characters"),
    ("width", "wide", "a whole number"), ("width", 64.5, "a whole number"), ("use_refiner", "perhaps", "true or false"),
    ("guidance_scale", "NaN", "a number"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "limit"), REFUSED)
async def test_what_does_not_fit_is_refused_by_name_and_range(field: str, value: Any, limit: str) -> None:
    """422 with the field as this dialect calls it, and what would have been taken; nothing is clamped, nothing painted."""
    door = a_door(house=House(cards=(REFINED, OTHER_CARD)))
    answer = await door.ask("POST", GENERATE, {"prompt": "a star", field: value})
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["details"]["field"]) == (422, "INVALID_PARAMETER", field)
    assert limit in error["details"]["limit"]
    assert field in error["message"]
    assert answer.json()["detail"][0]["loc"] == ["body", field]
    assert door.house.places.taken == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 64), ("width", 512), ("height", 64), ("height", 256), ("steps", 1), ("steps", 50), ("guidance_scale", 0),
     ("guidance_scale", 50), ("seed", 0), ("seed", 2**63 - 5), ("prompt", "x"), ("prompt", "x" * 100)],
)  # fmt: skip
async def test_the_bounds_themselves_are_painted(field: str, value: Any) -> None:
    """As they were asked for."""
    assert (await ask(a_door(), {"prompt": "a star", field: value})).json()["meta"][field] == value


async def test_who_asks_is_asked() -> None:
    """A token is needed where the server has some; a job's failure to be admitted is told as everywhere."""
    door = a_door(house=House(pending=0))
    assert (await door.ask("POST", GENERATE, {"prompt": "x"}, token="")).status == 401
    full = await door.ask("POST", GENERATE, {"prompt": "x"})
    assert (full.status, full.json()["error"]["code"]) == (429, "RESOURCE_EXHAUSTED")


# What becomes of the job


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (GenerationError("NaN"), 500, "GENERATION_FAILED"), (OutOfMemory("no room"), 503, "GPU_OUT_OF_MEMORY"),
        (ModelLoadError("gone"), 503, "MODEL_LOAD_FAILED"), (DeadlineExceeded("late"), 504, "DEADLINE_EXCEEDED"),
    ],
)  # fmt: skip
async def test_a_failure_is_answered_with_its_status(error: Any, status: int, code: str) -> None:
    """And its code and reason."""
    door = a_door()
    exchange = await door.open("POST", GENERATE, {"prompt": "a star"})
    door.house.painter.start("job-1")
    door.house.painter.fail("job-1", error)
    answer = await exchange.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert (await door.ask("GET", "/outputs/metadata/job-1.json")).status == 404
    assert (await door.ask("GET", "/outputs/images/job-1.png")).status == 404


async def test_a_generation_has_a_deadline() -> None:
    """GENERATION_TIMEOUT: 504 when it has passed, and the engine's row is asked to be freed."""
    door = a_door(waits=Waits(generation_timeout=20.0))
    exchange = await door.open("POST", GENERATE, {"prompt": "a star"})
    door.house.painter.start("job-1")
    await door.house.pass_time(19.9)
    assert not exchange.started.is_set()
    await door.house.pass_time(0.2)
    answer = await exchange.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
    assert door.house.painter.cancels == ["job-1"]
    assert await is_free(door)


async def test_a_job_that_nobody_runs_is_given_up_too() -> None:
    """A gateway whose workers are gone hears of no deadline: it is answered all the same, and the job is cancelled."""
    door = a_door(waits=Waits(generation_timeout=20.0))
    door.house.lifecycle._overdue = lambda live: None  # type: ignore[method-assign]
    exchange = await door.open("POST", GENERATE, {"prompt": "a star"})
    await door.house.pass_time(20.0 + GRACE + 0.1)
    answer = await exchange.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (504, "DEADLINE_EXCEEDED")
    assert door.house.painter.cancels == ["job-1"]


async def test_a_cancelled_job_is_told_as_such() -> None:
    """409: somebody else cancelled it."""
    door = a_door()
    exchange = await door.open("POST", GENERATE, {"prompt": "a star"})
    assert (await door.ask("POST", "/v1/jobs/job-1/cancel")).status == 202
    door.house.painter.confirm_cancel("job-1")
    answer = await exchange.answer()
    assert (answer.status, answer.json()["error"]["message"]) == (409, "job job-1 was cancelled")


async def test_a_stop_lets_go_of_who_waits() -> None:
    """503 with when to come back; the job goes on after the next start, and is not cancelled."""
    door = a_door()
    exchange = await door.open("POST", GENERATE, {"prompt": "a star"})
    door.house.health.drain()
    door.listeners.leave()
    answer = await exchange.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert "retry-after" in answer.headers
    assert "job-1" in answer.json()["error"]["message"]
    assert door.house.painter.cancels == []


# A client that goes away


@pytest.mark.parametrize("phase", ["admitting", "queued", "started", "painted"])
async def test_a_client_that_goes_away_leaves_its_job(phase: str) -> None:
    """In every phase: the job is painted and kept, and nobody listens any more."""
    door = a_door()
    await leave(door, phase)
    assert door.house.painter.cancels == []
    for job_id in list(door.house.painter.known):
        door.house.painter.finish(job_id) if phase == "started" else door.house.painter.paint(job_id)
    await settle()
    assert (await door.house.kept("job-1")).state is JobState.SUCCEEDED
    assert (await door.ask("GET", "/outputs/images/job-1.png")).status == 200
    assert await is_free(door)


@pytest.mark.parametrize("phase", ["admitting", "queued", "started"])
async def test_or_takes_it_along_where_the_settings_say_so(phase: str) -> None:
    """ATELIER_HTTP_CANCEL_ON_DISCONNECT: the row is asked to be freed."""
    door = a_door(waits=Waits(cancel_on_disconnect=True))
    await leave(door, phase)
    assert door.house.painter.cancels == ["job-1"]
    assert await is_free(door)
    assert (await door.house.kept("job-1")).state is JobState.CANCELED


async def test_but_not_what_it_can_come_back_for() -> None:
    """It has the key under which the picture is; or it was told the job's id."""
    door = a_door(waits=Waits(cancel_on_disconnect=True))
    await leave(door, "queued", headers={"idempotency-key": "order-7"})
    await leave(door, "queued", headers={"prefer": "respond-async, wait=9"})
    assert door.house.painter.cancels == []
    assert (await ask(door, {"prompt": "a star"}, headers={"idempotency-key": "order-7"})).json()["id"] == "job-1"


async def leave(door: Door, phase: str, **given: Any) -> None:
    """A request whose client goes away."""
    gate = asyncio.Event()
    if phase == "admitting":
        kept = door.house.store.admit

        async def slowly(*args: Any, **more: Any) -> Any:
            await gate.wait()
            return await kept(*args, **more)

        door.house.store.admit = slowly  # type: ignore[method-assign]
    exchange = await door.open("POST", GENERATE, {"prompt": "a star"}, **given)
    if phase == "started":
        door.house.painter.start("job-1")
    if phase == "painted":
        exchange.reading.clear()
        door.house.painter.paint("job-1")
        await settle()
        exchange.task.cancel()  # the connection is lost while it is answered
        exchange.reading.set()
    exchange.hang_up()
    await settle()
    gate.set()
    await settle()
    assert exchange.task.done()


# Prefer: respond-async


async def test_a_job_may_be_answered_at_once() -> None:
    """202 with the job, and where it is; its picture comes under the same addresses."""
    door = a_door()
    answer = await door.ask("POST", GENERATE, {"prompt": "a star"}, headers={"prefer": "respond-async"})
    job = answer.json()
    assert (answer.status, job["id"], job["state"]) == (202, "job-1", "queued")
    assert (answer.headers["location"], answer.headers["preference-applied"]) == ("/v1/jobs/job-1", "respond-async")
    assert (await door.ask("GET", answer.headers["location"])).json() == job
    door.house.painter.paint("job-1")
    await settle()
    assert (await door.ask("GET", "/outputs/metadata/job-1.json")).json()["prompt"] == "a star"


async def test_or_after_a_while() -> None:
    """With wait=5 the picture, if it is painted by then; else the job."""
    for painted in (True, False):
        door = a_door()
        prefer = {"prefer": "respond-async, wait=5"}
        exchange = await door.open("POST", GENERATE, {"prompt": "a star"}, headers=prefer)
        await door.house.pass_time(4.9)
        assert not exchange.started.is_set()
        if painted:
            door.house.painter.paint("job-1")
        await door.house.pass_time(0.2)
        assert (await exchange.answer()).status == (200 if painted else 202)


@pytest.mark.parametrize(
    ("headers", "preference"),
    [
        ([], Preference()), ([""], Preference()), (["respond-async"], Preference(True)),
        (["Respond-Async; x=1, wait=7"], Preference(True, 7.0)), (["wait=7", "respond-async"], Preference(True, 7.0)),
        (['wait="7"'], Preference(False, 7.0)), (["wait=x, wait=-1, wait=1e3, wait=9999999"], Preference()),
        (["return=minimal, respond-asynchronously"], Preference()), (["wait=3, wait=4"], Preference(False, 3.0)),
        (["wait=²"], Preference()),
    ],
)  # fmt: skip
def test_preferences_are_read_as_rfc_7240_says(headers: list[str], preference: Preference) -> None:
    """What is not understood means nothing; the first of two counts."""
    assert preference_of(headers) == preference


# img2img


async def test_a_picture_is_painted_from_a_picture() -> None:
    """Its size is the file's where none is given; the strength is 0.75 where none is, and in the meta."""
    door = a_door()
    exchange = await door.open(
        "POST", IMG2IMG, **form(image=upload(a_png(72, 64)), prompt="a star", seed="", steps="4")
    )
    told = (await done(door, exchange)).json()
    assert (told["meta"]["width"], told["meta"]["height"], told["meta"]["steps"]) == (72, 64, 4)
    assert told["meta"]["strength"] == 0.75
    assert list(told["meta"])[-1] == "strength"
    assert (await door.ask("GET", told["meta_url"])).json() == told["meta"]
    request = (await door.house.kept("job-1")).pictures_asked
    assert request.strength == 0.75


async def test_every_field_of_the_form_reaches_the_job() -> None:
    """As texts, which is all that a form has."""
    door = a_door(house=House(cards=(REFINED, OTHER_CARD)))
    texts = {
        "prompt": "별", "negative_prompt": "moon", "strength": "0.5", "width": "128", "height": "64", "steps": "4",
        "guidance_scale": "2.5", "seed": "9", "use_refiner": "true", "refiner_strength": "0.3",
    }  # fmt: skip
    exchange = await door.open("POST", IMG2IMG, **form(image=upload(jpeg(100, 90), "image/jpeg"), **texts))
    meta = (await done(door, exchange)).json()["meta"]
    assert {name: str(meta[name]) for name in texts if name != "use_refiner"} == {
        name: text for name, text in texts.items() if name != "use_refiner"
    }
    assert meta["refiner_used"] is True


WRONG: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "no file": ({}, 422, "image", "a file"),
    "a text instead": ({"image": "a.png"}, 422, "image", "a file"),
    "no file chosen": ({"image": ("", "application/octet-stream", b"")}, 422, "image", "a file"),
    "an empty file": ({"image": upload(b"")}, 422, "image", "with something in it"),
    "two files": ({"image": [upload(a_png()), upload(a_png())]}, 422, "image", "one file"),
    "no picture": ({"image": upload(b"GIF89a" + bytes(50))}, 422, "image", "PNG, JPEG or WEBP"),
    "a text file": ({"image": upload(b"hello", "text/plain")}, 422, "image", "image/png"),
    "half a picture": ({"image": upload(a_png(64, 64)[:900])}, 422, "image", "a sound file"),
    "a hollow picture": ({"image": upload(a_hollow_png())}, 422, "image", "a sound file"),
    "too many pixels": ({"image": upload(jpeg(600, 500), "image/jpeg")}, 422, "image", "at most 250000 pixels"),
    "too small": ({"image": upload(a_png(8, 64))}, 422, "width", WIDTHS),
    "too large": ({"image": upload(jpeg(520, 64), "image/jpeg")}, 422, "width", WIDTHS),
    "a strength of none": ({"image": upload(a_png(64, 64)), "strength": "0"}, 422, "strength", "more than 0"),
    "a strength of more": ({"image": upload(a_png(64, 64)), "strength": "1.1"}, 422, "strength", "at most 1"),
    "a strength without step": (
        {"image": upload(a_png(64, 64)), "strength": "0.1", "steps": "5"}, 422, "strength", "at least 0.2",
    ),
    "steps": ({"image": upload(a_png(64, 64)), "steps": "51"}, 422, "steps", "1 to 50"),
    "no number": ({"image": upload(a_png(64, 64)), "seed": "seven"}, 422, "seed", "a whole number"),
    "twice": ({"image": upload(a_png(64, 64)), "seed": ["1", "2"]}, 422, "seed", "given once"),
    "an empty prompt": ({"image": upload(a_png(64, 64)), "prompt": ""}, 422, "prompt", "given"),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "status", "field", "limit"), WRONG.values(), ids=WRONG.keys())
async def test_a_form_that_does_not_fit_is_refused(sent: dict[str, Any], status: int, field: str, limit: str) -> None:
    """Each fault by its field, and what would have been taken."""
    door = a_door()
    answer = await door.ask("POST", IMG2IMG, **form(**{"prompt": "a star", **sent}))
    error = answer.json()["error"]
    assert (answer.status, error["details"]["field"]) == (status, field), error
    assert limit in error["details"]["limit"]
    assert "init_image" not in error["message"]
    assert await is_free(door)


async def test_a_file_has_a_limit_of_bytes() -> None:
    """The setting's, by the file's name; and the body's, whatever is in it."""
    limits = HttpLimits(max_body_bytes=100_000, max_bodies_bytes=1 << 20, chunk_bytes=1024)
    file = await a_door(limits=limits).ask("POST", IMG2IMG, **form(prompt="x", image=upload(bytes(20_001))))
    assert (file.status, file.json()["error"]["details"]["limit"]) == (422, "at most 20000 bytes")
    body = await a_door().ask("POST", IMG2IMG, **form(prompt="x", image=upload(bytes(30_000))))
    assert (body.status, body.json()["error"]["code"]) == (413, "FRAME_TOO_LARGE")


@pytest.mark.parametrize(
    ("given", "status", "field"),
    [
        ({"json_body": {"prompt": "x"}}, 422, "Content-Type"),
        ({"body": b"prompt=x", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 422, "Content-Type"),
        ({"body": b"--b\r\n", "headers": {"content-type": "multipart/form-data"}}, 422, "Content-Type"),
        ({"body": b"--b\r\nContent-Dis", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400, "body"),
    ],
)  # fmt: skip
async def test_what_is_no_form_is_refused(given: dict[str, Any], status: int, field: str) -> None:
    """JSON, a form without files, a truncated one."""
    answer = await a_door().ask("POST", IMG2IMG, given.pop("json_body", None), **given)
    assert (answer.status, answer.json()["error"]["details"]["field"]) == (status, field)


# /outputs


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "..%252f..%252fetc", "job-1%00", "job-1\x00", "..\\..\\etc",
        "..%5c..%5cetc", "/etc/passwd", "%2fetc%2fpasswd", "C:\\windows",
        "job-1/../job-1", "./job-1", "job-1 ", "JOB-1", "", "nobody",
    ],
)  # fmt: skip
async def test_outputs_lead_nowhere_else(path: str) -> None:
    """An address holds an id, which is looked up as it stands; no part of it is a path, however it is written."""
    door = a_door()
    await ask(door, {"prompt": "a star"})
    door.house.artifacts.reads.clear()
    for target in (f"/outputs/images/{path}.png", f"/outputs/metadata/{path}.json"):
        assert (await door.ask("GET", target)).status == 404
    assert door.house.artifacts.reads == []


async def test_an_id_has_a_limit() -> None:
    """Of characters."""
    assert (await a_door().ask("GET", f"/outputs/images/{'a' * 65}.png")).status == 422


async def test_pictures_of_every_door_are_there() -> None:
    """Also of a job that was submitted otherwise, and of another owner: the id is the key."""
    door = a_door()
    bob = TOKENS[BOB].get_secret_value()
    job_id = (await door.ask("POST", "/v1/jobs", {"prompt": "a star"}, token=bob)).json()["id"]
    assert (await door.ask("GET", f"/outputs/metadata/{job_id}.json")).status == 404
    door.house.painter.paint(job_id)
    await settle()
    assert (await door.ask("GET", f"/outputs/images/{job_id}.png")).status == 200
    assert (await door.ask("GET", f"/outputs/metadata/{job_id}.json")).json()["id"] == job_id


# / and /health


async def test_it_says_that_it_runs() -> None:
    """Without a token."""
    told = (await a_door().ask("GET", "/", token="")).json()
    assert set(told) == {"status", "message", "docs"}
    assert (told["status"], told["docs"]) == ("running", "/docs")


async def test_health_is_told_by_what_is_known() -> None:
    """The engine is asked until it knows its device, and then never again: an answer costs nothing."""
    known = [EngineNumbers(), CUDA]
    door = Door(numbers=lambda: known[0])
    loading = await door.ask("GET", "/health", token="")
    assert (loading.status, loading.json()) == (
        200,
        {"status": "loading", "cuda_available": False, "cuda_device": None},
    )
    door.house.health._set("demo", ModelState.READY)
    del known[0]
    for _ in range(2):
        ready = await door.ask("GET", "/health", token="")
        assert ready.json() == {
            "status": "healthy", "cuda_available": True, "cuda_device": "NVIDIA H200, NVIDIA H200",
        }  # fmt: skip
        known.clear()
    door.house.health.engine_died("the device is lost")
    failed = await door.ask("GET", "/health", token="")
    assert (failed.status, failed.json()["status"]) == (503, "failed")


async def test_health_is_told_while_a_picture_is_painted() -> None:
    """And a CPU is no CUDA device."""
    door = a_door()
    exchange = await door.open("POST", GENERATE, {"prompt": "a star"})
    assert (await door.ask("GET", "/health")).json()["cuda_available"] is False
    assert (await done(door, exchange)).status == 200


def test_limits_of_the_tests_are_those_of_the_house() -> None:
    """So that the ranges above are what the server says."""
    assert (LIMITS.max_width, LIMITS.max_height, LIMITS.max_num_inference_steps) == (512, 256, 50)
