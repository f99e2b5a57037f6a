"""Settings → where adapters are fetched from, and where they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config import SettingsError, load_settings
from factory.fetching import AdapterFetching
from factory.storage import Storage
from server.errors import Code, JobFailure, Refusal
from server.pools import InlinePool
from tests.server.fetching.made import content_of, made


def fetching(reactor: Any, folder: Path, **settings: Any) -> AdapterFetching:
    """What these settings give."""
    loaded = load_settings(data_dir=folder / "data", **settings)
    return AdapterFetching(loaded, Storage(loaded, InlinePool()), reactor)


async def test_an_adapter_of_the_storage_comes_into_the_data_folder(reactor: Any, tmp_path: Path) -> None:
    """By key; stopping ends the threads, and stopping once more does no harm."""
    models = tmp_path / "data" / "artifacts" / "models"
    models.mkdir(parents=True)
    (models / "a.safetensors").write_bytes(made(300))
    built = fetching(reactor, tmp_path)
    await built.open()
    held = await built.source.fetch("storage:models/a.safetensors")
    assert Path(held.path).is_relative_to(tmp_path / "data" / "adapters")
    assert content_of(held.path) == made(300)
    held.release()
    assert await built.close()
    assert await built.close()


async def test_a_link_in_the_storage_s_folder_leads_nowhere(reactor: Any, tmp_path: Path) -> None:
    """Whoever may write there cannot have other files of the machine read."""
    models = tmp_path / "data" / "artifacts" / "models"
    models.mkdir(parents=True)
    (tmp_path / "secret.safetensors").write_bytes(made(300))
    (models / "a.safetensors").symlink_to(tmp_path / "secret.safetensors")
    built = fetching(reactor, tmp_path)
    await built.open()
    with pytest.raises(JobFailure) as failed:
        await built.source.fetch("storage:models/a.safetensors")
    assert failed.value.code is Code.ADAPTER_NOT_FOUND
    assert await built.close()


async def test_an_allowed_host_on_our_own_network_is_not_called(reactor: Any, tmp_path: Path) -> None:
    """Unless its network is allowed too; one that is not allowed is refused before anybody asks."""
    built = fetching(reactor, tmp_path, adapter_hosts="localhost")
    with pytest.raises(Refusal, match="not an allowed host"):
        built.source.check("https://files.test/a.safetensors")
    await built.open()
    with pytest.raises(JobFailure, match="not public") as failed:
        await built.source.fetch("https://localhost/a.safetensors")
    assert failed.value.code is Code.ADAPTER_INVALID
    assert await built.close()


async def test_a_cache_that_cannot_be_made_stops_the_start(reactor: Any, tmp_path: Path) -> None:
    """With the name of the setting."""
    (tmp_path / "file").touch()
    built = fetching(reactor, tmp_path, adapter_cache_dir=tmp_path / "file")
    with pytest.raises(SettingsError, match="ATELIER_ADAPTER_CACHE_DIR"):
        await built.open()
    assert await built.close()
