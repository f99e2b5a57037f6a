"""The record of a run: everything that the page shows, as JSON. Format 1.

kind, title, about, door, server, seed, began (UTC), seconds, processes, interrupted
verdict        {passed, text, findings [{name, passed, text, ids}], notes []}
counts         visits by their ends; codes: refusals and failures by code; conducts: visits by behaviour
latencies      by name: percentiles (s), count, mean, max, `curve` [percents, seconds], `histogram` (HdrHistogram V2, base64)
timeline       columns: t (s), visits a second by end, p50 and p99 (s)
samples        columns: t (s), what the server and the system said
faults         [{at, do, what, until, note}]
gallery        [{prompt, seed, …, apart, wrong, png}]
details        what is the kind's own
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bot.errors import ClientError
from bot.run import Run, faults_of

FORMAT = 1


class CannotRead(ClientError):
    """A file that is no record of a run."""


def record_of(run: Run, details: dict[str, Any]) -> dict[str, Any]:
    """The record, once everything is judged."""
    options = run.options
    return {
        "format": FORMAT,
        "kind": options.kind,
        "title": options.profile.title,
        "about": options.profile.about,
        "profile": options.profile.model_dump(mode="json"),
        "door": options.where.kind,
        "address": run.door.address,
        "server": run.health.version,
        "seed": run.seed,
        "run": run.name,
        "began": datetime.fromtimestamp(run.epoch, UTC).isoformat(timespec="seconds"),
        "seconds": round(run.now(), 3),
        "processes": options.processes,
        "interrupted": run.stop.is_set() and not run.gone,
        "verdict": _verdict(run),
        "counts": run.figures.counts(),
        "codes": dict(run.figures.codes),
        "conducts": dict(run.figures.conducts),
        "unfinished": dict(run.accounts.unfinished),
        "latencies": {
            name: {**latency.summary(), "curve": latency.curve(), "histogram": latency.encoded()}
            for name, latency in run.figures.latencies.items()
            if latency.count
        },
        "stretch": run.figures.width,
        "timeline": run.figures.timeline(),
        "samples": run.sampler.columns(),
        "faults": faults_of(run),
        "gallery": [one.as_json() for one in run.compared],
        "details": details,
    }


def _verdict(run: Run) -> dict[str, Any]:
    passed = all(finding.passed for finding in run.findings)
    broken = [finding.name for finding in run.findings if not finding.passed]
    text = "Everything as promised." if passed else f"Not as promised: {', '.join(broken)}."
    if run.stop.is_set() and not run.gone:
        text += f" The run was stopped early, with {len(run.accounts.unfinished)} jobs still under way."
    return {
        "passed": passed,
        "text": text,
        "findings": [finding.as_json() for finding in run.findings],
        "notes": run.notes,
    }


def read_record(path: Path) -> dict[str, Any]:
    """A record from its file. Raises CannotRead."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotRead(f"{path}: {error.strerror}") from None
    except ValueError:
        raise CannotRead(f"{path} is no JSON: give the .json beside a run's .html") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CannotRead(f"{path} is no record of a run of these bots (format {FORMAT})")
    return record
