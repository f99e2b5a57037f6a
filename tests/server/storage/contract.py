"""What every storage must do. A storage's test file derives from this and gives its store."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol, cast

import pytest

from server.interfaces import ArtifactStore, FileStore, ObjectChanged
from server.storage.local import PIECE

KEY = "jobs/job-1/0.png"
SHA = "ab" * 32


class Store(ArtifactStore, FileStore, Protocol):
    """Both sides of a storage."""


async def put(store: Store, key: str, data: bytes) -> None:
    """Store some bytes as a picture."""
    await store.put(key, data, "image/png", SHA)


async def content(store: Store, key: str, offset: int = 0, etag: str = "") -> bytes:
    """All of an object from an offset on."""
    async with aclosing(cast(Any, store.pieces(key, offset, etag))) as pieces:
        return b"".join([piece async for piece in pieces])


class StorageContract:
    """Each test has a `store` with nothing in it."""

    async def test_what_was_put_is_read_in_pieces(self, store: Store) -> None:
        """From any offset, at most as much as asked for, nothing past the end."""
        await put(store, KEY, b"0123456789")
        assert [await store.read(KEY, at, 4) for at in (0, 4, 8, 10, 99)] == [b"0123", b"4567", b"89", b"", b""]

    async def test_putting_again_replaces(self, store: Store) -> None:
        """The same content once more changes nothing that can be seen; another takes its place."""
        for data in (b"a long first one", b"a long first one", b"second"):
            await put(store, KEY, data)
            assert await store.read(KEY, 0, 100) == data

    async def test_any_key_of_letters_that_files_may_have_is_one(self, store: Store) -> None:
        """Whatever a backend calls its folders."""
        for key in ("generations/gen-17.png", "a b/ü ✨/c#d?e%2F.png", "one"):
            await put(store, key, key.encode())
            assert await store.read(key, 0, 100) == key.encode()

    async def test_a_missing_picture_is_an_os_error(self, store: Store) -> None:
        """To whoever reads it, and to whoever asks after it."""
        with pytest.raises(FileNotFoundError):
            await store.read(KEY, 0, 10)
        with pytest.raises(FileNotFoundError):
            await store.stat(KEY)
        with pytest.raises(FileNotFoundError):
            await content(store, KEY)

    async def test_a_deleted_picture_is_gone_and_its_neighbour_is_not(self, store: Store) -> None:
        """Deleting what is not there is no error."""
        await put(store, KEY, b"png")
        await put(store, "jobs/job-1/1.png", b"other")
        await store.delete(KEY)
        await store.delete(KEY)
        await store.delete("jobs/job-2/0.png")
        with pytest.raises(FileNotFoundError):
            await store.read(KEY, 0, 10)
        assert await store.read("jobs/job-1/1.png", 0, 10) == b"other"

    @pytest.mark.parametrize(
        "key",
        ["../x.png", "jobs/../../x.png", "/etc/passwd", "jobs//0.png", "", ".", "jobs/.", "jobs/\0.png", "jobs/",
         "jobs\\..\\x", "a\nb", "x" * 1025],
    )  # fmt: skip
    async def test_no_key_leads_elsewhere(self, store: Store, key: str) -> None:
        """Neither for writing nor for reading, deleting or telling: a mistake of ours must not become the operator's loss."""
        with pytest.raises(ValueError, match="not a storage key"):
            await put(store, key, b"png")
        for use in (
            store.read(key, 0, 10),
            store.delete(key),
            store.address(key),
            store.stat(key),
            content(store, key),
        ):
            with pytest.raises(ValueError, match="not a storage key"):
                await use

    async def test_another_content_has_another_etag(self, store: Store) -> None:
        """Also of the same size; the size is told beside it."""
        await put(store, KEY, b"0123456789")
        first = await store.stat(KEY)
        assert first == await store.stat(KEY)
        assert first.size == 10
        await put(store, KEY, b"9876543210")
        second = await store.stat(KEY)
        assert second.etag != first.etag

    async def test_a_large_object_is_streamed_from_any_offset(self, store: Store) -> None:
        """To its last byte."""
        data = bytes(range(256)) * (PIECE // 256 * 2) + b"the end"
        await put(store, KEY, data)
        etag = (await store.stat(KEY)).etag
        assert await content(store, KEY, 0, etag) == data
        assert await content(store, KEY, PIECE + 3, etag) == data[PIECE + 3 :]
        assert await content(store, KEY, len(data) - 1, etag) == b"d"

    async def test_an_object_that_has_changed_is_not_streamed(self, store: Store) -> None:
        """Half of one content and half of another is neither."""
        await put(store, KEY, b"0123456789")
        etag = (await store.stat(KEY)).etag
        await put(store, KEY, b"9876543210")
        with pytest.raises(ObjectChanged):
            await content(store, KEY, 5, etag)

    async def test_a_file_of_this_machine_is_stored(self, store: Store, tmp_path: Path) -> None:
        """Whatever its size, byte for byte."""
        path = tmp_path / "large"
        path.write_bytes(bytes(range(256)) * 24_000)  # more than one piece of any kind
        await store.put_file("adapters/ada/ink/a.safetensors", path)
        assert await content(store, "adapters/ada/ink/a.safetensors") == path.read_bytes()

    async def test_the_keys_below_a_folder_are_listed(self, store: Store) -> None:
        """In order, with those in folders of it, without its neighbours; so many at most."""
        for key in ("models/fox/unet/b", "models/fox/a", "models/foxes/x", "models/fox.txt"):
            await put(store, key, b"x")
        assert await store.keys("models/fox", 10) == ["models/fox/a", "models/fox/unet/b"]
        assert len(await store.keys("models/fox", 1)) == 1
        assert await store.keys("models/none", 10) == []
        with pytest.raises(ValueError, match="not a storage key"):
            await store.keys("../models", 10)
