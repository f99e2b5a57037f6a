"""What lies at a place in the storage."""

from __future__ import annotations

import pytest

from server.adapter_names import StoredFile, StoredFolders
from server.errors import Code, JobFailure
from server.fetching.origins import RemoteFile, StorageOrigin, file_name, version_of
from tests.s3 import S3Server
from tests.server.fetching.made import FakeStorage, made
from tests.server.storage.test_objects import bad

STYLE = StoredFolders(("models/style_7", "models/style-7"))


async def found(storage: FakeStorage, place: StoredFile | StoredFolders = STYLE) -> list[str]:
    """The keys of the files that are there, told by their content."""
    files = await StorageOrigin(storage, place).look()
    contents = [b"".join([piece async for piece in file.pieces(0)]) for file in files]
    assert [file.size for file in files] == [len(content) for content in contents]
    return [next(key for key, data in storage.objects.items() if data == content) for content in contents]


def stored(*keys: str) -> FakeStorage:
    """A storage with these objects, each of another content."""
    return FakeStorage(**{key: made(200 + index) for index, key in enumerate(keys)})


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["models/style_7/lora_weights.safetensors"], ["models/style_7/lora_weights.safetensors"]),
        (["models/style-7/pytorch_lora_weights.safetensors"], ["models/style-7/pytorch_lora_weights.safetensors"]),
        (["models/style-7/adapter_model.safetensors"], ["models/style-7/adapter_model.safetensors"]),
        (
            ["models/style-7/adapter_config.json", "models/style-7/adapter_model.safetensors"],
            ["models/style-7/adapter_model.safetensors", "models/style-7/adapter_config.json"],
        ),
        (
            ["models/style-7/pytorch_lora_weights.safetensors", "models/style_7/lora_weights.safetensors"],
            ["models/style_7/lora_weights.safetensors"],
        ),
        (
            ["models/style_7/adapter_config.json", "models/style_7/pytorch_lora_weights.safetensors"],
            ["models/style_7/pytorch_lora_weights.safetensors"],
        ),
    ],
)  # fmt: skip
async def test_a_style_is_found_in_whichever_layout(there: list[str], taken: list[str]) -> None:
    """One file, or PEFT's two; the backend's first folder before its second."""
    assert await found(stored(*there)) == taken


async def test_peft_s_sub_folders_are_found() -> None:
    """The networks that are there, each with its configuration, of the first folder that has any; a whole adapter goes first."""
    parts = [
        "models/style-7/unet/adapter_model.safetensors",
        "models/style-7/unet/adapter_config.json",
        "models/style-7/text_encoder_2/adapter_model.safetensors",
    ]
    storage = stored(
        *parts, "models/style-7/text_encoder/adapter_config.json", "models/style-7/other/adapter_model.safetensors"
    )
    assert await found(storage) == parts
    files = await StorageOrigin(storage, STYLE).look()
    assert [file.name for file in files] == [part.removeprefix("models/style-7/") for part in parts]
    storage.refuses_missing = True
    assert await found(storage) == parts
    storage.objects["models/style-7/lora_weights.safetensors"] = made(900)
    assert await found(storage) == ["models/style-7/lora_weights.safetensors"]


async def test_a_file_is_found_by_its_key() -> None:
    """Nothing else is asked for."""
    storage = stored("models/a.safetensors")
    assert await found(storage, StoredFile("models/a.safetensors")) == ["models/a.safetensors"]
    assert storage.stats == ["models/a.safetensors"]


async def test_what_is_not_there_is_told_with_where_it_was_looked_for() -> None:
    """ADAPTER_NOT_FOUND."""
    for place, says in (
        (STYLE, "models/style_7/ and models/style-7/"),
        (StoredFile("models/a.safetensors"), "models/a.safetensors"),
    ):
        with pytest.raises(JobFailure, match=f"no adapter at {says}") as failed:
            await found(FakeStorage(), place)
        assert failed.value.code is Code.ADAPTER_NOT_FOUND


async def test_a_pickle_in_the_folder_is_told_as_such() -> None:
    """Whoever put it there knows then what to do; beside a file that can be read it is left alone."""
    storage = stored("models/style-7/pytorch_lora_weights.bin")
    with pytest.raises(JobFailure, match=r"pytorch_lora_weights\.bin is a pickle") as failed:
        await found(storage)
    assert failed.value.code is Code.ADAPTER_INVALID
    storage.objects["models/style-7/lora_weights.safetensors"] = made(500)
    assert await found(storage) == ["models/style-7/lora_weights.safetensors"]


async def test_a_storage_that_refuses_what_is_not_there_hides_nothing_that_is() -> None:
    """S3 without the right to list answers 403; where nothing is found, that is what is told."""
    storage = stored("models/style-7/pytorch_lora_weights.safetensors")
    storage.refuses_missing = True
    assert await found(storage) == ["models/style-7/pytorch_lora_weights.safetensors"]
    storage.objects.clear()
    with pytest.raises(PermissionError):
        await found(storage)


async def test_a_missing_bucket_is_no_missing_adapter(rclone_s3: S3Server) -> None:
    """It may be a mistake of the settings, and be there later."""
    with pytest.raises(OSError, match="no such bucket"):
        await StorageOrigin(bad(rclone_s3.port, bucket="nobody-s"), STYLE).look()
    with pytest.raises(JobFailure, match="no adapter"):
        await StorageOrigin(bad(rclone_s3.port), STYLE).look()


async def test_what_appears_while_it_is_looked_for_is_looked_for_again() -> None:
    """By whoever tries once more."""

    class Late(FakeStorage):
        async def _appear(self) -> None:
            self.objects["models/a.safetensors"] = made()

        def pieces(self, key: str, offset: int, etag: str):  # type: ignore[no-untyped-def]
            self.objects["models/a.safetensors"] = made()
            return super().pieces(key, offset, etag)

    with pytest.raises(OSError, match="there now"):
        await found(Late(), StoredFile("models/a.safetensors"))


def test_versions_tell_contents_apart() -> None:
    """By etag, size and name of each file."""

    def version(name: str = "a", size: int | None = 1, etag: str = "e") -> str:
        return version_of([RemoteFile(name, size, etag, FakeStorage().pieces)])  # type: ignore[arg-type]

    assert version() == version()
    assert len({version(), version(name="b"), version(size=2), version(size=None), version(etag="f")}) == 5


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/style_7/lora_weights.safetensors", "lora_weights.safetensors"),
        ("/x/My Style-2.safetensors", "My Style-2.safetensors"),
        ("/x/ü.safetensors", "adapter.safetensors"),
        ("/x/.safetensors", "adapter.safetensors"),
        ("/download/7", "adapter.safetensors"),
        ("/x/" + "y" * 200 + ".safetensors", "adapter.safetensors"),
        ("", "adapter.safetensors"),
    ],
)
def test_a_file_s_name_on_this_machine_is_a_plain_one(path: str, name: str) -> None:
    """Its own where it is plain."""
    assert file_name(path, ".safetensors") == name
