"""A node's settings: its environment's, and below them what another node hands out, or else what that last handed out.

    request > environment > .env > handed out > profile > built-in

A copy of what was handed out is kept once the node has started with it, so that it starts again when nobody hands out anything,
or something that it cannot start with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from config import Settings, SettingsError, load_settings
from config.fields import PREFIX
from config.settings import Asking, environment_names, read_asking, read_environment
from factory.settings_copy import Copy, NoCopy, keep_copy, read_copy
from factory.settings_fetch import Unfetched, fetch

log = structlog.get_logger("atelier.settings")

Fetch = Callable[[str, str, str, float], Any]


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """`copy` is what was handed out now, or at an earlier start (`problem` says why); None: the environment says it all."""

    settings: Settings
    copy: Copy | None = None
    problem: str = ""

    @property
    def source(self) -> str:
        """Where they come from, "" of the environment alone. Users see it in the status: hosts and problems are the log's."""
        if self.copy is None:
            return ""
        if self.problem:
            return (
                f"last good copy, of {self.copy.fetched_at}: the settings service could not be used; the log says why"
            )
        return f"settings service, {self.copy.path}"

    def tell(self) -> None:
        """Write it to the log."""
        if self.copy is not None and self.problem:
            log.error("settings.last_good", path=self.copy.path, of=self.copy.fetched_at, problem=self.problem)
        elif self.copy is not None:
            log.info("settings.fetched", url=self.settings.settings_url, path=self.copy.path)

    def started(self) -> None:
        """The server runs with them: from now on they are the last good ones. A thread writes them down."""
        if self.copy is not None and not self.problem:
            threading.Thread(target=self.keep, name="settings_copy").start()

    def keep(self) -> None:
        """Write them down; blocks on the disk."""
        assert self.copy is not None
        try:
            keep_copy(self.settings.data_dir, self.copy)
        except OSError as error:
            log.error("settings.not_kept", problem=f"{error.filename}: {error.strerror or error}")


def node_settings(fetch: Fetch = fetch, **given: Any) -> NodeSettings:
    """Read a node's settings; `given` values come before all others. Raises SettingsError."""
    asking = read_asking()
    if not asking.settings_url:
        return NodeSettings(load_settings(**given))
    path = asking.path()
    try:
        key = asking.settings_key.get_secret_value()
        answer = fetch(asking.settings_url, key, path, asking.settings_timeout)
        settings = _with(answer, asking, given)
        return NodeSettings(settings, Copy(path, datetime.now(UTC).isoformat(timespec="seconds"), answer))
    except Unfetched as unfetched:
        problem = str(unfetched)
    except SettingsError as error:
        problem = f"with what it gives this node cannot start: {'; '.join(str(error).splitlines())}"
    try:
        copy = read_copy(asking.data_dir, path)
    except NoCopy as none:
        raise SettingsError(f"{PREFIX}SETTINGS_URL: {problem}; of a last good copy: {none}") from None
    try:
        return NodeSettings(_with(copy.answer, asking, given), copy, problem)
    except SettingsError as error:
        raise SettingsError(f"{PREFIX}SETTINGS_URL: {problem}\n{error}") from None


def _with(answer: Any, asking: Asking, given: Mapping[str, Any]) -> Settings:
    """The settings with what was handed out. Raises SettingsError."""
    from config.layers import GROUP, BadLayers, shared_values  # loaded where it is wanted: it takes 40 ms

    try:
        texts, left = shared_values(answer)
    except BadLayers as error:
        raise SettingsError(str(error)) from None
    group = answer.get(GROUP, "")
    if asking.settings_instance and asking.settings_group not in ("", group):
        raise SettingsError(f"{asking.path()} is of the group {group!r}, not {asking.settings_group!r}")
    environment = read_environment()
    for name in left:
        if not any(environment.get(other) for other in _alike(name)):
            raise SettingsError(f"{name}: it is left to this node's own environment, which does not have it")
    return load_settings(texts, **given)


def _alike(name: str) -> tuple[str, ...]:
    return next(names for names in map(environment_names, Settings.model_fields) if name in names)
