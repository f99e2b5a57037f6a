"""Failover: processes are killed or paused under load, and every job id has to be accounted for."""

from __future__ import annotations

from typing import Any

from bot.kinds.load import judged
from bot.ledger import Finding
from bot.run import CannotRun, Run


def check(run: Run) -> None:
    """There has to be a fault. Raises CannotRun."""
    if not run.options.profile.faults:
        raise CannotRun(
            "no fault is planned: give --fault 'pause server at 5 for 2' and --pid server=PID, or [[faults]] in a profile"
        )


async def body(run: Run) -> dict[str, Any]:
    """One shift with faults in it."""
    options = run.options
    run.doing = f"{options.profile.title}, with {len(options.profile.faults)} faults"
    figures, accounts = await run.shift(options.profile, options.seconds, idle_connections=options.idle_connections)
    run.findings += judged(options.profile.objectives, figures, accounts)
    done = run.saboteur.done
    planned = len(options.profile.faults)
    missed = [fault.note for fault in done if fault.note]
    text = f"{len(done)} of {planned}" + (f"; {missed[0]}" if missed else "")
    run.findings.append(Finding("faults happened as planned", len(done) == planned and not missed, text))
    recoveries = [_recovery(run, fault.until or fault.at) for fault in done]
    for fault, seconds in zip(done, recoveries, strict=True):
        what = f"a picture after {fault.do} of {fault.what}"
        text = f"{seconds:.1f} s after it was over" if seconds is not None else "none came until the end of the run"
        run.findings.append(Finding(what, seconds is not None, text))
    return {"recoveries": recoveries}


def _recovery(run: Run, until: float) -> float | None:
    """Seconds from the end of a fault to the end of the first stretch of time in which a job succeeded."""
    line = run.figures.timeline()
    for at, rate in zip(line["t"], line["succeeded"], strict=True):
        if rate and at - run.stretch / 2 >= until:
            return float(at + run.stretch / 2 - until)
    return None
