"""Image-to-image at admission: the file decoded and scaled, its limits, its strength."""

from __future__ import annotations

import asyncio
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from server.errors import Code, Refusal
from server.jobs import init_images
from server.jobs.init_images import read_init_image
from tests.server.fakes import HoldingPool, settle
from tests.server.house import LIMITS, House
from watermark import png as png_file


def a_file(width: int = 72, height: int = 64, kind: str = "PNG", mode: str = "RGB", **how: Any) -> bytes:
    """A gradient from dark on the left to light on the right."""
    ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(ramp)).convert(mode).save(file, kind, **how)
    return file.getvalue()


def a_claim(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says to be of any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return png_file.MAGIC + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def read(data: bytes, width: int | None = None, height: int | None = None) -> np.ndarray[Any, Any]:
    """The pixels that become of a file."""
    image = read_init_image(
        data, width, height, max_pixels=10_000, size_multiple=8, check_size=lambda width, height: None
    )
    return np.frombuffer(image.rgb, np.uint8).reshape(image.height, image.width, 3).astype(int)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "P"), ("PNG", "L"), ("PNG", "LA"), ("PNG", "RGBA"), ("JPEG", "RGB"),
                       ("JPEG", "CMYK"), ("WEBP", "RGB")],
)  # fmt: skip
def test_every_format_and_mode_is_read(kind: str, mode: str) -> None:
    """As upright RGB of its own size."""
    pixels = read(a_file(kind=kind, mode=mode))
    assert pixels.shape == (64, 72, 3)
    assert pixels[:, :4].max() < 40
    assert pixels[:, -4:].min() > 215


def test_it_is_scaled_to_the_size_asked_for() -> None:
    """A side that was not asked for is the file's own, rounded down to the model's steps."""
    assert read(a_file(), 128, 80).shape == (80, 128, 3)
    assert read(a_file(79, 71)).shape == (64, 72, 3)
    assert read(a_file(79, 71), width=64).shape == (64, 64, 3)
    assert (read(a_file(), 72, 64) == read(a_file())).all()


def test_a_camera_s_orientation_is_applied() -> None:
    """Turned by its Exif tag, a wide file becomes a high picture."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    assert read(a_file(80, 64, "JPEG", exif=exif)).shape == (80, 64, 3)


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (b"", "a sound file of PNG, JPEG or WEBP"),
        (b"GIF89a" + bytes(100), "a sound file of PNG, JPEG or WEBP"),
        (a_file(kind="GIF"), "a sound file of PNG, JPEG or WEBP"),
        (a_file(kind="TIFF"), "a sound file of PNG, JPEG or WEBP"),
        (a_file()[:100], "a sound file of PNG, JPEG or WEBP"),
        (a_file(kind="JPEG")[:300], "a sound file of PNG, JPEG or WEBP"),
        (a_claim(64, 64), "a sound file of PNG, JPEG or WEBP"),
        (a_claim(101, 100), "at most 10000 pixels"),
        (a_claim(12_000, 12_000), "at most 10000 pixels"),
        (a_claim(2**31 - 1, 2**31 - 1), "at most 10000 pixels"),
        (a_file(7, 64), "at least 8 pixels each way"),
    ],
)
def test_bad_files_are_refused_undecoded_where_they_are_too_large(data: bytes, limit: str) -> None:
    """By the field's name, whatever the file claims or lacks."""
    with pytest.raises(Refusal) as caught:
        read(data)
    assert (caught.value.code, caught.value.field, caught.value.limit) == (Code.INVALID_PARAMETER, "init_image", limit)
    assert len(str(caught.value)) < 200


async def test_a_job_starts_from_its_image() -> None:
    """Decoded once, by the pool, to the size that is painted; ended, the job keeps none of it."""
    pool = HoldingPool()
    pool.gate.set()
    house = House(admission_pool=pool)
    job = await house.job(init_image=a_file(), width=128, num_inference_steps=10)
    assert pool.asked == 1
    image = job.pictures_asked.init_image
    assert image is not None
    assert (image.width, image.height, len(image.rgb)) == (128, 64, 128 * 64 * 3)
    assert (job.pictures_asked.width, job.pictures_asked.height, job.pictures_asked.strength) == (128, 64, 0.75)
    assert house.painter.known[job.id].init_image is image
    house.painter.paint(job.id)
    await house.pass_time(0)
    ended = await house.kept(job.id)
    assert ended.pictures_asked.init_image is None
    assert ended.pictures_asked.strength == 0.75


async def test_progress_counts_the_steps_that_are_made() -> None:
    """Of ten steps at a strength of 0.35 three."""
    house = House()
    job = await house.job(init_image=a_file(), num_inference_steps=10, strength=0.35)
    assert job.pictures_asked.num_inference_steps - job.pictures_asked.first_step == 3


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"strength": 0.5}, "strength", "left out without an init_image"),
    ({"init_image": a_file(), "strength": 0.0}, "strength", "more than 0 and at most 1"),
    ({"init_image": a_file(), "strength": -0.1}, "strength", "more than 0 and at most 1"),
    ({"init_image": a_file(), "strength": 1.1}, "strength", "more than 0 and at most 1"),
    ({"init_image": a_file(), "strength": float("nan")}, "strength", "more than 0 and at most 1"),
    (
        {"init_image": a_file(), "strength": 0.2, "num_inference_steps": 4},
        "strength",
        "at least 0.25, so that one of 4",
    ),
    ({"init_image": bytes(LIMITS.max_init_image_bytes + 1)}, "init_image", "at most 20000 bytes"),
    ({"init_image": b"no picture"}, "init_image", "a sound file of PNG, JPEG or WEBP"),
    ({"init_image": a_claim(501, 500)}, "init_image", "at most 250000 pixels"),
    ({"init_image": a_file(64, 56)}, "height", "64 to 256, in steps of 8"),
    ({"init_image": a_file(64, 272)}, "height", "64 to 256, in steps of 8"),
    ({"init_image": a_file(), "width": 520}, "width", "64 to 512, in steps of 8"),
    ({"init_image": a_file(1, 16_000), "width": 512}, "height", "64 to 256, in steps of 8"),
    ({"init_image": a_claim(1, 20_000), "width": 512, "height": 64}, "init_image", "at most 16384 pixels each way"),
]


def test_nothing_is_scaled_to_a_size_that_is_not_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of one pixel's width would be gigabytes at a picture's: the size is refused before."""
    scaled = []
    monkeypatch.setattr(Image.Image, "resize", lambda image, size, how: scaled.append(size))

    def refuse(width: int, height: int) -> None:
        raise Refusal.invalid("height", "less", height)

    with pytest.raises(Refusal, match="height must be less, not 9000"):
        read_init_image(a_file(1, 9000), 64, None, max_pixels=10_000, size_multiple=8, check_size=refuse)
    assert scaled == []


@pytest.mark.parametrize(("wishes", "field", "limit"), BAD)
async def test_what_cannot_be_painted_from_is_refused_by_name(wishes: dict[str, Any], field: str, limit: str) -> None:
    """Field and limit; nothing is kept, and no place is held."""
    house = House()
    with pytest.raises(Refusal) as caught:
        await house.job(**wishes)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, field)
    assert limit in caught.value.limit
    assert house.places.taken == 0
    assert house.painter.known == {}


async def test_what_waits_is_bounded() -> None:
    """An image for which there is no room is refused and holds no place; when a job has ended its room is another's."""
    size = 64 * 72 * 3
    house = House(image_bytes=2 * size)
    first, _ = [await house.job(init_image=a_file()) for _ in range(2)]
    with pytest.raises(Refusal) as caught:
        await house.job(init_image=a_file())
    assert (caught.value.code, caught.value.field) == (Code.RESOURCE_EXHAUSTED, "init_image")
    assert caught.value.limit == f"{2 * size} bytes of pending init images in all"
    assert (house.places.taken, house.places.image_bytes) == (2, 2 * size)
    await house.job()
    house.painter.paint(first.id)
    await house.pass_time(0)
    assert house.places.image_bytes == size
    await house.job(init_image=a_file())
    assert house.places.image_bytes == 2 * size


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every file that is decoded from now on."""
    seen: list[bytes] = []
    whole = init_images._decoded

    def noting(data: bytes, max_pixels: int) -> Any:
        seen.append(data)
        return whole(data, max_pixels)

    monkeypatch.setattr(init_images, "_decoded", noting)
    return seen


async def test_jobs_of_one_file_and_size_share_its_pixels(decoded: list[bytes]) -> None:
    """Decoded once, whether they come at once or one after the other; another size is decoded for itself."""
    pool = HoldingPool()
    house = House(admission_pool=pool)
    file = a_file()
    coming = [
        asyncio.ensure_future(house.job(init_image=bytes(bytearray(file)), width=64, height=64)) for _ in range(2)
    ]
    await settle()
    assert pool.asked == 1
    pool.gate.set()
    jobs = [await one for one in coming]
    jobs.append(await house.job(init_image=file, width=64, height=64))
    assert len(decoded) == 1
    assert len({id(job.pictures_asked.init_image) for job in jobs}) == 1
    wider = (await house.job(init_image=file, width=128, height=64)).pictures_asked.init_image
    assert wider is not None
    assert wider.width == 128
    assert len(decoded) == 2


async def test_a_file_that_is_refused_is_refused_to_all_that_wait_for_it(decoded: list[bytes]) -> None:
    """And nothing is kept of it: it is read again for whoever comes later."""
    pool = HoldingPool()
    house = House(admission_pool=pool)
    coming = [asyncio.ensure_future(house.job(init_image=b"no picture")) for _ in range(2)]
    await settle()
    pool.gate.set()
    for one in coming:
        with pytest.raises(Refusal, match="init_image"):
            await one
    assert len(decoded) == 1
    with pytest.raises(Refusal, match="init_image"):
        await house.job(init_image=b"no picture")
    assert len(decoded) == 2


async def test_who_gives_up_waiting_spoils_it_for_nobody() -> None:
    """The decoding goes on for the others."""
    pool = HoldingPool()
    house = House(admission_pool=pool)
    first, second = (asyncio.ensure_future(house.job(init_image=a_file())) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    pool.gate.set()
    assert (await second).pictures_asked.init_image is not None
