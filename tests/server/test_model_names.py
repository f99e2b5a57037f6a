"""What models are called."""

from __future__ import annotations

import pytest

from server.errors import Code, Refusal
from server.model_names import find_model, full_name, version_of


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("demo", "atelier/demo"),
        ("stabilityai/sdxl", "stabilityai/sdxl"),
        ("/srv/models/sdxl/", "atelier/sdxl"),
        ("a/b/c:d", "atelier/c-d"),
        ("///", "atelier/model"),
    ],
)
def test_every_model_has_an_owner_and_a_name(name: str, full: str) -> None:
    """Its own where it says so; a name that would not stand in an address is made into one that does."""
    assert full_name(name) == full


def test_a_version_is_the_same_for_ever() -> None:
    """64 hex digits that follow from the name: clients keep them."""
    assert version_of("demo") == "2755bf7b2328471599945d384df0a2f754d8d077288890e9a72582f945637c4a"
    assert version_of("other") != version_of("demo")


def test_a_model_is_found_by_each_of_its_names() -> None:
    """And by no other: a version goes with its own model alone."""
    models, version = ("demo", "big/one"), version_of("big/one")
    for wanted in ("big/one", version, f"big/one:{version}"):
        assert find_model(models, wanted, "version") == "big/one"
    for wanted in ("one", "BIG/ONE", f"atelier/demo:{version}", "atelier/demo:", version[:-1], "x" * 100):
        with pytest.raises(Refusal) as caught:
            find_model(models, wanted, "version")
        assert (caught.value.code, caught.value.field) == (Code.MODEL_NOT_FOUND, "version")
        assert caught.value.limit == "one of atelier/demo, big/one"
