"""Runs of bots in this process, as the command line would have them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from bot.asked import faults_of, scenario
from bot.executing import execute
from bot.profile import Profile, load_profile, parse_profile
from bot.run import Options
from bot.where import Where

PLAIN = """
title = "plain"
[arrivals]
process = "closed"
users = 4
think_seconds = [0.0, 0.05]
[[orders]]
prompts = ["a small red star"]
styles = ["", "*"]
signatures = ["", "Mina"]
images = [1, 2]
negative_prompts = ["", "grey"]
"""


def plain(more: str = "") -> Profile:
    """A small scenario, and what is added to it."""
    return parse_profile(PLAIN + more, "plain.toml")


def options(kind: str, address: str, out: Path, profile: Profile | str | None = None, **given: Any) -> Options:
    """What was asked for; `rate`, `users`, `p99` and `faults` change the profile, `reconnect_for` the place."""
    ready = load_profile(profile) if isinstance(profile, str) else profile or plain()
    changed = scenario(
        ready, users=given.pop("users", None), rate=given.pop("rate", None), p99=given.pop("p99", None),
        faults=faults_of(given.pop("faults", ())),
    )  # fmt: skip
    where = Where(address=address, reconnect_for=given.pop("reconnect_for", 20.0), **given.pop("where", {}))
    return Options(
        kind=kind, where=where, profile=changed, out=out, **{"seconds": 2.0, "drain": 20.0, "sample": 3, **given}
    )


async def run(reactor: Any, asked: Options, stop: asyncio.Event | None = None) -> tuple[int, dict[str, Any]]:
    """The exit status and the record."""
    status = await execute(reactor, asked, stop or asyncio.Event())
    (record,) = asked.out.glob("*.json")
    told: dict[str, Any] = json.loads(record.read_text())
    return status, told


def finding(record: dict[str, Any], name: str) -> dict[str, Any]:
    """One line of the verdict."""
    (found,) = (one for one in record["verdict"]["findings"] if one["name"] == name)
    told: dict[str, Any] = found
    return told
