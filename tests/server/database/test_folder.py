"""The data folder is one server's."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.database.folder import DataFolder, FolderInUse


def test_a_node_keeps_its_name(tmp_path: Path) -> None:
    """From life to life; another folder is another node."""
    names = []
    for path in (tmp_path / "a" / "b", tmp_path / "a" / "b", tmp_path / "c"):
        folder = DataFolder(path)
        folder.hold()
        names.append(folder.node)
        folder.release()
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == 32


def test_a_name_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    """A crash may have come between making the file and writing it."""
    (tmp_path / "node").write_text("abc")
    folder = DataFolder(tmp_path)
    folder.hold()
    assert len(folder.node) == 32
    assert (tmp_path / "node").read_text() == f"{folder.node}\n"
    folder.release()


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    """Until the first has let it go."""
    first, second = DataFolder(tmp_path), DataFolder(tmp_path)
    first.hold()
    with pytest.raises(FolderInUse, match="in use by another server"):
        second.hold()
    first.release()
    second.hold()
    second.release()
