"""A real PostgreSQL that goes away and comes back, with jobs under way."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import URL
from twisted.internet.task import Clock

from server.commands import GetJob, Submit
from server.database.patient import LONGEST_PAUSE, PatientStore
from server.errors import Code, Refusal
from server.job import JobState
from tests.postgres import PostgresServer
from tests.server.database.opened import opened
from tests.server.fakes import settle
from tests.server.house import ADA, House


async def test_jobs_go_on_while_the_database_is_away_and_are_recorded_when_it_is_back(
    postgres: PostgresServer, postgres_url: URL
) -> None:
    """What is new is refused with UNAVAILABLE; what was accepted is painted, and told to have ended once that is recorded."""
    postgres.sql("DELETE FROM jobs", "contract")
    clock: Any = Clock()  # of the records' pauses; the house has its own
    with opened(postgres_url) as there:
        store = PatientStore(there.store, clock)
        house = House(store=store)
        running, watcher = await house.followed(idempotency_key="first")
        queued, other = await house.followed()
        house.painter.start(running.id)
        await settle()
        postgres.stop()
        try:
            house.painter.step(running.id, 1)
            house.painter.finish(running.id)
            house.painter.start(queued.id)
            await settle()
            assert watcher.kinds[-1] == "Progress"
            for asked in (
                house.job(),
                house.job(idempotency_key="first"),
                house.get_job(GetJob(owner=ADA, job_id=running.id)),
            ):
                with pytest.raises(Refusal) as caught:
                    await asked
                assert caught.value.code is Code.UNAVAILABLE
                assert caught.value.retry_after_seconds > 0
            assert house.places.taken == house.lifecycle.live == 2
        finally:
            postgres.start()
        clock.advance(LONGEST_PAUSE)
        await settle()
        assert watcher.succeeded
        assert (await house.kept(queued.id)).state is JobState.PROCESSING
        assert (await house.kept(running.id)).artifacts == watcher.succeeded.artifacts
        house.painter.finish(queued.id)
        await settle()
        assert other.succeeded
        assert (await house.submit(Submit(owner=ADA, prompt="a red star", idempotency_key="first"))).duplicate
        await house.job()
        assert clock.getDelayedCalls() == []
