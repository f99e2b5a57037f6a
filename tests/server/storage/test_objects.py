"""Pictures in a bucket, held against real S3 servers and obstore's own memory."""

from __future__ import annotations

import asyncio
import itertools
import urllib.request
from datetime import timedelta
from typing import Any

import obstore
import pytest
from obstore.store import MemoryStore, S3Store

from server.storage.objects import ObjectArtifacts, StorageError
from tests.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from tests.server.scripted import answer, scripted
from tests.server.storage.contract import KEY, SHA, StorageContract, put

_PREFIXES = itertools.count()


def opened(server: S3Server, **given: Any) -> ObjectArtifacts:
    """A part of the bucket that nobody used before."""
    return ObjectArtifacts(server.store(f"part {next(_PREFIXES)}"), **given)


class TestInMemory(StorageContract):
    """The contract, in obstore's memory."""

    @pytest.fixture
    def store(self) -> ObjectArtifacts:
        """An empty one."""
        return ObjectArtifacts(MemoryStore())


class TestRclone(StorageContract):
    """The contract, over rclone's S3 server."""

    @pytest.fixture
    def store(self, rclone_s3: S3Server) -> ObjectArtifacts:
        """An empty one."""
        return opened(rclone_s3)


class TestMoto(StorageContract):
    """The contract, over moto's S3 server."""

    @pytest.fixture
    def store(self, moto_s3: S3Server) -> ObjectArtifacts:
        """An empty one."""
        return opened(moto_s3)


@pytest.fixture(params=["rclone_s3", "moto_s3"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the S3 servers."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, S3Server)
    return found


def bad(port: int, **config: Any) -> ObjectArtifacts:
    """A store that something is wrong with; it tries for a second."""
    given: Any = {"endpoint": f"http://127.0.0.1:{port}", "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
    return ObjectArtifacts(
        S3Store(
            config.pop("bucket", "pictures"),
            config=given | {"region": "eu-west-3"} | config,
            client_options={"allow_http": True, "timeout": timedelta(seconds=1)},
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=1)},
        )
    )


async def uses(store: ObjectArtifacts) -> list[str]:
    """What is told by everything that fails."""
    told = []
    for use in (put(store, KEY, b"png"), store.read(KEY, 0, 3), store.stat(KEY), store.delete(KEY)):
        with pytest.raises(StorageError) as failed:
            await use
        told.append(str(failed.value))
        assert failed.value.__cause__ is None
        assert failed.value.__suppress_context__
    return told


async def test_a_picture_is_stored_with_what_it_is(server: S3Server) -> None:
    """Its type, its hash, and that who is shown it may keep it for ever, unless its name may be used again."""
    raw = server.store("described")
    for store, who in (
        (ObjectArtifacts(raw), "private"),
        (ObjectArtifacts(raw, base_url="https://cdn.test"), "public"),
    ):
        await put(store, KEY, b"png")
        found = (await obstore.get_async(raw, KEY)).attributes
        assert found["Content-Type"] == "image/png"
        assert found["sha256"] == SHA
        assert found["Cache-Control"] == f"{who}, max-age=31536000, immutable"
        await put(store, "generations/gen-1.png", b"png")
        assert (await obstore.get_async(raw, "generations/gen-1.png")).attributes["Cache-Control"] == f"{who}, no-cache"


async def test_a_signed_address_shows_the_picture_to_who_has_it(server: S3Server) -> None:
    """Without credentials; it does not hold the secret key, and says for how long it holds."""
    store = opened(server, signed_seconds=3600.0)
    await put(store, "jobs/a b/0.png", b"png")
    address = await store.address("jobs/a b/0.png")
    assert SECRET_KEY not in address
    assert "X-Amz-Expires=3600" in address
    got = await asyncio.to_thread(lambda: urllib.request.urlopen(address, timeout=60).read())
    assert got == b"png"


async def test_an_address_is_below_the_base_or_there_is_none() -> None:
    """A base wins over signing; without either, pictures come through the server alone."""
    assert await ObjectArtifacts(MemoryStore()).address(KEY) == ""
    store = ObjectArtifacts(MemoryStore(), base_url="https://cdn.test/p/", signed_seconds=60)
    assert await store.address("jobs/a b/0.png") == "https://cdn.test/p/jobs/a%20b/0.png"


async def test_wrong_credentials_are_told_as_such(rclone_s3: S3Server) -> None:
    """By each use, with the storage's own word for it, and without either key."""
    for config in ({"secret_access_key": "wrong-secret"}, {"access_key_id": "NOBODY"}):
        told = await uses(bad(rclone_s3.port, **config))
        assert all("refused access (403" in text for text in told)
        assert "SignatureDoesNotMatch" in told[0] or "InvalidAccessKeyId" in told[0]
        assert not any(secret in text for text in told for secret in (SECRET_KEY, "wrong-secret", ACCESS_KEY, "NOBODY"))


async def test_a_bucket_that_is_not_there_is_told_as_such(server: S3Server) -> None:
    """A picture that is not in it is another matter."""
    store = bad(server.port, bucket="nobody-s")
    with pytest.raises(StorageError, match="no such bucket"):
        await put(store, KEY, b"png")
    for use in (store.read(KEY, 0, 3), store.delete(KEY)):
        with pytest.raises(StorageError, match="no such bucket"):
            await use


async def test_a_storage_that_is_away_is_told_as_such(rclone_s3: S3Server) -> None:
    """And is used again when it is back."""
    store = bad(rclone_s3.port)
    rclone_s3.stop()
    try:
        assert set(await uses(store)) == {"the storage cannot be reached"}
    finally:
        rclone_s3.start()
    await put(store, KEY, b"png")
    assert await store.read(KEY, 0, 3) == b"png"
    await store.delete(KEY)


async def test_a_storage_that_does_not_answer_is_not_waited_for_long() -> None:
    """Two tries of a second here."""

    async def hold(asked: Any, writer: Any) -> None:
        await asyncio.get_running_loop().create_future()

    async with scripted(hold) as held:
        with pytest.raises(StorageError, match="did not answer in time"):
            await bad(held.port).stat(KEY)


async def test_what_the_storage_says_of_its_own_fault_is_told_by_number_and_code_alone() -> None:
    """Its text may hold anything."""
    body = b"<Error><Code>InternalError</Code><Message>token=abc</Message></Error>"
    async with scripted(answer("500 Internal Server Error", body)) as broken:
        with pytest.raises(StorageError) as failed:
            await put(bad(broken.port), KEY, b"png")
    assert str(failed.value) == "the storage erred (500 InternalError)"


async def test_a_picture_that_is_there_and_cannot_be_read_is_no_short_one() -> None:
    """The storage knows its size, and errs at its content."""

    async def half(asked: Any, writer: Any) -> None:
        head = asked.line.startswith("HEAD")
        told = '200 OK\r\nContent-Length: 10\r\nETag: "e"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT'
        writer.write(f"HTTP/1.1 {told if head else '500 Internal Server Error'}\r\n\r\n".encode())

    async with scripted(half) as broken:
        with pytest.raises(StorageError, match=r"erred \(500\)"):
            await bad(broken.port).read(KEY, 0, 3)


async def test_an_address_that_cannot_be_signed_is_an_os_error() -> None:
    """As for a machine's role that gives no credentials."""
    async with scripted(answer("403 Forbidden", b"no")) as metadata:
        store = S3Store(
            "pictures",
            config={"region": "x", "metadata_endpoint": f"http://127.0.0.1:{metadata.port}"},
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        with pytest.raises(StorageError, match="403"):
            await ObjectArtifacts(store, signed_seconds=60).address(KEY)
