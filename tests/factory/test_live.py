"""Stream models from the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai.live.manifests import MANIFEST
from config import SettingsError, load_settings
from factory.live import read_stream_models
from tests.ai.live.test_manifests import folder

SMALL = 'name = "{}"\ninputs = ["x"]\noutputs = ["y"]\n'


def test_the_embedded_model_is_there_without_a_setting() -> None:
    """Small, and with what a face has."""
    (demo,) = read_stream_models(load_settings())
    assert (demo.name, demo.tick_hz, len(demo.inputs)) == ("stream-demo", 30.0, 20)
    assert demo.outputs == ("joy", "sadness", "anger", "surprise", "fear", "disgust")
    assert sum(path.stat().st_size for path in demo.folder.iterdir()) < 2_000_000


def test_the_operator_s_models_are_there_too(tmp_path: Path) -> None:
    """Of two with the same name, the operator's."""
    for name in ("wave", "stream-demo"):
        folder(tmp_path / name, SMALL.format(name))
    found = {one.name: one.folder for one in read_stream_models(load_settings(stream_models_dir=tmp_path))}
    assert found == {"stream-demo": tmp_path / "stream-demo", "wave": tmp_path / "wave"}


def test_a_folder_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    """With the variable's name, and the file's."""
    with pytest.raises(SettingsError, match=r"ATELIER_STREAM_MODELS_DIR: .*nowhere is no folder"):
        read_stream_models(load_settings(stream_models_dir=tmp_path / "nowhere"))
    folder(tmp_path / "wave", "name = 3")
    with pytest.raises(SettingsError, match=rf"wave/{MANIFEST}: "):
        read_stream_models(load_settings(stream_models_dir=tmp_path))
