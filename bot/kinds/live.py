"""Live: many sessions on a stream model at their own rate, and whether each has its results, in time, without a gap."""

from __future__ import annotations

from typing import Any

from bot.figures import Figures
from bot.kinds.load import LATE
from bot.ledger import Finding
from bot.live.books import LiveBooks, SessionBooks
from bot.live.profile import Live, LiveProfile
from bot.run import CannotRun, Run, faults_of

LATE_FRAMES = LATE / 25  # seconds: a third of a tick


def check(run: Run) -> None:
    """Live sessions are opened by TCP. Raises CannotRun."""
    if run.options.where.kind != "tcp":
        raise CannotRun("live sessions are opened by TCP: take --door tcp")


async def body(run: Run) -> dict[str, Any]:
    """One shift, judged by what its scenario asks for."""
    profile = run.options.profile
    assert isinstance(profile, LiveProfile)
    live = profile.live
    run.judges_itself = True
    run.doing = f"{profile.title}: {live.sessions} sessions, {live.rate:g} frames a second"
    figures, _ = await run.shift(profile, run.options.seconds)
    books = LiveBooks.merged(run.details)
    run.findings += judged(live, figures, books)
    if faults := run.saboteur.done:
        planned = len(profile.faults)
        run.findings.append(
            Finding("faults happened as planned", len(faults) == planned, f"{len(faults)} of {planned}")
        )
    lateness = figures.latencies["lateness"].percentile(99) or 0.0
    if lateness > LATE_FRAMES:
        run.notes.append(
            f"the bots themselves were late by {lateness * 1e3:.0f} ms (p99), which is in the latencies: give them "
            "--processes, or a machine of their own"
        )
    return {"live": told(live, books), "faults": faults_of(run)}


def told(live: Live, books: LiveBooks) -> dict[str, Any]:
    """For the record: totals, and each session's books."""
    totals = {name: books.total(name) for name in ("sent", "results", "dropped", "missed", "skipped")}
    return {
        **totals,
        "starved": len(books.starved(live.starved_after_seconds)),
        "longest_gap": max((one.longest_gap for one in books.sessions), default=0.0),
        "outages": len(books.outages),
        "longest_outage": max(books.outages, default=None),
        **books.as_json(),
    }


def judged(live: Live, figures: Figures, books: LiveBooks) -> list[Finding]:
    """The verdict."""
    return [
        _there(live, books),
        _starved(live, books),
        _dropped(live, books),
        *_outages(live, books),
        *_latency(live, figures),
        _refused(books),
    ]


def _ids(sessions: list[SessionBooks]) -> tuple[str, ...]:
    return tuple(str(one.number) for one in sessions)


def _there(live: Live, books: LiveBooks) -> Finding:
    ended = [one for one in books.sessions if one.problem]
    text = f"{len(ended)} were not: {ended[0].problem}" if ended else f"{len(books.sessions)} sessions"
    missing = live.sessions - len(books.sessions)
    if missing:
        text = f"{missing} were never begun"
    return Finding("every session there to the end", not ended and not missing, text, _ids(ended))


def _starved(live: Live, books: LiveBooks) -> Finding:
    starved = books.starved(live.starved_after_seconds)
    longest = max((one.longest_gap for one in books.sessions), default=0.0)
    text = f"the longest gap was {longest:.3f} s, at most {live.starved_after_seconds:g}"
    return Finding(
        "no session starved", not starved, f"{len(starved)} were; {text}" if starved else text, _ids(starved)
    )


def _dropped(live: Live, books: LiveBooks) -> Finding:
    sent, dropped = books.total("sent"), books.total("dropped")
    share = dropped / sent if sent else 0.0
    text = (
        f"{dropped} of {sent} ({share:.2%}), at most {live.dropped_share:.0%}; {books.total('missed')} results missed"
    )
    return Finding("frames dropped", share <= live.dropped_share, text)


def _outages(live: Live, books: LiveBooks) -> list[Finding]:
    outages = books.outages
    if not outages:
        return []
    text = f"{len(outages)} sessions were opened again, the last after {max(outages):.2f} s, at most {live.outage_seconds:g}"
    late = [one for one in books.sessions if max(one.outages, default=0.0) > live.outage_seconds]
    return [Finding("sessions opened again in time", not late, text, _ids(late))]


def _latency(live: Live, figures: Figures) -> list[Finding]:
    if live.p99_seconds is None:
        return []
    seen = figures.latencies["frame"].percentile(99)
    text = f"{seen * 1e3:.1f} ms, at most {live.p99_seconds * 1e3:g}" if seen is not None else "there was none"
    return [Finding("p99 from frame to result", seen is not None and seen <= live.p99_seconds, text)]


def _refused(books: LiveBooks) -> Finding:
    text = ", ".join(f"{count} × {why}" for why, count in sorted(books.refused.items())) or "none"
    return Finding("frames refused", not books.refused, text)
