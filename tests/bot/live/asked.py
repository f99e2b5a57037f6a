"""Runs of live bots in this process, as the command line would have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bot.asked import faults_of, live_scenario
from bot.live.profile import LiveProfile
from bot.profile import parsed
from bot.run import Options
from bot.where import Where

PLAIN = """
title = "plain"
[live]
sessions = 6
connections = 3
rate = 50.0
lead_seconds = 0.004
starved_after_seconds = 10.0
dropped_share = 1.0
outage_seconds = 10.0
"""


def options(address: str, out: Path, more: str = "", **given: Any) -> Options:
    """What was asked for: of the scenario `live` (a dict) is said otherwise, `faults` are added."""
    profile = live_scenario(
        parsed(PLAIN + more, "plain.toml", LiveProfile), faults=faults_of(given.pop("faults", ())),
        **given.pop("live", {}),
    )  # fmt: skip
    where = Where(address=address, reconnect_for=given.pop("reconnect_for", 20.0), **given.pop("where", {}))
    return Options(kind="live", where=where, profile=profile, out=out, **{"seconds": 1.0, "sample": 0, **given})
