"""The books of live sessions: gaps, losses, what was dropped and what was missed."""

from __future__ import annotations

import pytest

from bot.live.books import LiveBooks, SessionBooks, SessionCounter


def _counter() -> SessionCounter:
    return SessionCounter(SessionBooks(7))


def test_gaps_count_from_when_frames_are_sent() -> None:
    """Not from the opening, when nobody sent any; between results; and from the last to the end."""
    counter = _counter()
    counter.opened(0.0)
    counter.begin(5.0)
    counter.heard(5.1, 1, 0)
    counter.heard(5.4, 2, 0)
    assert counter.books.longest_gap == pytest.approx(0.3)
    counter.end(6.0)
    assert counter.books.longest_gap == pytest.approx(0.6)


def test_a_lost_connection_is_an_outage_and_no_gap() -> None:
    """From the last result before it to the first after it; the new session counts from one again."""
    counter = _counter()
    counter.opened(0.0)
    counter.heard(0.1, 1, 0)
    counter.heard(0.2, 2, 5)
    counter.opened(0.7)
    counter.heard(0.9, 1, 0)
    counter.heard(1.0, 2, 1)
    counter.end(1.0)
    books = counter.books
    assert books.outages == [pytest.approx(0.7)]
    assert books.longest_gap == pytest.approx(0.1)
    assert (books.openings, books.results, books.dropped, books.missed) == (2, 4, 6, 0)


def test_an_outage_that_does_not_end_counts() -> None:
    """Up to the end of the run."""
    counter = _counter()
    counter.opened(0.0)
    counter.heard(0.1, 1, 0)
    counter.opened(0.5)
    counter.end(3.0)
    assert counter.books.outages == [pytest.approx(2.9)]


def test_results_that_were_missed_are_counted() -> None:
    """By the gaps of their sequence."""
    counter = _counter()
    counter.opened(0.0)
    counter.heard(0.1, 3, 0)
    counter.heard(0.2, 4, 0)
    counter.heard(0.3, 9, 0)
    assert counter.books.missed == 6


def test_books_of_processes_add_up() -> None:
    """Sessions in their order, refusals by why."""
    parts = [
        LiveBooks([SessionBooks(2, sent=5, results=4, outages=[0.5])], {"LIVE_NOT_FOUND": 1}).as_json(),
        LiveBooks([SessionBooks(1, sent=3, results=3, longest_gap=2.0)], {"LIVE_NOT_FOUND": 2}).as_json(),
        LiveBooks([SessionBooks(3)], {}).as_json(),
    ]
    whole = LiveBooks.merged(parts)
    assert [books.number for books in whole.sessions] == [1, 2, 3]
    assert (whole.total("sent"), whole.refused, whole.outages) == (8, {"LIVE_NOT_FOUND": 3}, [0.5])
    assert [books.number for books in whole.starved(1.0)] == [1, 3]


def test_who_was_never_opened_says_so() -> None:
    """At the end."""
    counter = _counter()
    counter.end(3.0)
    assert counter.books.problem == "it was never opened"
