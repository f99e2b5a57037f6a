"""Sources of live sessions by settings: a server plays a recording to a session, and a mistake stops its start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config import Settings, SettingsError, load_settings
from factory.live_sources import LiveSources
from server.live.events import Frame, StreamModel
from tests.integration.eventually import until
from tests.server.live.sources.made import BLUE, RED, VALUES, film, picture, recording

FACE = StreamModel(name="face", inputs=VALUES.names, outputs=("joy",), tick_hz=30.0)
EYE = StreamModel(name="eye", width=16, height=12, outputs=("open",), tick_hz=30.0)
THREE = """
[[source]]
name = "take"
kind = "recording"
path = "take.jsonl"
[[source]]
name = "faces"
kind = "folder"
path = "."
rate = 100
[[source]]
name = "film"
kind = "camera"
device = "film.avi"
rate = 100
"""


def _settings(folder: Path, text: str) -> Settings:
    (folder / "sources.toml").write_text(text, encoding="utf-8")
    return load_settings(live_sources=str(folder / "sources.toml"))


@pytest.mark.parametrize(("name", "model", "frames"), [("take", FACE, 2), ("faces", EYE, 5), ("film", EYE, 2)])
async def test_each_kind_is_read_on_threads(
    reactor: Any, tmp_path: Path, name: str, model: StreamModel, frames: int
) -> None:
    """Its frames fit the model, and come in the order of their numbers."""
    recording(tmp_path / "take.jsonl", *({"captured_us": n * 10_000, "values": [n, 0]} for n in (1, 2)))
    (tmp_path / "a.png").write_bytes(picture(RED))
    film(tmp_path / "film.avi", [RED, BLUE])
    house = LiveSources(_settings(tmp_path, THREE), reactor)
    house.begin()
    heard: list[Frame] = []
    source = house.sources.find(name, model, "ada")
    source.start(model, heard.append, lambda why: None)
    await until(lambda: len(heard) >= frames)
    source.stop()
    assert [frame.number for frame in heard] == list(range(1, len(heard) + 1))
    assert {(len(frame.values), len(frame.image)) for frame in heard} == {(len(model.inputs), model.image_bytes)}
    assert await house.close()


async def test_a_mistake_in_the_file_stops_the_start(reactor: Any, tmp_path: Path) -> None:
    """With the variable's name, the file's, and the key."""
    with pytest.raises(SettingsError, match=r"ATELIER_LIVE_SOURCES: .*sources\.toml: source\.1\.path: Field required"):
        LiveSources(_settings(tmp_path, '[[source]]\nname = "a"\nkind = "folder"'), reactor)


async def test_without_the_setting_there_are_none(reactor: Any) -> None:
    """And no thread is begun."""
    house = LiveSources(load_settings(), reactor)
    house.begin()
    assert await house.close()
