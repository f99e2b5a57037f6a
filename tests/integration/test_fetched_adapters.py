"""Adapters that are fetched from a bucket, over real TCP with the real engine: a style by its number to a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from obstore.store import S3Store

from config import load_settings
from factory.service import make_service
from proto import atelier_pb2 as pb
from tests.ai.adapters.made import Made, make, save_diffusers, save_peft, tiny_targets, tiny_xl_targets
from tests.ai.tiny import build_folder
from tests.conftest import LOOP, start_reactor
from tests.integration.conftest import address_of, until_ready
from tests.integration.raw_client import RawClient
from tests.integration.test_adapters import PROMPT, WISH, pixels, use
from tests.s3 import BUCKET, S3Server
from tests.server.fetching.made import made

PREFIX = "fetched adapters"
MAX = 2_000_000


def of_the_unet() -> Made:
    """One that PEFT keeps in one folder."""
    return make([layer for layer in tiny_targets().shapes if layer.startswith("unet.")], seed=3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a backend has put into its bucket."""
    folder = tmp_path_factory.mktemp("files")
    save_diffusers(make(seed=1), folder / "glow")
    save_diffusers(make(seed=2), folder / "ink")
    save_peft(of_the_unet(), folder / "chalk")
    save_peft(make(seed=5), folder / "both")
    parts = {path.relative_to(folder / "both").as_posix(): path.read_bytes() for path in (folder / "both").rglob("*.*")}
    assert "unet/adapter_model.safetensors" in parts
    save_diffusers(make(seed=4, targets=tiny_xl_targets()), folder / "other")
    names = ("glow", "ink", "other")
    glow, ink, other = ((folder / name / "pytorch_lora_weights.safetensors").read_bytes() for name in names)
    return {
        "models/style_7/lora_weights.safetensors": glow,
        "models/style-8/adapter_model.safetensors": (folder / "chalk" / "adapter_model.safetensors").read_bytes(),
        "models/style-8/adapter_config.json": (folder / "chalk" / "adapter_config.json").read_bytes(),
        **{f"models/style_6/{name}": data for name, data in parts.items()},
        "models/ink.safetensors": ink,
        "models/style-9/pytorch_lora_weights.bin": b"\x80\x04",
        "models/disguised.safetensors": b"PK\x03\x04" + b"x" * 1000,
        "models/large.safetensors": made(MAX + 1),
        "models/other-base.safetensors": other,
        "models/changing.safetensors": glow,
    }


@pytest.fixture(scope="module")
def bucket(rclone_s3: S3Server, files: dict[str, bytes]) -> S3Store:
    """With these files in a part of it."""
    store = rclone_s3.store(PREFIX)
    for key, data in files.items():
        obstore.put(store, key, data)
    return store


@pytest.fixture(scope="module")
def serving(
    reactor: Any,
    rclone_s3: S3Server,
    bucket: S3Store,
    files: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[tuple[str, int], Path]]:
    """A server of the tiny model, whose own adapter "glow" is style 7, and "chalk" style 8; and its data folder."""
    start_reactor()
    folder = tmp_path_factory.mktemp("fetching")
    own = build_folder(folder / "tiny") / "adapters"
    own.mkdir()
    save_diffusers(make(seed=1), own / "glow")
    save_peft(of_the_unet(), own / "chalk")
    save_peft(make(seed=5), own / "both")
    given = {name.lower(): value for name, value in rclone_s3.settings().items()}
    settings = load_settings(
        **given,
        storage_url=f"s3://{BUCKET}/{PREFIX}",
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="off",
        data_dir=folder / "data",
        models=f"tiny={folder / 'tiny'}",
        max_adapter_bytes=MAX,
        adapter_check_seconds=0.0,
        retry_delays="",
    )
    service = make_service(settings, reactor)
    LOOP.run_until_complete(service.start())
    LOOP.run_until_complete(until_ready(address_of(service)))
    yield address_of(service), folder / "data"
    LOOP.run_until_complete(service.stop())
    assert not service.threads_left


Serving = tuple[tuple[str, int], Path]


async def painted(client: RawClient, *names: str) -> Any:
    """The pixels of a picture that wears these."""
    return pixels(await client.hear_all(client.submit(PROMPT, adapters=[use(name) for name in names], **WISH)))


def same(one: Any, other: Any) -> bool:
    """To a level of 255: a pass may be made on one thread or on two, as a trial finds quicker (docs/promises.md)."""
    return bool(np.abs(one - other).max() <= 1)


async def test_a_style_by_its_number_is_the_style_of_the_card(serving: Serving) -> None:
    """In either layout, together, and by its address in the bucket: the same picture."""
    client = await RawClient.connect(serving[0])
    plain, glow, chalk = await painted(client), await painted(client, "glow"), await painted(client, "chalk")
    assert np.abs(glow - plain).max() > 1
    assert same(await painted(client, "storage:style:7"), glow)
    assert same(await painted(client, "storage:style:8"), chalk)
    assert same(await painted(client, "storage:style:6"), await painted(client, "both"))
    assert same(await painted(client, "storage:models/style_7/lora_weights.safetensors"), glow)
    assert same(
        await painted(client, f"s3://{BUCKET}/fetched%20adapters/models/style_7/lora_weights.safetensors"), glow
    )
    assert same(await painted(client, "storage:style:7", "chalk"), await painted(client, "glow", "storage:style:8"))
    await client.close()


async def test_ten_jobs_of_a_style_fetch_it_once(serving: Serving) -> None:
    """And all paint the same picture."""
    client = await RawClient.connect(serving[0])
    ids = [client.submit(PROMPT, adapters=[use("storage:models/ink.safetensors")], **WISH) for _ in range(10)]
    heard = await client.hear_each(ids)
    pictures = [pixels(heard[request_id]) for request_id in ids]
    assert all(same(picture, pictures[0]) for picture in pictures)
    cached = list((serving[1] / "adapters").glob("*/adapter/ink.safetensors"))
    assert len(cached) == 1
    await client.close()


async def test_a_style_that_changes_is_worn_as_it_is_now(
    serving: Serving, bucket: S3Store, files: dict[str, bytes]
) -> None:
    """Under the same key, and back again."""
    client = await RawClient.connect(serving[0])
    name, key = "storage:models/changing.safetensors", "models/changing.safetensors"
    glow, ink = await painted(client, "storage:style:7"), await painted(client, "storage:models/ink.safetensors")
    assert same(await painted(client, name), glow)
    await obstore.put_async(bucket, key, files["models/ink.safetensors"])
    assert same(await painted(client, name), ink)
    await obstore.put_async(bucket, key, files["models/style_7/lora_weights.safetensors"])
    assert same(await painted(client, name), glow)
    await client.close()


async def test_a_cached_file_that_was_spoiled_is_fetched_again(serving: Serving) -> None:
    """The picture is the same."""
    client = await RawClient.connect(serving[0])
    before = await painted(client, "storage:models/ink.safetensors")
    (cached,) = (serving[1] / "adapters").glob("*/adapter/ink.safetensors")
    cached.write_bytes(b"x" * cached.stat().st_size)
    assert same(await painted(client, "storage:models/ink.safetensors"), before)
    await client.close()


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("storage:style:404", pb.ADAPTER_NOT_FOUND, "no adapter at models/style_404/"),
        ("storage:models/nowhere.safetensors", pb.ADAPTER_NOT_FOUND, "no adapter at models/nowhere.safetensors"),
        ("storage:style:9", pb.ADAPTER_INVALID, "is a pickle"),
        ("storage:models/disguised.safetensors", pb.ADAPTER_INVALID, "is a pickle"),
        ("storage:models/large.safetensors", pb.ADAPTER_INVALID, "2,000,000 (MAX_ADAPTER_BYTES)"),
        ("storage:models/other-base.safetensors", pb.ADAPTER_INVALID, "other-base.safetensors"),
    ],
)
async def test_what_cannot_be_worn_fails_its_own_job(serving: Serving, name: str, code: int, says: str) -> None:
    """With its code and the reason; who shares the batch is not harmed."""
    client = await RawClient.connect(serving[0])
    bad = client.submit(PROMPT, adapters=[use(name)], **WISH)
    good = client.submit(PROMPT, adapters=[use("storage:style:7")], **WISH)
    heard = await client.hear_each([bad, good])
    failed: Any = heard[bad][-1].message
    assert failed.error.code == code
    assert says in failed.error.message
    assert same(pixels(heard[good]), await painted(client, "glow"))
    await client.close()


@pytest.mark.parametrize(
    "name", ["storage:../x", "storage:jobs/1/0.png", "https://evil.test/a.safetensors", "storage:models/a.pt"]
)
async def test_what_can_never_be_fetched_is_refused(serving: Serving, name: str) -> None:
    """Before there is a job."""
    client = await RawClient.connect(serving[0])
    (refused,) = await client.hear_all(client.submit(PROMPT, adapters=[use(name)], **WISH))
    error: Any = refused.message
    assert (refused.kind, error.code, error.field) == ("error", pb.ADAPTER_INVALID, "adapters[0].name")
    await client.close()
