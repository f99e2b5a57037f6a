"""The settings that a node last started with: kept whole, for nobody else's eyes, and known where they are damaged."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from factory.settings_copy import Copy, NoCopy, keep_copy, place_of, read_copy

COPY = Copy("groups/gpu", "2026-11-21T20:00:00+00:00", {"ATELIER_MAX_BATCH": 4, "ATELIER_DEVICES": ["cuda:0", "é"]})


def test_a_copy_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    """The later one takes the place of the earlier; no other path's."""
    keep_copy(tmp_path / "data", COPY)
    later = Copy(COPY.path, "2026-11-22T20:00:00+00:00", {})
    other = Copy("instances/gpu-1", COPY.fetched_at, {"group": "gpu"})
    for copy in (later, other):
        keep_copy(tmp_path / "data", copy)
    assert [read_copy(tmp_path / "data", copy.path) for copy in (later, other)] == [later, other]
    assert sorted(path.name for path in (tmp_path / "data" / "settings").iterdir()) == [
        "groups-gpu.json", "instances-gpu-1.json",
    ]  # fmt: skip


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """Whatever the umask, and whatever was there before."""
    before = os.umask(0)
    try:
        keep_copy(tmp_path, COPY)
    finally:
        os.umask(before)
    place = place_of(tmp_path, COPY.path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place, place.parent)] == [0o600, 0o700]


def test_where_there_is_none_it_is_told(tmp_path: Path) -> None:
    """With its place."""
    with pytest.raises(NoCopy, match=r"there is none at .*base\.json"):
        read_copy(tmp_path, "base")
    place_of(tmp_path, "base").mkdir(parents=True)
    with pytest.raises(NoCopy, match=r"base\.json: Is a directory"):
        read_copy(tmp_path, "base")


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    """Cut short anywhere, any letter another, another form, another path's: it is never taken for what was kept."""
    keep_copy(tmp_path, COPY)
    place = place_of(tmp_path, COPY.path)
    whole = place.read_bytes()
    told = json.loads(whole)
    damaged = [whole[:size] for size in range(0, len(whole), 7)]
    damaged += [
        whole.replace(b"cuda:0", b"cuda:1"),
        whole.replace(b": 4", b": 5"),
        whole.replace(b"-11-21T", b"-11-22T"),
    ]
    damaged += [b"null", b"[]", b"[" * 100_000, b"\xff", json.dumps({**told, "form": 2}).encode()]
    damaged += [json.dumps({**told, "path": "groups/cpu"}).encode(), json.dumps({**told, "answer": 3}).encode()]
    for content in damaged:
        place.write_bytes(content)
        with pytest.raises(NoCopy, match="is damaged"):
            read_copy(tmp_path, COPY.path)
    keep_copy(tmp_path, COPY)
    assert read_copy(tmp_path, COPY.path) == COPY


def test_a_disk_that_takes_nothing_leaves_the_earlier_one(tmp_path: Path) -> None:
    """And no half of the later."""
    keep_copy(tmp_path, COPY)
    place = place_of(tmp_path, COPY.path)
    place.with_name(f"{place.name}.{os.getpid()}").mkdir()
    with pytest.raises(OSError, match="directory"):
        keep_copy(tmp_path, Copy(COPY.path, "later", {}))
    assert read_copy(tmp_path, COPY.path) == COPY
