"""May a job exist: defaults, limits, signature images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.commands import AdapterUse, Submit
from server.errors import Code, Refusal
from server.job import JobState
from tests.server.fakes import HoldingPool
from tests.server.house import ADA, LIMITS, House
from tests.server.pictures import a_hollow_png, a_png
from watermark import ImageMark, Signature, TextMark

STEPS = "1 to 50"
BAD: list[tuple[dict[str, Any], Code, str, str]] = [
    ({"prompt": "x" * 101}, Code.INVALID_PARAMETER, "prompt", "at most 100 characters"),
    ({"negative_prompt": "x" * 101}, Code.INVALID_PARAMETER, "negative_prompt", "at most 100 characters"),
    ({"width": 0}, Code.INVALID_PARAMETER, "width", "64 to 512, in steps of 8"),
    ({"width": 56}, Code.INVALID_PARAMETER, "width", "64 to 512, in steps of 8"),
    ({"width": 68}, Code.INVALID_PARAMETER, "width", "64 to 512, in steps of 8"),
    ({"width": 520}, Code.INVALID_PARAMETER, "width", "64 to 512, in steps of 8"),
    ({"height": 264}, Code.INVALID_PARAMETER, "height", "64 to 256, in steps of 8"),
    ({"height": 65}, Code.INVALID_PARAMETER, "height", "64 to 256, in steps of 8"),
    ({"model": "other", "width": 136}, Code.INVALID_PARAMETER, "width", "128 to 512, in steps of 64"),
    ({"num_inference_steps": 0}, Code.INVALID_PARAMETER, "num_inference_steps", STEPS),
    ({"num_inference_steps": -1}, Code.INVALID_PARAMETER, "num_inference_steps", STEPS),
    ({"num_inference_steps": 51}, Code.INVALID_PARAMETER, "num_inference_steps", STEPS),
    (
        {"model": "other", "width": 128, "height": 128, "solver": "lcm", "num_inference_steps": 9},
        Code.INVALID_PARAMETER,
        "num_inference_steps",
        "1 to 8 with lcm",
    ),
    ({"solver": "magic"}, Code.INVALID_PARAMETER, "solver", "one of dpmpp_2m, euler"),
    ({"model": "nope"}, Code.MODEL_NOT_FOUND, "model", "one of demo, other"),
    ({"model": "x" * 10_000}, Code.MODEL_NOT_FOUND, "model", "one of demo, other"),
    ({"model": "Demo"}, Code.MODEL_NOT_FOUND, "model", "one of demo, other"),
    ({"adapters": (AdapterUse("ink" * 1000),)}, Code.ADAPTER_NOT_FOUND, "adapters[0].name", "demo has none"),
    ({"adapters": (AdapterUse("ink"),)}, Code.ADAPTER_NOT_FOUND, "adapters[0].name", "demo has none"),
    (
        {"model": "other", "width": 128, "height": 128, "adapters": (AdapterUse("ink"), AdapterUse("../ink"))},
        Code.ADAPTER_NOT_FOUND,
        "adapters[1].name",
        "other has chalk, ink, style-0, style-1, style-2, style-3, style-4, style-5, style-6, style-7 and 12 more",
    ),
]


@pytest.mark.parametrize(("wishes", "code", "field", "limit"), BAD)
async def test_what_this_server_does_not_take_is_refused_by_name(
    wishes: dict[str, Any], code: Code, field: str, limit: str
) -> None:
    """Code, field and limit; the text is short, nothing is kept, and no place is held."""
    house = House()
    with pytest.raises(Refusal) as caught:
        await house.job(**{"prompt": "a star", **wishes})
    assert (caught.value.code, caught.value.field) == (code, field)
    assert limit in caught.value.limit
    assert len(str(caught.value)) < 300
    assert house.places.taken == 0
    assert house.painter.known == {}


@pytest.mark.parametrize(
    "wishes",
    [{"width": 64, "height": 256}, {"width": 512}, {"num_inference_steps": 1}, {"num_inference_steps": 50},
     {"prompt": "x" * 100, "negative_prompt": "y" * 100}, {"solver": "euler"},
     {"model": "other", "width": 128, "height": 192},
     {"model": "other", "width": 128, "height": 128, "solver": "lcm", "num_inference_steps": 8},
     {"model": "other", "width": 128, "height": 128, "solver": "ddim", "num_inference_steps": 9},
     {"model": "other", "width": 128, "height": 128,
      "adapters": (AdapterUse("ink", -0.5), AdapterUse("chalk"), AdapterUse("ink"))}],
)  # fmt: skip
async def test_the_limits_themselves_are_taken(wishes: dict[str, Any]) -> None:
    """As they were asked for, nothing clamped."""
    request = (await House().job(**wishes)).pictures_asked
    for name, value in wishes.items():
        assert getattr(request, name) == value


async def test_what_is_not_said_comes_from_the_card() -> None:
    """The default model, its sizes, steps, guidance and first solver; the seed is the server's."""
    request = (await House().job()).pictures_asked
    assert (request.model, request.width, request.height) == ("demo", 64, 72)
    assert (request.num_inference_steps, request.guidance_scale) == (20, 4.0)
    assert (request.solver, request.num_images, request.seed) == ("dpmpp_2m", 1, 1001)


async def test_the_server_s_settings_come_before_the_card_and_the_request_before_both() -> None:
    """A zero that was asked for counts as asked for."""
    limits = replace(
        LIMITS, default_width=128, default_height=136, default_num_inference_steps=9, default_guidance_scale=2.5
    )
    house = House(limits=limits)
    request = (await house.job()).pictures_asked
    assert (request.width, request.height, request.num_inference_steps, request.guidance_scale) == (128, 136, 9, 2.5)
    asked = (await house.job(width=64, height=64, num_inference_steps=3, guidance_scale=0.0, seed=0)).pictures_asked
    assert (asked.width, asked.height, asked.num_inference_steps, asked.guidance_scale, asked.seed) == (64, 64, 3, 0, 0)


async def test_a_job_is_kept_before_it_is_told() -> None:
    """As queued, at the clock's time, with all that was asked for."""
    house = House()
    signature = Signature(TextMark("Ada"))
    admitted = await house.admission.admit(
        Submit(owner=ADA, prompt="a star", signature=signature, deadline_seconds=5, priority=3, preview_every_steps=2)
    )
    assert not admitted.duplicate
    job = await house.kept("job-1")
    assert job == admitted.job
    assert (job.owner, job.state, job.created_at) == (ADA, JobState.QUEUED, 1_000_000.0)
    assert (job.signature, job.deadline_seconds) == (signature, 5)
    assert (job.pictures_asked.request_id, job.pictures_asked.priority, job.pictures_asked.preview_every) == (
        "job-1",
        3,
        2,
    )


async def test_a_sound_signature_image_is_taken() -> None:
    """It is decoded once, by the pool."""
    pool = HoldingPool()
    pool.gate.set()
    job = await House(admission_pool=pool).job(signature=Signature(ImageMark(a_png())))
    assert pool.asked == 1
    assert job.signature == Signature(ImageMark(a_png()))


async def test_a_signature_image_that_cannot_be_decoded_is_refused() -> None:
    """Before anything is painted for it."""
    house = House()
    with pytest.raises(Refusal) as caught:
        await house.job(signature=Signature(ImageMark(a_hollow_png())))
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, "signature.image")
    assert house.places.taken == 0


async def test_a_signature_image_beyond_the_limit_is_refused_undecoded() -> None:
    """The limit is told, and no thread is troubled."""
    pool = HoldingPool()
    png = a_png(100, 100)
    assert len(png) > LIMITS.max_signature_image_bytes
    with pytest.raises(Refusal) as caught:
        await House(admission_pool=pool).job(signature=Signature(ImageMark(png)))
    assert (caught.value.field, caught.value.limit) == ("signature.image", "at most 4096 bytes")
    assert pool.asked == 0


async def test_pending_jobs_are_limited_and_the_caller_is_told_when_to_try_again() -> None:
    """The limit, RESOURCE_EXHAUSTED and a time of at least a second; an ended job makes room."""
    house = House(pending=3, pending_per_owner=2)
    first = await house.job()
    await house.job()
    with pytest.raises(Refusal) as caught:
        await house.job()
    assert (caught.value.code, caught.value.limit) == (Code.RESOURCE_EXHAUSTED, "2 pending jobs for one owner")
    assert 1 <= caught.value.retry_after_seconds <= 60
    await house.job(owner="bob")
    with pytest.raises(Refusal, match="3 pending jobs in all"):
        await house.job(owner="bob")
    house.painter.paint(first.id)
    await house.pass_time(0)
    await house.job(owner="bob")


async def test_a_store_that_fails_holds_no_place() -> None:
    """The error goes to the caller, and the place back."""

    class Broken(type(House().store)):  # type: ignore[misc]
        async def admit(self, job: object, calls: object = (), *, leased: bool = True) -> object:
            raise OSError("disk full")

    house = House(store=Broken(10))
    with pytest.raises(OSError, match="disk full"):
        await house.job()
    assert house.places.taken == 0


async def test_signature_images_that_wait_are_bounded() -> None:
    """One for which there is no room is refused and holds no place; when a job has ended its room is another's."""
    signature = Signature(ImageMark(a_png()))
    size = len(a_png())
    house = House(signature_bytes=2 * size)
    first, _ = [await house.job(signature=signature) for _ in range(2)]
    with pytest.raises(Refusal) as caught:
        await house.job(signature=signature)
    assert (caught.value.code, caught.value.field) == (Code.RESOURCE_EXHAUSTED, "signature.image")
    assert (house.places.taken, house.places.signature_bytes) == (2, 2 * size)
    await house.job(signature=Signature(TextMark("Ada")))
    house.painter.paint(first.id)
    await house.pass_time(0)
    assert house.places.signature_bytes == size
    await house.job(signature=signature)
