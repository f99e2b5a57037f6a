"""Load: one scenario at its own rate, and what it is like for those who come."""

from __future__ import annotations

from typing import Any

from bot.figures import Figures
from bot.ledger import Accounts, Finding
from bot.profile import Objectives
from bot.run import Run

LATE = 0.25  # seconds by which bots may themselves be late before that is told


async def body(run: Run) -> dict[str, Any]:
    """One shift, judged by the scenario's objectives."""
    options = run.options
    run.doing = options.profile.title
    figures, accounts = await run.shift(options.profile, options.seconds, idle_connections=options.idle_connections)
    run.findings += judged(options.profile.objectives, figures, accounts)
    lateness = figures.latencies["lateness"].percentile(99) or 0.0
    if lateness > LATE:
        run.notes.append(
            f"the bots themselves were late by {lateness:.2f} s (p99): give them --processes, or a machine of their own"
        )
    return {}


def judged(objectives: Objectives, figures: Figures, accounts: Accounts) -> list[Finding]:
    """What the scenario asks for."""
    findings = [_failures(objectives, figures, accounts), _refusals(objectives, figures)]
    for percent, latency, limit in (
        (50, "result", objectives.p50_result_seconds),
        (99, "result", objectives.p99_result_seconds),
        (99, "accepted", objectives.p99_accepted_seconds),
    ):
        if limit is not None:
            seen = figures.latencies[latency].percentile(percent)
            text = f"{seen:.2f} s, at most {limit:g}" if seen is not None else "there was none"
            findings.append(Finding(f"p{percent} to {latency}", seen is not None and seen <= limit, text))
    return findings


def _failures(objectives: Objectives, figures: Figures, accounts: Accounts) -> Finding:
    counts = figures.counts()
    accepted = counts["succeeded"] + counts["failed"] + counts["canceled"]
    share = counts["failed"] / accepted if accepted else 0.0
    text = f"{counts['failed']} of {accepted}, at most {objectives.failed_share:.1%}"
    passed = share <= objectives.failed_share
    if not passed:
        text += f": {next(iter(accounts.failed.values()))}"
    return Finding("jobs failed", passed, text, () if passed else tuple(accounts.failed))


def _refusals(objectives: Objectives, figures: Figures) -> Finding:
    counts = figures.counts()
    share = counts["refused"] / counts["intended"] if counts["intended"] else 0.0
    text = f"{counts['refused']} of {counts['intended']}, at most {objectives.refused_share:.0%}"
    return Finding("turned away", share <= objectives.refused_share, text)
