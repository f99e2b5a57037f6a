"""From pixels to stored pictures."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from ai.types import Finished, Picture
from server.errors import Code, JobFailure
from server.jobs.finishing import Finisher, artifact_key
from server.pools import InlinePool
from tests.server.database.contract import a_job
from tests.server.fakes import FakeArtifacts, HoldingPool
from watermark import Signature, TextMark, read_metadata

GREY = 120


def painted(count: int = 1, width: int = 256, height: int = 192, *warnings: str) -> Finished:
    """Pictures of one grey."""
    pictures = [Picture(100 + index, width, height, bytes([GREY]) * (width * height * 3)) for index in range(count)]
    return Finished("job-1", tuple(pictures), warnings)


async def test_a_picture_is_stored_with_what_it_says_of_itself() -> None:
    """Job, place, model, prompts, seed, steps, guidance, solver, size, adapters and artist stand in its text chunks."""
    store = FakeArtifacts()
    await Finisher(store, InlinePool()).finish(a_job(), painted(2))
    metadata = read_metadata(store.stored[artifact_key(a_job(), 1)])
    request = a_job().pictures_asked
    assert {key: metadata[key] for key in metadata if key != "parameters"} == {
        "job_id": "job-1",
        "image_index": "1",
        "model": "demo",
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": "101",
        "steps": "20",
        "guidance_scale": "4.5",
        "solver": "dpmpp_2m",
        "size": "256x192",
        "adapters": "ink.v2:-0.5, chalk:1, ink.v2:0.333333333333",
        "artist": "Ada L.",
        "strength": "0.3",
    }


async def test_pictures_lie_where_the_door_wants_them() -> None:
    """The first under the very key that its job has, further ones beside it."""
    store = FakeArtifacts()
    artifacts, _ = await Finisher(store, InlinePool()).finish(a_job(object_key="generations/gen-7.png"), painted(3))
    keys = ["generations/gen-7.png", "generations/gen-7-1.png", "generations/gen-7-2.png"]
    assert [artifact.key for artifact in artifacts] == keys == list(store.stored)


async def test_what_a_backend_may_have_had_before_is_not_deleted() -> None:
    """A picture under its own name stays when the job fails after all, one under a name of ours does not."""
    store = FakeArtifacts()
    finisher = Finisher(store, InlinePool())
    artifacts, _ = await finisher.finish(a_job(object_key="generations/gen-7.png"), painted())
    ours, _ = await finisher.finish(a_job(), painted())
    await finisher.discard([*artifacts, *ours])
    assert list(store.stored) == ["generations/gen-7.png"]


async def test_an_artifact_describes_the_stored_file_exactly() -> None:
    """Size and SHA-256 are those of the bytes in the storage; key, address, pixels and seed are the picture's."""
    store = FakeArtifacts()
    artifacts, _ = await Finisher(store, InlinePool()).finish(a_job(), painted(3))
    for index, artifact in enumerate(artifacts):
        png = store.stored[artifact.key]
        assert artifact.key == artifact_key(a_job(), index) == f"jobs/2023-11-14-22/job-1-{index}.png"
        assert (artifact.size, artifact.sha256) == (len(png), hashlib.sha256(png).hexdigest())
        assert artifact.url == f"https://pictures.test/{artifact.key}"
        assert (artifact.image_index, artifact.seed, artifact.content_type) == (index, 100 + index, "image/png")
        assert Image.open(BytesIO(png)).size == (artifact.width, artifact.height) == (256, 192)


async def test_a_signature_is_on_the_picture_only_where_one_was_asked_for() -> None:
    """Without one every pixel is the engine's."""
    store = FakeArtifacts()
    finisher = Finisher(store, InlinePool())
    await finisher.finish(a_job(signature=None), painted())
    colours: Any = Image.open(BytesIO(store.stored[artifact_key(a_job(), 0)])).getcolors()
    assert colours == [(256 * 192, (GREY,) * 3)]
    assert "artist" not in read_metadata(store.stored[artifact_key(a_job(), 0)])
    await finisher.finish(a_job(signature=Signature(TextMark("Ada"), opacity=1.0)), painted())
    signed: Any = Image.open(BytesIO(store.stored[artifact_key(a_job(), 0)])).getcolors(1 << 16)
    assert len(signed) > 1


async def test_warnings_are_merged_and_told_once() -> None:
    """The engine's first, then the signature's, which every picture of the job would repeat."""
    job = a_job(signature=Signature(TextMark("Ada \U0010ffff")))
    _, warnings = await Finisher(FakeArtifacts(), InlinePool()).finish(job, painted(2, 256, 192, "prompt: cut"))
    assert warnings[0] == "prompt: cut"
    assert len(warnings) == len(set(warnings)) > 1


async def test_a_picture_too_small_to_sign_is_stored_with_a_warning() -> None:
    """It is not the job's end."""
    artifacts, warnings = await Finisher(FakeArtifacts(), InlinePool()).finish(a_job(), painted(1, 16, 16))
    assert len(artifacts) == 1
    assert any("no room" in warning for warning in warnings)


async def test_a_picture_that_cannot_be_signed_fails_the_job() -> None:
    """SIGNATURE_FAILED, which names the picture."""
    pool = HoldingPool()
    pool.gate.set()
    pool.error = ValueError("no font")
    with pytest.raises(JobFailure, match="picture 0 could not be signed: no font") as caught:
        await Finisher(FakeArtifacts(), pool).finish(a_job(), painted())
    assert caught.value.code is Code.SIGNATURE_FAILED


async def test_a_picture_that_cannot_be_stored_fails_the_job() -> None:
    """STORAGE_FAILED, which names the picture and the system's reason, and not a path."""
    store = FakeArtifacts()
    store.put_error = OSError(28, "No space left on device", "/srv/secret/place")
    with pytest.raises(JobFailure, match="picture 0 could not be stored: No space left on device") as caught:
        await Finisher(store, InlinePool()).finish(a_job(), painted())
    assert caught.value.code is Code.STORAGE_FAILED
    assert "secret" not in str(caught.value)


async def test_signing_and_previews_are_work_for_the_pool() -> None:
    """Once a picture; nothing of it happens on the caller's thread."""
    pool = HoldingPool()
    pool.gate.set()
    finisher = Finisher(FakeArtifacts(), pool)
    await finisher.finish(a_job(), painted(3))
    png = await finisher.preview(8, 8, bytes(192))
    assert pool.asked == 4
    assert Image.open(BytesIO(png)).size == (8, 8)
