"""Prometheus's own checker."""

from __future__ import annotations

import shutil


def promtool() -> str:
    """Where it is."""
    found = shutil.which("promtool")
    assert found, "no promtool here: `apt-get install prometheus`, as tools/set-up.sh does for root"
    return found
