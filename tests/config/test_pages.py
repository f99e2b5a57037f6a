"""The pages that are written from the settings."""

from __future__ import annotations

from dotenv import dotenv_values

from config import Settings
from config.pages import EXAMPLE, PAGE, example, page
from config.settings import environment_names


def test_the_example_is_up_to_date() -> None:
    """.env.example is what the settings say (python -m config.pages writes it)."""
    assert EXAMPLE.read_text(encoding="utf-8") == example()


def test_the_page_is_up_to_date() -> None:
    """docs/configuration.md is what the settings say (python -m config.pages writes it)."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_setting_stands_on_both_with_its_reason() -> None:
    """And the page has every other name of it."""
    for field, info in Settings.model_fields.items():
        ours, *others = environment_names(field)
        assert f"# {info.description}\n#{ours}=" in example()
        row = next(line for line in page().splitlines() if line.startswith(f"| `{ours}` |"))
        assert str(info.description) in row
        assert all(f"`{name}`" in row for name in others)


def test_the_example_changes_nothing_as_it_stands() -> None:
    """Every line of it is a comment."""
    assert dotenv_values(EXAMPLE) == {}


def test_the_example_s_values_are_taken_when_uncommented() -> None:
    """Each default, as it is shown there, is one that the setting takes."""
    lines = [line[1:] for line in example().splitlines() if line.startswith("#ATELIER_")]
    given = {name: value for name, _, value in (line.partition("=") for line in lines) if value}
    assert Settings(**given) == Settings()  # type: ignore[arg-type]


def test_no_table_cell_is_broken() -> None:
    """Each row of the page has four cells."""
    for line in page().splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 5
