"""Jobs of custom models: admitted by their classes' schemas, their files kept apart, their pictures stored as any other's."""

from __future__ import annotations

import asyncio
import base64
import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from ai.custom.cards import ClassPath, CustomCard
from ai.types import (
    CustomRequest,
    EngineError,
    GenerationError,
    InputError,
    MemoryLimitExceeded,
    ModelLoadError,
    Picture,
)
from server.commands import MAX_INPUT_BYTES, Predict
from server.errors import Code, Refusal
from server.job import Job, JobState
from server.prediction import prediction
from tests.server.fakes import CARD, TEXT_CARD, finished, picture_key, settle
from tests.server.house import ADA, LIMITS, House
from tests.server.pictures import a_hollow_png, a_png
from watermark import ImageMark, Signature, TextMark

SCALER = CustomCard(
    name="scaler",
    path=ClassPath("a.b", "C"),
    model_type="image-to-image",
    input_schema={
        "image": {"type": "string", "contentMediaType": "image/*", "required": True},
        "scale": {"type": "integer", "minimum": 2, "maximum": 4, "default": 2},
        "name": {"type": "string", "default": None},
    },
)
BROKEN = CustomCard(
    name="broken", path=ClassPath("a.b", "C"), problem="a.b:C: ModuleNotFoundError: No module named 'a'"
)
DATA = b"\x89PNG and more"
ADDRESS = "data:image/png;base64," + base64.b64encode(DATA).decode()


def a_house(**given: Any) -> House:
    """One with a custom model, and one that cannot be used."""
    return House(cards=(CARD, SCALER, BROKEN), **given)


async def a_job(house: House, signature: Signature | None = None, **given: Any) -> Job:
    """One that was just accepted."""
    asked = Predict(owner=ADA, model="scaler", input={"image": ADDRESS, **given}, signature=signature)
    return (await house.submit(asked)).job


async def test_a_file_is_kept_apart_from_what_is_told() -> None:
    """The request has its bytes, while the input says what they were; a text that looks like a file is a text."""
    house = a_house()
    job = await a_job(house, name="data:text/plain;base64,aGVsbG8=")
    request = house.painter.texts[job.id]
    assert isinstance(request, CustomRequest)
    assert request.files == {"image": DATA}
    assert request.input == {
        "image": f"data:image/png, {len(DATA)} bytes",
        "scale": 2,
        "name": "data:text/plain;base64,aGVsbG8=",
    }
    assert prediction(job)["input"] == request.input
    assert house.places.image_bytes == len(DATA)
    house.painter.start(job.id)
    house.painter.answer(job.id, "done")
    await settle()
    kept = await house.kept(job.id)
    assert isinstance(kept.request, CustomRequest)
    assert (kept.output, kept.request.files) == ("done", {})
    assert house.is_free()


async def test_its_pictures_are_stored_as_any_other_s() -> None:
    """They say which job and model made them; the prediction's output is their addresses."""
    house = a_house()
    job = await a_job(house)
    house.painter.start(job.id)
    house.painter.depict(job.id, Picture(0, 3, 2, bytes([7, 8, 9]) * 6), Picture(0, 1, 1, b"abc"))
    await settle()
    kept = await house.kept(job.id)
    assert (kept.state, kept.output) == (JobState.SUCCEEDED, None)
    assert [(one.width, one.height) for one in kept.artifacts] == [(3, 2), (1, 1)]
    image = Image.open(io.BytesIO(house.artifacts.stored[kept.artifacts[0].key]))
    assert image.convert("RGB").tobytes() == bytes([7, 8, 9]) * 6
    assert (image.info["job_id"], image.info["model"]) == (job.id, "scaler")
    assert prediction(kept)["output"] == [one.url or one.key for one in kept.artifacts]


async def test_its_pictures_are_signed_as_painted_ones_are() -> None:
    """By what the request says: the mark is on the pixels, the artist in the metadata; the record keeps neither."""
    house = a_house()
    plain, signed = await a_job(house), await a_job(house, signature=Signature(TextMark("Ada"), artist="Ada L."))
    for job in (plain, signed):
        house.painter.start(job.id)
        house.painter.depict(job.id, Picture(0, 256, 192, bytes(256 * 192 * 3)))
    await settle()
    pictures = [Image.open(io.BytesIO(house.artifacts.stored[picture_key(job.id)])) for job in (plain, signed)]
    assert [bool(picture.getbbox()) for picture in pictures] == [False, True]
    assert (pictures[1].info["artist"], "artist" in pictures[0].info) == ("Ada L.", False)
    assert (await house.kept(signed.id)).signature is None
    assert house.is_free()


async def test_a_signature_that_cannot_be_used_is_refused_before_there_is_a_job() -> None:
    """Too large, or no picture; of a model that writes any is too much. The same again is one job, another signature another."""
    house = House(cards=(CARD, SCALER, TEXT_CARD))
    for model, given, signature, field in (
        ("scaler", {"image": ADDRESS}, Signature(ImageMark(a_png(64, 64))), "signature.image"),
        ("scaler", {"image": ADDRESS}, Signature(ImageMark(a_hollow_png())), "signature.image"),
        ("words", {}, Signature(TextMark("Ada")), "signature"),
    ):
        with pytest.raises(Refusal) as caught:
            await house.submit(Predict(owner=ADA, model=model, input=given, signature=signature))
        assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, field)
        assert house.is_free()
    signature = Signature(ImageMark(a_png()))
    ask = Predict(owner=ADA, model="scaler", input={"image": ADDRESS}, signature=signature, idempotency_key="k")
    first = await house.submit(ask)
    assert (await house.submit(ask)).job.id == first.job.id
    with pytest.raises(Refusal) as caught:
        await house.submit(replace(ask, signature=None))
    assert caught.value.code is Code.IDEMPOTENCY_CONFLICT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GenerationError("model scaler: ValueError: no"), Code.GENERATION_FAILED),
        (MemoryLimitExceeded("model scaler: took 9 MB"), Code.MEMORY_LIMIT_EXCEEDED),
        (ModelLoadError("model scaler: load: RuntimeError: no weights"), Code.MODEL_LOAD_FAILED),
        (InputError("image", "what the model takes", "must be a sound picture"), Code.INVALID_PARAMETER),
    ],
)
async def test_each_error_has_its_code_and_none_is_tried_again(error: EngineError, code: Code) -> None:
    """A model that fills too much memory would only do so again."""
    house = a_house(retry_delays=[1.0])
    job = await a_job(house)
    house.painter.start(job.id)
    house.painter.fail(job.id, error)
    await settle()
    kept = await house.kept(job.id)
    assert kept.state is JobState.FAILED
    assert kept.failure is not None
    assert (kept.failure.code, kept.failure.message) == (code, str(error))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"scale": 5}, "input.scale"),
        ({"scale": "2"}, "input.scale"),
        ({"image": None}, "input.image"),
        ({"colour": "red"}, "input.colour"),
        ({"image": "data:image/png;base64," + "A" * (2 * LIMITS.max_init_image_bytes)}, "input.image"),
    ],
)
async def test_input_that_does_not_fit_is_refused_by_name(given: dict[str, Any], field: str) -> None:
    """Before there is a job, with nothing held."""
    house = a_house()
    with pytest.raises(Refusal) as caught:
        await a_job(house, **given)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, field)
    assert house.is_free()


async def test_a_model_that_cannot_be_used_says_why() -> None:
    """Whatever the input."""
    house = a_house()
    with pytest.raises(Refusal, match=r"model broken: a\.b:C: ModuleNotFoundError") as caught:
        await house.submit(Predict(owner=ADA, model="broken", input={"any": "thing"}))
    assert caught.value.code is Code.MODEL_LOAD_FAILED


async def test_files_have_their_room() -> None:
    """Beyond it a job is refused, and holds no place."""
    house = a_house()
    house.places._images.limit = len(DATA)
    await a_job(house)
    with pytest.raises(Refusal) as caught:
        await a_job(house)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert house.places.taken == 1


def test_a_file_does_not_count_as_text() -> None:
    """It has a limit of its own; what is no file has that of the input."""
    long = "A" * MAX_INPUT_BYTES
    Predict(owner=ADA, model="scaler", input={"image": "data:image/png;base64," + long})
    with pytest.raises(Refusal):
        Predict(owner=ADA, model="scaler", input={"image": long})


async def test_what_is_under_way_is_left_to_the_next_life() -> None:
    """There is nothing to save of it, which the host says at once."""
    house = a_house()
    job = await a_job(house)
    house.painter.start(job.id)
    await settle()
    draining = asyncio.ensure_future(house.lifecycle.drain(30))
    await settle()
    await house.pass_time(30)
    assert await finished(draining)
    assert (await house.kept(job.id)).state is JobState.PROCESSING
