"""Where a node's settings come from: its environment, then another node, then what that node last gave."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config import Settings, SettingsError
from config.settings import CLIENT_NAMES, environment_names
from factory.node_settings import NodeSettings, node_settings
from factory.settings_copy import place_of
from factory.settings_fetch import Unfetched

KEY = "s3cret-key-of-a-node-0123456789"
URL = "https://settings.test"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node of the group gpu, with nothing else in its environment."""
    for name in {name for field in Settings.model_fields for name in environment_names(field)} | set(CLIENT_NAMES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_SETTINGS_URL", URL)
    monkeypatch.setenv("ATELIER_SETTINGS_KEY", KEY)
    monkeypatch.setenv("ATELIER_SETTINGS_GROUP", "gpu")


def gives(answer: Any) -> Callable[[str, str, str, float], Any]:
    """A service that answers so, to those who have the key."""

    def fetch(url: str, key: str, path: str, seconds: float) -> Any:
        assert (url, key, seconds) == (URL, KEY, 5.0)
        if isinstance(answer, Unfetched):
            raise answer
        return answer

    return fetch


GONE = gives(Unfetched("Connection refused"))


def kept(answer: Any) -> NodeSettings:
    """A node that has started with this answer."""
    found = node_settings(gives(answer))
    found.keep()
    return found


def refused(fetch: Callable[[str, str, str, float], Any]) -> str:
    """Why a node does not start."""
    with pytest.raises(SettingsError) as caught:
        node_settings(fetch)
    assert KEY not in str(caught.value)
    return str(caught.value)


def test_a_node_without_an_address_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment says it all."""
    for name in ("URL", "KEY", "GROUP"):
        monkeypatch.delenv(f"ATELIER_SETTINGS_{name}")
    found = node_settings(gives(None), max_batch=3)
    assert (found.settings.max_batch, found.source, found.copy) == (3, "", None)
    with capture_logs() as said:
        found.tell()
        found.started()
    assert said == []


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"GROUP": "", "INSTANCE": ""}, "base"),
        ({"GROUP": "gpu", "INSTANCE": ""}, "groups/gpu"),
        ({"GROUP": "", "INSTANCE": "gpu-1"}, "instances/gpu-1"),
        ({"GROUP": "gpu", "INSTANCE": "gpu-1"}, "instances/gpu-1"),
    ],
)
def test_a_node_asks_for_its_own(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], path: str) -> None:
    """Its instance's, else its group's, else those of all."""
    for name, value in given.items():
        monkeypatch.setenv(f"ATELIER_SETTINGS_{name}", value)
    asked: list[str] = []

    def fetch(url: str, key: str, path: str, seconds: float) -> Any:
        asked.append(path)
        return {"group": "gpu", "ATELIER_MAX_BATCH": 5}

    found = node_settings(fetch)
    assert (asked, found.settings.max_batch, found.source) == ([path], 5, f"settings service, {path}")


def test_the_environment_and_what_is_given_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """By any name."""
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    answer = {"ATELIER_LOG_LEVEL": "ERROR", "ATELIER_MAX_BATCH": 5, "ATELIER_PROCESSES": 2}
    settings = node_settings(gives(answer), processes=3).settings
    assert (settings.log_level, settings.max_batch, settings.processes) == ("DEBUG", 5, 3)


def test_a_node_that_started_starts_again_without_the_service() -> None:
    """With what it last had; the log and the status say so, and since when."""
    first = kept({"ATELIER_MAX_BATCH": 5})
    assert first.copy is not None
    again = node_settings(GONE)
    assert again.settings == first.settings
    assert again.source == (
        f"last good copy, of {first.copy.fetched_at}: the settings service could not be used; the log says why"
    )
    with capture_logs() as said:
        first.tell()
        again.tell()
    assert [(line["event"], line["log_level"], line.get("problem")) for line in said] == [
        ("settings.fetched", "info", None),
        ("settings.last_good", "error", "Connection refused"),
    ]
    assert KEY not in repr(said) + repr(first) + repr(again)


def test_what_it_starts_with_from_its_copy_is_not_kept_anew(tmp_path: Path) -> None:
    """The copy stays as old as it is."""
    kept({"ATELIER_MAX_BATCH": 5})
    place = place_of(tmp_path / "data", "groups/gpu")
    before = place.read_bytes()
    node_settings(GONE).started()
    assert threading.active_count() == len([one for one in threading.enumerate() if one.name != "settings_copy"])
    assert place.read_bytes() == before


def test_settings_are_kept_once_the_server_runs_with_them(tmp_path: Path) -> None:
    """Not before: what it cannot start with is no good."""
    found = node_settings(gives({"ATELIER_MAX_BATCH": 5}))
    assert not (tmp_path / "data").exists()
    found.started()
    for thread in threading.enumerate():
        if thread.name == "settings_copy":
            thread.join()
    assert node_settings(GONE).settings.max_batch == 5


def test_a_disk_that_takes_no_copy_stops_nothing(tmp_path: Path) -> None:
    """The log says it."""
    (tmp_path / "data").write_text("a file where the folder should be")
    with capture_logs() as said:
        kept({"ATELIER_MAX_BATCH": 5})
    assert [line["event"] for line in said] == ["settings.not_kept"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"ATELIER_MAX_BATCH": 0}, "ATELIER_MAX_BATCH: Input should be greater than or equal to 1"),
        ({"ATELIER_NEWER": 1}, "ATELIER_NEWER: no such setting"),
        ({"ATELIER_DATA_DIR": "/elsewhere"}, "ATELIER_DATA_DIR: a node's own environment alone says it"),
        ({"ATELIER_ROLE": "worker"}, "ATELIER_ROLE=worker needs RABBITMQ_HOST"),
        (
            {"ATELIER_SECRET_KEY": {"from": "environment"}},
            "ATELIER_SECRET_KEY: it is left to this node's own environment",
        ),
        ([1], "it is no object of settings"),
        (Unfetched("status 403: PERMISSION_DENIED"), "status 403: PERMISSION_DENIED"),
    ],
)
def test_what_a_node_cannot_start_with_leaves_it_its_last_good_settings(answer: Any, says: str) -> None:
    """And one that has none does not start, and says why: each wrong value by its name."""
    fetch = gives(answer)
    text = refused(fetch)
    assert text.startswith("ATELIER_SETTINGS_URL: ")
    assert says in text
    assert "of a last good copy: there is none at data/settings/groups-gpu.json" in text
    kept({"ATELIER_MAX_BATCH": 5})
    found = node_settings(fetch)
    assert found.settings.max_batch == 5
    assert says in found.problem


def test_a_secret_is_the_environment_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By any name of it; the copy has none."""
    monkeypatch.setenv("SECRET_KEY", "s3cret-of-thirty-two-characters!")
    found = kept({"ATELIER_SECRET_KEY": {"from": "environment"}})
    assert found.settings.secret_key.get_secret_value() == "s3cret-of-thirty-two-characters!"
    assert b"s3cret" not in place_of(tmp_path / "data", "groups/gpu").read_bytes()


def test_an_instance_of_another_group_is_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a worker would start as a gateway."""
    monkeypatch.setenv("ATELIER_SETTINGS_INSTANCE", "web-1")
    assert "instances/web-1 is of the group 'web', not 'gpu'" in refused(gives({"group": "web"}))
    assert "instances/web-1 is of the group '', not 'gpu'" in refused(gives({}))
    assert node_settings(gives({"group": "gpu"})).source == "settings service, instances/web-1"


def test_a_damaged_copy_is_told_beside_why_it_was_wanted(tmp_path: Path) -> None:
    """Both, in one message."""
    kept({"ATELIER_MAX_BATCH": 5})
    place = place_of(tmp_path / "data", "groups/gpu")
    place.write_bytes(place.read_bytes()[:-20])
    text = refused(GONE)
    assert "ATELIER_SETTINGS_URL: Connection refused" in text
    assert "groups-gpu.json is damaged" in text


def test_the_copy_of_another_group_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in the group's name must not start a node as what it was before."""
    kept({"ATELIER_MAX_BATCH": 5})
    monkeypatch.setenv("ATELIER_SETTINGS_GROUP", "gpus")
    missing = Unfetched(
        "status 404: INVALID_PARAMETER: configPath must be a path that there is: one of gpu, not 'groups/gpus'"
    )
    assert "one of gpu" in refused(gives(missing))


def test_a_wrong_value_of_the_environment_is_told_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not there is a service, and a copy."""
    kept({"ATELIER_LOG_LEVEL": "INFO"})
    monkeypatch.setenv("ATELIER_MAX_BATCH", "many")
    assert refused(GONE).endswith(
        "ATELIER_MAX_BATCH: Input should be a valid integer, unable to parse string as an integer"
    )
    monkeypatch.setenv("ATELIER_MAX_BACH", "3")
    assert refused(GONE).startswith("ATELIER_MAX_BACH: no such setting")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ATELIER_SETTINGS_URL", "settings.test", "ATELIER_SETTINGS_URL: must be http"),
        ("ATELIER_SETTINGS_URL", "", "ATELIER_SETTINGS_GROUP: needs ATELIER_SETTINGS_URL"),
        ("ATELIER_SETTINGS_KEY", "", "ATELIER_SETTINGS_URL: needs ATELIER_SETTINGS_KEY"),
        ("ATELIER_SETTINGS_KEY", "a key", "ATELIER_SETTINGS_KEY: must be of printable"),
        ("ATELIER_SETTINGS_GROUP", "../gpu", "ATELIER_SETTINGS_GROUP: "),
        ("ATELIER_SETTINGS_INSTANCE", "a/b", "ATELIER_SETTINGS_INSTANCE: "),
        ("ATELIER_SETTINGS_TIMEOUT", "0", "ATELIER_SETTINGS_TIMEOUT: "),
    ],
)
def test_how_to_ask_is_checked_before_anybody_is_asked(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    """Each by its name."""
    monkeypatch.setenv(name, value)
    assert refused(gives(None)).startswith(says)
