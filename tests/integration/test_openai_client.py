"""OpenAI's own Python client against a whole server: a real port, the real engine, the embedded model."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar
from urllib.request import urlopen

import openai
import pytest
from PIL import Image

from config import load_settings
from factory.service import AtelierService, make_service
from tests.conftest import LOOP, start_reactor

T = TypeVar("T")
TOKEN = "studio-token-0123456789"
SMALL: dict[str, Any] = {"size": "64x64", "extra_body": {"num_inference_steps": 2, "seed": 7}}


@pytest.fixture(scope="module")
def base(reactor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens for HTTP."""
    start_reactor()
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="tcp:0:interface=127.0.0.1",
        tokens=f"studio:{TOKEN}",
        data_dir=tmp_path_factory.mktemp("openai"),
    )
    service: AtelierService = make_service(settings, reactor)
    LOOP.run_until_complete(service.start())
    yield service.addresses[1]
    LOOP.run_until_complete(service.stop())


def client_of(base: str, token: str = TOKEN) -> openai.OpenAI:
    """The blocking client, which is used in a thread."""
    return openai.OpenAI(base_url=f"{base}/v1", api_key=token, max_retries=0, timeout=120)


async def using(base: str, ask: Callable[[openai.OpenAI], T], token: str = TOKEN) -> T:
    """What a blocking client says."""

    def run() -> T:
        with client_of(base, token) as client:
            return ask(client)

    return await asyncio.to_thread(run)


@pytest.fixture
def asking(base: str) -> openai.AsyncOpenAI:
    """The client for coroutines."""
    return openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=TOKEN, max_retries=0, timeout=120)


def picture(b64_json: str | None) -> Image.Image:
    """A PNG out of an answer."""
    assert b64_json
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


async def test_the_blocking_client_paints(base: str) -> None:
    """images.generate: base64 where nothing else is asked for; the same seed is the same picture, also by its address."""
    by_value = await using(base, lambda client: client.images.generate(prompt="a big red star", **SMALL))
    assert by_value.data
    assert by_value.size == "64x64"
    assert by_value.usage
    assert by_value.usage.total_tokens == 0
    assert picture(by_value.data[0].b64_json).size == (64, 64)
    by_address = await using(
        base, lambda client: client.images.generate(prompt="a big red star", response_format="url", **SMALL)
    )
    assert by_address.data
    url = by_address.data[0].url
    assert url
    assert url.startswith(base)
    with await asyncio.to_thread(urlopen, url) as fetched:
        assert Image.open(io.BytesIO(fetched.read())).tobytes() == picture(by_value.data[0].b64_json).tobytes()


async def test_the_asynchronous_client_paints_two(asking: openai.AsyncOpenAI) -> None:
    """n=2: two pictures of one job, with seeds in a row."""
    async with asking as client:
        answer = await client.images.generate(prompt="a big red star", n=2, quality="high", **SMALL)
    assert answer.data
    first, second = (picture(image.b64_json) for image in answer.data)
    assert first.tobytes() != second.tobytes()
    extra: Any = answer.model_extra
    assert [warning.split()[0] for warning in extra["warnings"]] == ["quality"]


async def partials_and_end(stream: AsyncIterator[Any]) -> tuple[list[Any], Any]:
    """A stream's events, the last apart."""
    events = [event async for event in stream]
    return events[:-1], events[-1]


async def test_a_picture_is_seen_as_it_forms(asking: openai.AsyncOpenAI) -> None:
    """stream=True with partial images: two on the way, then the picture, as the client's own types."""
    async with asking as client:
        partials, end = await partials_and_end(
            await client.images.generate(
                prompt="a big red star",
                stream=True,
                partial_images=2,
                size="64x64",
                extra_body={"num_inference_steps": 6, "seed": 7},
            )
        )
    assert [event.type for event in partials] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in partials] == [0, 1]
    assert all(picture(event.b64_json).format == "PNG" for event in partials)
    assert (end.type, end.size, end.usage.output_tokens) == ("image_generation.completed", "64x64", 0)
    assert picture(end.b64_json).size == (64, 64)


async def test_the_blocking_client_streams(base: str) -> None:
    """The same, without partial images."""

    def run(client: openai.OpenAI) -> list[str]:
        return [event.type for event in client.images.generate(prompt="a star", stream=True, **SMALL)]

    assert await using(base, run) == ["image_generation.completed"]


@pytest.mark.parametrize("listed", [False, True])
async def test_a_picture_is_edited(asking: openai.AsyncOpenAI, listed: bool) -> None:
    """images.edit with a file, alone or in a list; the answer is as large as what was sent."""
    file = io.BytesIO()
    Image.new("RGB", (64, 72), "navy").save(file, "PNG")
    upload = ("before.png", file.getvalue(), "image/png")
    async with asking as client:
        answer = await client.images.edit(
            image=[upload] if listed else upload,
            prompt="a big red star",
            extra_body={"num_inference_steps": 2, "strength": 0.5},
        )
    assert answer.data
    assert picture(answer.data[0].b64_json).size == (64, 72)


async def test_an_edit_streams(asking: openai.AsyncOpenAI) -> None:
    """Under its own names."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(file, "PNG")
    async with asking as client:
        partials, end = await partials_and_end(
            await client.images.edit(
                image=("before.png", file.getvalue()),
                prompt="a star",
                stream=True,
                partial_images=1,
                extra_body={"num_inference_steps": 4},
            )
        )
    assert [event.type for event in [*partials, end]] == ["image_edit.partial_image", "image_edit.completed"]


async def test_models_are_listed_and_found(base: str) -> None:
    """models.list and models.retrieve."""
    listed = await using(base, lambda client: list(client.models.list()))
    assert [model.id for model in listed] == ["demo", "text-demo"]
    one = await using(base, lambda client: client.models.retrieve("demo"))
    assert (one.id, one.object, one.owned_by) == ("demo", "model", "atelier")
    assert one.created > 0


async def test_refusals_are_the_client_s_own_errors(base: str) -> None:
    """Each of its class, with the field as `param` and our code; and a wrong token is told as one."""

    async def refused(
        kind: type[openai.APIStatusError], ask: Callable[[openai.OpenAI], Any], token: str = TOKEN
    ) -> Any:
        with pytest.raises(kind) as raised:
            await using(base, ask, token)
        return raised.value

    wide = await refused(openai.BadRequestError, lambda client: client.images.generate(prompt="x", size="7000x64"))
    assert (wide.param, wide.code, wide.type) == ("size", "INVALID_PARAMETER", "invalid_request_error")
    assert "64 to 1280" in str(wide)
    many = await refused(openai.BadRequestError, lambda client: client.images.generate(prompt="x", n=9))
    assert many.param == "n"
    format_ = await refused(
        openai.BadRequestError, lambda client: client.images.generate(prompt="x", output_format="webp")
    )
    assert format_.param == "output_format"
    mask = await refused(
        openai.BadRequestError, lambda client: client.images.edit(image=b"\x89PNG", mask=b"\x89PNG", prompt="x")
    )
    assert mask.param == "mask"
    absent = await refused(openai.NotFoundError, lambda client: client.images.generate(prompt="x", model="dall-e-3"))
    assert absent.code == "MODEL_NOT_FOUND"
    assert (await refused(openai.NotFoundError, lambda client: client.models.retrieve("dall-e-3"))).param == "model"
    stranger = await refused(openai.AuthenticationError, lambda client: client.models.list(), "wrong")
    assert stranger.type == "authentication_error"
    assert stranger.request_id


async def test_a_failure_in_a_stream_is_an_error_of_the_client(base: str, asking: openai.AsyncOpenAI) -> None:
    """A job that somebody cancels while it is streamed ends in an exception, not in silence."""
    async with asking as client:
        stream = await client.images.generate(
            prompt="a star", stream=True, partial_images=3, extra_body={"num_inference_steps": 50}
        )
        first: Any = await anext(aiter(stream))
        await client.post(f"/jobs/{first.job_id}/cancel", cast_to=object)
        with pytest.raises(openai.APIError, match="canceled"):
            await partials_and_end(stream)
