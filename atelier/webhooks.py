"""`atelier webhooks`: the outbox as the records have it, beside a running server or without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atelier.output import print_json
from atelier.records import Unusable, records, told
from atelier.running import say
from server.database.review import NOT_OVER, Kept, calls_in, make_again, take_as_delivered
from server.webhook import CallState, Channel
from server.webhooks.calls import HttpCall

Decision = Callable[..., list[str]]


def show(*, unknown: bool, failed: bool, most: int, as_json: bool) -> int:
    """Print calls that are not over, or those of the states that were asked for."""
    with told() as outcome:
        with records() as connection:
            kept = calls_in(connection, Channel.WEBHOOK, _chosen(unknown, failed) or NOT_OVER, most)
        if as_json:
            print_json({"webhooks": [_plain(call) for call in kept]})
        elif kept:
            Console().print(_table(kept))
        else:
            say("none")
    return outcome.status


def retry(ids: Sequence[str], *, unknown: bool, failed: bool) -> int:
    """Let calls be made again."""
    return _decide(make_again, ids, _chosen(unknown, failed), "will be made again")


def dismiss(ids: Sequence[str], *, unknown: bool, failed: bool) -> int:
    """Take calls as delivered."""
    return _decide(take_as_delivered, ids, _chosen(unknown, failed), "dismissed")


def _decide(decision: Decision, ids: Sequence[str], states: Collection[CallState], word: str) -> int:
    if not ids and not states:
        say("name the calls (`atelier webhooks list` shows their ids), or give --all-unknown or --all-failed")
        return 2
    with told() as outcome:
        with records() as connection:
            done = decision(connection, Channel.WEBHOOK, at=time.time(), ids=ids, states=states)
            connection.commit()
        for call_id in done:
            print(call_id)
        say(f"{len(done)} {'call' if len(done) == 1 else 'calls'} {word}")
        if missing := [call_id for call_id in ids if call_id not in done]:
            raise Unusable(f"not among those that wait, were given up or may have arrived: {', '.join(missing)}")
    return outcome.status


def _chosen(unknown: bool, failed: bool) -> set[CallState]:
    return {state for state, asked in ((CallState.UNKNOWN, unknown), (CallState.DEAD, failed)) if asked}


def _table(kept: Sequence[Kept]) -> Table:
    table = Table(box=None)
    for title in ("id", "to", "state", "since", "tries", "next", "last answer"):
        table.add_column(title, overflow="fold")
    for call in kept:
        row = (
            call.id,
            call.target or "backend",
            call.state,
            _time(call.since),
            str(call.attempts),
            _time(call.next_at),
            call.error,
        )
        table.add_row(*map(escape, row))
    return table


def _plain(call: Kept) -> dict[str, Any]:
    told = HttpCall.from_json(call.payload)
    return {
        "id": call.id,
        "job_id": call.job_id,
        "call": call.name,
        "to": call.target or "backend",
        "method": told.method,
        "url": told.url.partition("?")[0],  # what follows may be somebody's secret
        "body": told.body,
        "state": call.state.value,
        "since": _time(call.since),
        "tries": call.attempts,
        "next": _time(call.next_at) or None,
        "last_answer": call.error,
    }


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
