"""The table of what may become of a job."""

from __future__ import annotations

import itertools

import pytest

from server.job import TERMINAL, TRANSITIONS, IllegalTransition, JobState, check_transition, moved
from tests.server.database.contract import ARTIFACT, FAILURE, a_job

LEGAL = {
    ("queued", "starting"), ("queued", "processing"), ("queued", "retrying"), ("queued", "failed"), ("queued", "canceled"),
    ("starting", "processing"), ("starting", "retrying"), ("starting", "failed"), ("starting", "canceled"),
    ("processing", "succeeded"), ("processing", "retrying"), ("processing", "failed"), ("processing", "canceled"),
    ("retrying", "queued"), ("retrying", "failed"), ("retrying", "canceled"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), list(itertools.product(JobState, JobState)))
def test_every_pair_is_legal_or_raises(old: JobState, new: JobState) -> None:
    """Of the 49 pairs of states, the 16 of the table pass and every other raises, naming job and states."""
    if (old.value, new.value) in LEGAL:
        check_transition("job-1", old, new)
    else:
        with pytest.raises(IllegalTransition, match=f"job-1: {old.value} → {new.value}"):
            check_transition("job-1", old, new)


def test_the_table_is_total() -> None:
    """Every state stands in the table."""
    assert set(TRANSITIONS) == set(JobState)


def test_terminal_states_are_never_left() -> None:
    """Succeeded, failed and canceled are the ends, and there is no other."""
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED} == TERMINAL


def test_every_state_can_be_reached_and_every_live_one_can_end() -> None:
    """No state is cut off from the start, and none is a trap."""
    reached, frontier = {JobState.QUEUED}, [JobState.QUEUED]
    while frontier:
        following = TRANSITIONS[frontier.pop()] - reached
        reached |= following
        frontier += following
    assert reached == set(JobState)
    for state in set(JobState) - TERMINAL:
        assert {JobState.FAILED, JobState.CANCELED} <= TRANSITIONS[state]


@pytest.mark.parametrize("way", [[JobState.PROCESSING], [JobState.STARTING, JobState.PROCESSING]])
def test_a_job_begins_once_whichever_way(way: list[JobState]) -> None:
    """The first step's time stays, and one attempt is counted."""
    job = a_job()
    for number, state in enumerate(way):
        job = moved(job, state, at=10.0 + number, last_event=number)
    assert (job.state, job.started_at, job.attempts, job.completed_at) == (JobState.PROCESSING, 10.0, 1, None)


def test_an_attempt_that_is_retried_does_not_count() -> None:
    """But as a retry, with its reason; queued anew it has none."""
    begun = moved(a_job(), JobState.PROCESSING, at=10.0, last_event=1)
    retrying = moved(begun, JobState.RETRYING, at=11.0, last_event=2, failure=FAILURE)
    assert (retrying.attempts, retrying.retries, retrying.failure) == (0, 1, FAILURE)
    queued = moved(retrying, JobState.QUEUED, at=12.0, last_event=3)
    assert (queued.attempts, queued.retries, queued.failure) == (0, 1, None)


def test_an_ended_job_holds_no_picture_that_came_with_it() -> None:
    """Its time, its artifacts and its warnings are there instead."""
    ended = moved(a_job(), JobState.SUCCEEDED, at=20.0, last_event=4, artifacts=(ARTIFACT,), warnings=("cut",))
    assert (ended.signature, ended.pictures_asked.init_image) == (None, None)
    assert (ended.completed_at, ended.artifacts, ended.warnings) == (20.0, (ARTIFACT,), ("cut",))
