"""The table of what may become of a job."""

from __future__ import annotations

import itertools

import pytest

from server.job import TERMINAL, TRANSITIONS, IllegalTransition, JobState, check_transition

LEGAL = {
    ("queued", "starting"), ("queued", "retrying"), ("queued", "failed"), ("queued", "canceled"),
    ("starting", "processing"), ("starting", "retrying"), ("starting", "failed"), ("starting", "canceled"),
    ("processing", "succeeded"), ("processing", "retrying"), ("processing", "failed"), ("processing", "canceled"),
    ("retrying", "queued"), ("retrying", "failed"), ("retrying", "canceled"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), list(itertools.product(JobState, JobState)))
def test_every_pair_is_legal_or_raises(old: JobState, new: JobState) -> None:
    """Of the 49 pairs of states, the 15 of the design pass and every other raises, naming job and states."""
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
