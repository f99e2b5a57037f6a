"""Profiles: ready-made settings, which come after all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import Settings, SettingsError, load_settings
from config.profile import profile_names, read_profile
from config.settings import environment_names

KNOWN = {name: field for field in Settings.model_fields for name in environment_names(field)}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no .env, comes into a test."""
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_there_are_two() -> None:
    """One for each kind of front end."""
    assert profile_names() == ("predictions", "sdxl-api")


@pytest.mark.parametrize("profile", profile_names())
def test_every_line_of_a_profile_sets_something(profile: str) -> None:
    """By a name that the settings know, to a value that fits and is not the default already, or is that of the servers before."""
    lines = read_profile(profile)
    assert lines
    assert set(lines) <= set(KNOWN)
    told = {KNOWN[name] for name in lines}
    settings, plain = load_settings(profile=profile), load_settings()
    changed = {field for field in Settings.model_fields if getattr(settings, field) != getattr(plain, field)}
    assert changed <= told | {"profile"}
    assert settings.cors_origins == ("*",)
    assert settings.http_anonymous_owner == "guest"


def test_the_environment_comes_before_it_by_any_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ours, another system's, or one in .env; the rest of the profile holds."""
    monkeypatch.setenv("ATELIER_PROFILE", "sdxl-api")
    monkeypatch.setenv("ATELIER_MAX_NUM_INFERENCE_STEPS", "30")
    monkeypatch.setenv("CORS_ORIGINS", "https://a.test")
    (tmp_path / ".env").write_text("DEFAULT_STEPS=9\n")
    settings = load_settings(default_guidance_scale=2.0)
    assert settings.max_num_inference_steps == 30
    assert settings.cors_origins == ("https://a.test",)
    assert settings.default_num_inference_steps == 9
    assert settings.default_guidance_scale == 2.0
    assert (settings.http_anonymous_owner, settings.solver()) == ("guest", "dpmpp_2m_karras")


def test_it_may_stand_in_the_env_file(tmp_path: Path) -> None:
    """As every setting."""
    (tmp_path / ".env").write_text("ATELIER_PROFILE=predictions\n")
    assert load_settings().http_anonymous_owner == "guest"


@pytest.mark.parametrize("name", ["sdxl", "../profiles/sdxl-api", "SDXL-API"])
def test_a_profile_that_there_is_not_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With the names of those that there are."""
    monkeypatch.setenv("ATELIER_PROFILE", name)
    with pytest.raises(SettingsError, match="ATELIER_PROFILE: must be one of predictions, sdxl-api"):
        load_settings()
