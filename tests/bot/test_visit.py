"""A visit judges what it hears: what is out of order, doubled, or not what was asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bot.visit import End, Visit
from tests.bot.visits import Watch, visit


def _well(one: Visit) -> Visit:
    one.on_sent()
    one.on_accepted("j", 7)
    one.on_event("progress", 1)
    one.on_event("preview", 2)
    one.on_event("progress", 9)
    one.on_terminal(End.SUCCEEDED)
    one.on_success((), ())
    return one


def _begun(one: Visit) -> Visit:
    one.on_accepted("j", 7)
    one.on_event("preview", 5)
    return one


async def test_a_good_visit_has_no_complaint_and_all_its_times() -> None:
    """Each first time is kept."""
    watch = Watch()
    one, wrongs = visit(watch)
    one.on_sent()
    watch.at = 1.0
    one.on_accepted("j", 7)
    watch.at = 2.0
    one.on_event("progress", 3)
    watch.at = 3.0
    one.finish(End.SUCCEEDED)
    watch.at = 9.0
    one.on_sent()
    one.on_event("progress", 4)
    assert (one.sent, one.accepted, one.first_progress, one.ended) == (0.0, 1.0, 2.0, 3.0)
    assert wrongs == []
    assert one.over.is_set()


@pytest.mark.parametrize(
    ("badly", "said"),
    [
        (lambda one: one.on_event("progress", 1), "progress 1 came before Accepted"),
        (lambda one: one.on_terminal(End.FAILED), "it failed before it was accepted"),
        (lambda one: _well(one).on_terminal(End.FAILED), "a second end: failed after succeeded"),
        (lambda one: _well(one).on_event("progress", 10), "progress 10 came after the end"),
        (lambda one: _begun(one).on_event("progress", 5), "event 5 came after event 5"),
        (lambda one: _begun(one).on_event("progress", 4), "event 4 came after event 5"),
        (lambda one: one.on_accepted("j", 8), "seed 7 was asked for, 8 was accepted"),
        (lambda one: (one.on_accepted("j", 7), one.on_accepted("k", 7)), "the same key gave job j and then k"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said(badly: Callable[[Visit], object], said: str) -> None:
    """In words for a report."""
    one, wrongs = visit(Watch())
    badly(one)
    assert wrongs == [said]
