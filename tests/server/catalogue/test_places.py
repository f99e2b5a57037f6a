"""Where models may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai.types import ModelLoadError
from server.catalogue.places import InStorage, OnDisk, OnHub, PlaceRules, find_local, instead, read_place
from server.errors import Refusal

ROOT = Path("/srv/models")
RULES = PlaceRules(roots=[ROOT], keys=["models/"], hub=True)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("fox", OnDisk("fox")),
        ("a/b.safetensors", OnDisk("a/b.safetensors")),
        ("/srv/models/fox", OnDisk("/srv/models/fox")),
        ("storage:models/fox", InStorage("models/fox/")),
        ("storage:models/fox/", InStorage("models/fox/")),
        ("storage:models/fox.safetensors", InStorage("models/fox.safetensors")),
        ("hub:stabilityai/sdxl", OnHub("stabilityai/sdxl", "")),
        ("hub:stabilityai/sdxl@refs/pr/1", OnHub("stabilityai/sdxl", "refs/pr/1")),
    ],
)
def test_what_a_path_means(given: str, place: object) -> None:
    """By how it begins."""
    assert read_place(given, RULES) == place


@pytest.mark.parametrize(
    "given",
    ["", "  ", "x" * 1001, "a\0b", "../etc", "a/../../etc", "/etc/passwd", "/srv/models2/x", "/srv/models/../x", "~/x",
     "fox.ckpt", "a/b.BIN", "storage:jobs/1", "storage:models/../x", "storage:/models/x", "storage:models//x",
     "storage:models/x.pt", "hub:nothing", "hub:a/b/c", "hub:a/../b", "hub:a/b@", "hub:a/b@../x"],
)  # fmt: skip
def test_what_leads_elsewhere_is_refused(given: str) -> None:
    """Before any file is looked at, by the field's name."""
    with pytest.raises(Refusal) as caught:
        read_place(given, RULES)
    assert caught.value.field == "model_path"


def test_what_the_operator_does_not_allow_is_refused() -> None:
    """Folders, and the hub, each by what would allow them."""
    for given in ("fox", "stabilityai/sdxl", "hub:stabilityai/sdxl"):
        with pytest.raises(Refusal, match="ATELIER_MODEL_"):
            read_place(given, PlaceRules())
    assert read_place("stabilityai/sdxl", PlaceRules(hub=True)) == OnHub("stabilityai/sdxl", "")


def test_a_path_is_found_in_one_of_the_folders(tmp_path: Path) -> None:
    """Relative to each, or whole."""
    one, two = tmp_path / "one", tmp_path / "two"
    (two / "fox").mkdir(parents=True)
    one.mkdir()
    rules = PlaceRules(roots=[one, two])
    assert find_local(OnDisk("fox"), rules) == two / "fox"
    assert find_local(OnDisk(str(two / "fox")), rules) == two / "fox"
    with pytest.raises(ModelLoadError, match="no such file or folder"):
        find_local(OnDisk("hen"), rules)


def test_no_link_is_followed(tmp_path: Path) -> None:
    """Neither to the model nor on the way to it."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "fox").mkdir(parents=True)
    root.mkdir()
    (root / "way").symlink_to(outside)
    (root / "fox").symlink_to(outside / "fox")
    for path in ("fox", "way/fox", str(root / "fox")):
        with pytest.raises(ModelLoadError, match="over a link"):
            find_local(OnDisk(path), PlaceRules(roots=[root]))


def test_a_path_that_is_not_here_may_be_of_the_hub() -> None:
    """Where that is allowed, and it looks like one."""
    assert instead(OnDisk("stabilityai/sdxl"), RULES) == OnHub("stabilityai/sdxl", "")
    assert instead(OnDisk("fox"), RULES) is None
    assert instead(OnDisk("stabilityai/sdxl"), PlaceRules()) is None
