"""Custom models from the settings."""

from __future__ import annotations

import pytest

from config import SettingsError, load_settings
from factory.custom import read_custom_cards


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("a=no/path", "ATELIER_CUSTOM_MODELS: a: 'no/path' is no package.module:Class"),
        ("a=module", "ATELIER_CUSTOM_MODELS: a: 'module' is no package.module:Class"),
        ("demo=a.b:C", "ATELIER_CUSTOM_MODELS: the name 'demo' is another model's"),
    ],
)
def test_an_operator_s_mistake_stops_the_start(models: str, said: str) -> None:
    """With the variable's name, and before any process is begun."""
    with pytest.raises(SettingsError) as caught:
        read_custom_cards(load_settings(custom_models=models), ["demo"])
    assert str(caught.value).startswith(said)


def test_without_custom_models_nothing_is_asked() -> None:
    """Which costs a start nothing."""
    assert read_custom_cards(load_settings(), ["demo"]) == []


def test_a_class_that_cannot_be_imported_does_not_stop_the_start() -> None:
    """Its card says why, and the others are as they are."""
    models = "echo=tests.ai.custom.odd:Echo,gone=nowhere.at.all:Class"
    echo, gone = read_custom_cards(load_settings(custom_models=models), [])
    assert (echo.name, echo.problem) == ("echo", "")
    assert gone.problem == "nowhere.at.all:Class: ModuleNotFoundError: No module named 'nowhere'"
