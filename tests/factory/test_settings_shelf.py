"""The folder that is handed out: read when it was changed, and handed out as it last was good when it is broken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config import SettingsError, load_settings
from factory.service import make_service
from factory.settings_shelf import FolderShelf, HandingOut
from server.errors import Code, Refusal
from server.pools import InlinePool


def write(folder: Path, files: Mapping[str, str]) -> None:
    """These files, as an editor saves them."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text(text)
        if path.stat().st_mtime_ns == before:  # a clock that is slower than this test
            os.utime(path, ns=(before + 1, before + 1))


async def a_shelf(folder: Path) -> FolderShelf:
    """One that is open."""
    shelf = FolderShelf(folder, InlinePool())
    await shelf.open()
    return shelf


async def test_a_change_is_handed_out_at_the_next_question(tmp_path: Path) -> None:
    """Nobody has to be told of it."""
    write(tmp_path, {"groups/gpu.toml": "ATELIER_MAX_BATCH = 4"})
    shelf = await a_shelf(tmp_path)
    assert await shelf.at("groups/gpu") == {"ATELIER_MAX_BATCH": 4}
    write(tmp_path, {"groups/gpu.toml": "ATELIER_MAX_BATCH = 8", "groups/new.toml": ""})
    assert await shelf.at("groups") == {"gpu": {"ATELIER_MAX_BATCH": 8}, "new": {}}


async def test_a_folder_that_was_not_changed_is_not_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A look at its files is enough."""
    write(tmp_path, {"base.toml": "ATELIER_MAX_BATCH = 4"})
    shelf = await a_shelf(tmp_path)
    with capture_logs() as said:
        for _ in range(3):
            await shelf.at("")
    assert said == []


async def test_a_broken_folder_is_handed_out_as_it_last_was_good(tmp_path: Path) -> None:
    """The log says once what is wrong, by file, variable and limit; mended, it is handed out anew."""
    write(tmp_path, {"groups/gpu.toml": "ATELIER_MAX_BATCH = 4"})
    shelf = await a_shelf(tmp_path)
    with capture_logs() as said:
        write(tmp_path, {"groups/gpu.toml": "ATELIER_MAX_BATCH = 0"})
        assert [await shelf.at("groups/gpu") for _ in range(3)] == [{"ATELIER_MAX_BATCH": 4}] * 3
    problem = "groups/gpu.toml: ATELIER_MAX_BATCH: Input should be greater than or equal to 1"
    assert [(line["event"], line["problem"]) for line in said] == [("settings.broken", problem)]
    assert shelf.problem == problem
    write(tmp_path, {"groups/gpu.toml": "ATELIER_MAX_BATCH = 5"})
    assert await shelf.at("groups/gpu") == {"ATELIER_MAX_BATCH": 5}
    assert shelf.problem == ""


async def test_a_folder_that_is_away_for_a_while_is_missed_and_found_again(tmp_path: Path) -> None:
    """As a share of the network is."""
    folder = tmp_path / "settings"
    write(folder, {"base.toml": "ATELIER_MAX_BATCH = 4"})
    shelf = await a_shelf(folder)
    folder.rename(tmp_path / "away")
    assert await shelf.at("base") == {"ATELIER_MAX_BATCH": 4}
    assert "there is no such folder" in shelf.problem
    (tmp_path / "away").rename(folder)
    assert await shelf.at("base") == {"ATELIER_MAX_BATCH": 4}
    assert shelf.problem == ""


async def test_what_is_not_there_is_refused_with_what_is(tmp_path: Path) -> None:
    """Twenty names of it at most."""
    write(tmp_path, {f"groups/g{number}.toml": "" for number in range(10, 40)})
    shelf = await a_shelf(tmp_path)
    with pytest.raises(Refusal) as caught:
        await shelf.at("groups/cpu")
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, "configPath")
    assert caught.value.limit.startswith("a path that there is: one of g10, g11")
    assert caught.value.limit.endswith("g29, …")


async def test_a_folder_that_is_broken_at_the_start_stops_it(tmp_path: Path) -> None:
    """Each mistake on a line, with the setting that names the folder."""
    write(tmp_path, {"base.toml": "ATELIER_FOO = 4\nMAX_WIDTH = 1"})
    with pytest.raises(SettingsError) as caught:
        await a_shelf(tmp_path)
    assert str(caught.value).splitlines() == [
        "ATELIER_SETTINGS_DIR: base.toml: ATELIER_FOO: no such setting (docs/configuration.md lists them)",
        "ATELIER_SETTINGS_DIR: base.toml: MAX_WIDTH: Input should be greater than or equal to 64",
    ]


async def test_the_status_says_where_settings_come_from_and_that_the_folder_is_broken(
    reactor: Any, tmp_path: Path
) -> None:
    """Not what is in it: everybody may ask for the status."""
    write(tmp_path, {"base.toml": ""})
    handing_out = HandingOut(load_settings(settings_dir=tmp_path), reactor, "settings service, base")
    await handing_out.open()
    try:
        assert handing_out.shelf is not None
        assert handing_out.told() == "settings service, base"
        write(tmp_path, {"base.toml": "MAX_WIDTH = 1"})
        await handing_out.shelf.at("")
        assert handing_out.told() == "settings service, base; hands out what the folder last said: it is broken"
    finally:
        assert await handing_out.close()
    nothing = HandingOut(load_settings(), reactor, "")
    await nothing.open()
    assert (nothing.shelf, nothing.told(), await nothing.close()) == (None, "", True)


@pytest.mark.parametrize("given", [{"http_listen": "off"}, {"role": "worker", "rabbitmq_host": "mq.test"}])
def test_nothing_is_handed_out_without_the_door(reactor: Any, tmp_path: Path, given: dict[str, str]) -> None:
    """Whoever wanted it is told at the start."""
    with pytest.raises(SettingsError, match="ATELIER_SETTINGS_DIR: needs the HTTP door"):
        make_service(load_settings(data_dir=tmp_path / "data", settings_dir=tmp_path, **given), reactor)
