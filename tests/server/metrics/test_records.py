"""The database as it is measured, and what it holds that is still to be done."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from server.backlog import EVERY, Backlog, BacklogWatch, ChannelBacklog
from server.errors import RecordsUnavailable
from server.job import JobState
from server.metrics.records import CommitMeter, records_families
from server.webhook import CallState, Channel
from tests.server.fakes import settle
from tests.server.metrics.scrape import now, some_metrics

HELD = Backlog(
    {JobState.QUEUED: 3},
    {Channel.WEBHOOK: ChannelBacklog({CallState.WAITING: 2, CallState.DEAD: 1}, oldest=40.0, first_due=95.0)},
)


class Records:
    """As factory.records has them."""

    retried = 4
    away = True


async def test_the_backlog_is_looked_up_by_a_timer_and_told_from_memory() -> None:
    """Ages go on between looks; a database that is away leaves what was known, and says how old that is."""
    clock: Any = Clock()
    clock.advance(100)
    answers: list[Backlog | Exception] = [HELD, RecordsUnavailable("away"), Backlog()]
    looked = 0

    async def look() -> Backlog:
        nonlocal looked
        looked += 1
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch, metrics = BacklogWatch(look, clock), some_metrics()
    metrics.add(records_families(Records(), watch, clock.seconds))
    assert "atelier_records_backlog_age_seconds" not in now(metrics), "nothing is known yet"
    watch.begin()
    await settle()
    clock.advance(2)
    found = now(metrics)
    assert looked == 1
    assert found["atelier_records_backlog_age_seconds"] == 2
    assert found['atelier_records_jobs{state="queued"}'] == 3
    assert found['atelier_outbox_calls{channel="webhook",state="waiting"}'] == 2
    assert found['atelier_outbox_calls{channel="webhook",state="dead"}'] == 1
    assert found['atelier_outbox_oldest_seconds{channel="webhook"}'] == 62
    assert found['atelier_outbox_overdue_seconds{channel="webhook"}'] == 7
    assert found['atelier_outbox_oldest_seconds{channel="dispatch"}'] == 0
    assert (found["atelier_records_retries_total"], found["atelier_records_away"]) == (4, 1)
    clock.advance(EVERY)
    await settle()
    assert (looked, now(metrics)["atelier_records_backlog_age_seconds"]) == (2, EVERY + 2)
    clock.advance(EVERY)
    await settle()
    assert now(metrics)['atelier_records_jobs{state="queued"}'] == 0
    watch.stop()
    await settle()
    assert clock.getDelayedCalls() == []


def test_commits_are_timed_and_their_writes_counted() -> None:
    """Each commit is one observation of both."""
    metrics = some_metrics()
    meter = CommitMeter(metrics)
    meter(1, 0.002)
    meter(40, 0.004)
    found = now(metrics)
    assert (found["atelier_records_commit_seconds_count"], found["atelier_records_commit_seconds_sum"]) == (2, 0.006)
    assert found["atelier_records_commit_writes_sum"] == 41
