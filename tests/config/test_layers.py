"""Settings for many nodes: files over files, what of them a node gets, and every mistake by its file, variable and limit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from config import Settings, load_settings
from config.layers import (
    MOST_FILE,
    OWN,
    BadLayers,
    NoSuchPath,
    as_texts,
    is_secret,
    look,
    read_tree,
    shared_values,
)
from config.settings import environment_names
from tests.config.test_settings import SAMPLES

LEFT = {"from": "environment"}
GOOD = {
    "base.toml": 'LOG_LEVEL = "WARNING"\nATELIER_MAX_BATCH = 4\nSECRET_KEY = { from = "environment" }\n',
    "groups/gpu.toml": 'ATELIER_ROLE = "worker"\nRABBITMQ_HOST = "mq.test"\nATELIER_MAX_BATCH = 8\n',
    "groups/web.toml": 'ATELIER_ROLE = "gateway"\nRABBITMQ_HOST = "mq.test"\n',
    "instances/gpu-1.toml": 'group = "gpu"\nATELIER_DEVICES = ["cuda:0", "cuda:1"]\nATELIER_LOG_LEVEL = "DEBUG"\n',
    "instances/alone.toml": "ATELIER_DRAIN_TIMEOUT = 2.5\nATELIER_PARKING = false\n",
}


def folder(place: Path, files: Mapping[str, str | bytes]) -> Path:
    """A folder of settings."""
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return place


def wrong(place: Path, **files: str | bytes) -> list[str]:
    """The lines with which a folder is refused; `groups__gpu` is groups/gpu.toml."""
    named = {f"{name.replace('__', '/')}.toml": text for name, text in files.items()}
    with pytest.raises(BadLayers) as caught:
        read_tree(folder(place, named))
    return str(caught.value).splitlines()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine's own settings are other ones."""
    monkeypatch.setenv("ATELIER_MAX_BATCH", "63")
    monkeypatch.chdir(tmp_path)


def test_files_lie_over_one_another(tmp_path: Path) -> None:
    """An instance's over its group's over the base; one without a group over the base alone."""
    tree = read_tree(folder(tmp_path, GOOD))
    base = {"ATELIER_LOG_LEVEL": "WARNING", "ATELIER_MAX_BATCH": 4, "ATELIER_SECRET_KEY": LEFT}
    gpu = {**base, "ATELIER_ROLE": "worker", "ATELIER_RABBITMQ_HOST": "mq.test", "ATELIER_MAX_BATCH": 8}
    own = {"group": "gpu", "ATELIER_DEVICES": ["cuda:0", "cuda:1"], "ATELIER_LOG_LEVEL": "DEBUG"}
    assert tree.at("base") == base
    assert tree.at("groups/gpu") == gpu
    assert tree.at("instances/gpu-1") == {**gpu, **own}
    assert tree.at("instances/alone") == {**base, "ATELIER_DRAIN_TIMEOUT": 2.5, "ATELIER_PARKING": False}
    assert tree.at("groups/gpu/ATELIER_MAX_BATCH") == 8
    assert set(tree.at("")) == {"base", "groups", "instances"}
    assert set(tree.at("groups")) == {"gpu", "web"}


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("groups/cpu", ("gpu", "web")),
        ("group", ("base", "groups", "instances")),
        ("groups/", ("gpu", "web")),
        ("/groups", ("base", "groups", "instances")),
        ("groups/../base", ("gpu", "web")),
        ("groups/gpu/ATELIER_MAX_BATCH/8", ()),
        ("instances/alone/ATELIER_MAX_BACH", ("ATELIER_LOG_LEVEL", "ATELIER_MAX_BATCH", "ATELIER_SECRET_KEY",
                                              "ATELIER_DRAIN_TIMEOUT", "ATELIER_PARKING")),
    ],
)  # fmt: skip
def test_a_path_that_leads_nowhere_says_what_there_is(tmp_path: Path, path: str, known: tuple[str, ...]) -> None:
    """Beside the first name of it that is not there; no file outside the folder is ever named by one."""
    with pytest.raises(NoSuchPath) as caught:
        read_tree(folder(tmp_path, GOOD)).at(path)
    assert set(caught.value.known) == set(known)


def test_an_empty_folder_hands_out_nothing(tmp_path: Path) -> None:
    """And no mistake; a folder that is not there is one."""
    assert read_tree(tmp_path).at("") == {"base": {}, "groups": {}, "instances": {}}
    with pytest.raises(BadLayers, match="there is no such folder"):
        read_tree(tmp_path / "none")


def test_every_mistake_is_told_with_its_file_its_variable_as_written_and_its_limit(tmp_path: Path) -> None:
    """All of them at once; what is wrong below is not told again above."""
    assert wrong(
        tmp_path,
        base="MAX_WIDTH = 1\nATELIER_FOO = 3\n",
        groups__gpu='LOG_LEVEL = "LOUD"\n',
        instances__a='group = "gpu"\nATELIER_MAX_BATCH = "many"\n',
        instances__b='group = "gpus"\n',
    ) == [
        "base.toml: ATELIER_FOO: no such setting (docs/configuration.md lists them)",
        "base.toml: MAX_WIDTH: Input should be greater than or equal to 64",
        "groups/gpu.toml: LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'",
        "instances/a.toml: ATELIER_MAX_BATCH: Input should be a valid integer, unable to parse string as an integer",
        "instances/b.toml: group: must be one of gpu, not 'gpus'",
    ]


def test_settings_that_contradict_each_other_are_told_where_they_meet(tmp_path: Path) -> None:
    """base.toml may leave things for groups to say; where it is all there is, it has to be whole."""
    base = 'ATELIER_ROLE = "worker"\n'
    groups = {"groups__whole": 'RABBITMQ_HOST = "mq.test"\n', "groups__part": "ATELIER_MAX_BATCH = 4\n"}
    assert wrong(tmp_path, base=base, **groups) == ["groups/part.toml: ATELIER_ROLE=worker needs RABBITMQ_HOST"]
    assert wrong(tmp_path / "other", base=base) == ["base.toml: ATELIER_ROLE=worker needs RABBITMQ_HOST"]


@pytest.mark.parametrize("field", [field for field in Settings.model_fields if is_secret(field)])
def test_no_secret_may_stand_in_a_file(tmp_path: Path, field: str) -> None:
    """Under none of its names; it is not repeated. Left to the nodes' environments it is handed out as that."""
    for name in environment_names(field):
        text = f'{name} = "s3cret-in-the-clear-0123456789"\n'
        told = wrong(tmp_path, base=text)
        own = field in OWN
        reason = "a node's own environment alone says it" if own else 'a secret is written { from = "environment" }'
        assert told[0].startswith(f"base.toml: {name}: {reason}")
        assert "s3cret" not in told[0]
        if not own:
            tree = read_tree(folder(tmp_path, {"base.toml": f'{name} = {{ from = "environment" }}\n'}))
            assert tree.at("base") == {environment_names(field)[0]: LEFT}


def test_what_is_secret_is_known_by_its_type() -> None:
    """Also within lists and tables."""
    assert {"tokens", "previous_secret_keys", "database_url", "aws_access_key_id"} <= set(
        filter(is_secret, Settings.model_fields)
    )
    assert not is_secret("tcp_listen")


@pytest.mark.parametrize("field", sorted(OWN))
def test_what_is_a_node_s_own_stands_in_no_file(tmp_path: Path, field: str) -> None:
    """Where its folder is, above all: the last good copy lies there."""
    name = environment_names(field)[0]
    assert wrong(tmp_path, base=f'{name} = "x"\n') == [f"base.toml: {name}: a node's own environment alone says it"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"ATELIER_MAX_BATCH = ", "base.toml: Invalid value"),
        (b'LOG_LEVEL = "\xff"', "base.toml: it is not UTF-8 text"),
        (b"a = " + b"[" * 3000, "base.toml: "),
        (b"ATELIER_MAX_BATCH = " + b"9" * 5000, "base.toml: "),
        (b"#" * (MOST_FILE + 1), f"base.toml: must have at most {MOST_FILE} bytes"),
        (b"ATELIER_DRAIN_TIMEOUT = inf", "base.toml: ATELIER_DRAIN_TIMEOUT: must be a finite number"),
        (b"ATELIER_DRAIN_TIMEOUT = 07:32:00", "base.toml: ATELIER_DRAIN_TIMEOUT: must be a text, a number"),
        (b"ATELIER_MAX_BATCH = { a = 1 }", "base.toml: ATELIER_MAX_BATCH: must be a text, a number"),
        (b'ATELIER_LOG_LEVEL = { from = "environment" }', "base.toml: ATELIER_LOG_LEVEL: must be a text, a number"),
        (
            b'CORS_ORIGINS = ["https://a.test,https://b.test"]',
            "base.toml: CORS_ORIGINS: an entry of a list must have no",
        ),
        (b'group = "gpu"', "base.toml: group: no such setting"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: bytes, says: str) -> None:
    """Whatever is in it."""
    assert wrong(tmp_path, base=text)[0].startswith(says)


def test_names_of_files_are_names(tmp_path: Path) -> None:
    """They stand in paths; other files are let be."""
    folder(tmp_path, {"groups/gpu.toml": "", "groups/README.md": "x", "instances/.hidden": "x", "notes.toml": "x ="})
    assert set(read_tree(tmp_path).at("groups")) == {"gpu"}
    folder(tmp_path, {"groups/a b.toml": ""})
    with pytest.raises(BadLayers, match=r"groups/a b\.toml: its name must be"):
        read_tree(tmp_path)


def test_a_changed_file_is_seen(tmp_path: Path) -> None:
    """One that was added or taken away, too."""
    states = [look(folder(tmp_path, GOOD))]
    states.append(look(folder(tmp_path, {"groups/gpu.toml": "ATELIER_MAX_BATCH = 2"})))
    states.append(look(folder(tmp_path, {"groups/new.toml": ""})))
    (tmp_path / "groups" / "new.toml").unlink()
    states.append(look(tmp_path))
    assert len(set(states)) == 3
    assert states[1] == states[3]


@pytest.mark.parametrize("field", [f for f in Settings.model_fields if f not in OWN and not is_secret(f)])
def test_whatever_an_environment_can_say_can_be_handed_out(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """As a text, and as TOML's own kinds, which give the same."""
    monkeypatch.delenv("ATELIER_MAX_BATCH")
    text, value = SAMPLES.get(field, ("3", 3) if field == "default_guidance_scale" else ("128", 128))
    default = Settings.model_fields[field].default
    if field not in SAMPLES and isinstance(default, (int, float, str)):
        text, value = (str(default).lower() if isinstance(default, bool) else str(default)), default
    name, given = environment_names(field)[0], list[Any]([text])
    if isinstance(value, (bool, int, float)) or (isinstance(value, tuple) and value):
        given.append(list(map(str, value)) if isinstance(value, tuple) else value)
    for one in given:
        texts, left = shared_values({name: one})
        assert left == ()
        if text:
            assert getattr(load_settings(texts), field) == value


def test_what_was_handed_out_is_looked_at_again() -> None:
    """Whoever hands it out may be newer, or another."""
    assert shared_values({"group": "gpu", "ATELIER_MAX_BATCH": 4, "SECRET_KEY": LEFT}) == (
        {"ATELIER_MAX_BATCH": "4"},
        ("ATELIER_SECRET_KEY",),
    )
    for answer, says in (
        ([], "it is no object of settings"),
        ({"ATELIER_NEW": 1}, "ATELIER_NEW: no such setting"),
        ({"ATELIER_DATA_DIR": "/"}, "ATELIER_DATA_DIR: a node's own"),
        ({"ATELIER_MAX_BATCH": None}, "ATELIER_MAX_BATCH: must be a text"),
        ({"ATELIER_SECRET_KEY": "s3cret-in-the-clear-0123456789"}, "ATELIER_SECRET_KEY: a secret is written"),
    ):
        with pytest.raises(BadLayers) as caught:
            shared_values(answer)
        assert str(caught.value).startswith(says)
        assert "s3cret" not in str(caught.value)


def test_texts_are_those_of_an_environment() -> None:
    """true, not True."""
    assert as_texts({"A": True, "B": 2.5, "C": [1.0, "x", False], "D": LEFT, "E": ""}) == {
        "A": "true", "B": "2.5", "C": "1.0,x,false", "E": "",
    }  # fmt: skip


def test_the_environment_comes_before_what_is_shared_and_that_before_the_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By whichever name; a profile may be shared, too. An empty text is the built-in value."""
    monkeypatch.setenv("MAX_STEPS", "30")
    shared = {
        "ATELIER_PROFILE": "sdxl-api",
        "ATELIER_MAX_NUM_INFERENCE_STEPS": "40",
        "ATELIER_DEFAULT_NUM_INFERENCE_STEPS": "11",
        "ATELIER_LOG_LEVEL": "",
        "ATELIER_MAX_BATCH": "2",
    }
    settings = load_settings(shared, drain_timeout=1.0)
    assert (settings.max_num_inference_steps, settings.default_num_inference_steps) == (30, 11)
    assert (settings.http_anonymous_owner, settings.max_width) == ("guest", 1280)
    assert (settings.log_level, settings.max_batch, settings.drain_timeout) == ("INFO", 63, 1.0)
