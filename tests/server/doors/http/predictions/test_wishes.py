"""Prefer and Cancel-After."""

from __future__ import annotations

import pytest

from server.doors.http.predictions.wishes import Preference, cancel_after, preference
from server.errors import Refusal


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", Preference()),
        ("wait", Preference(60, "wait=60")),
        ("wait=5", Preference(5, "wait=5")),
        ('Wait = "60"', Preference(60, "wait=60")),
        ("respond-async", Preference(0, "respond-async")),
        ("respond-async, wait=10", Preference(10, "wait=10")),
        ("wait=10;respond-async", Preference(10, "wait=10")),
        ("return=minimal, handling=strict", Preference()),
    ],
)
def test_how_the_answer_is_wanted(header: str, found: Preference) -> None:
    """As RFC 7240 writes it; what is not ours is left aside."""
    assert preference(header) == found


@pytest.mark.parametrize(
    "header", ["wait=0", "wait=61", "wait=", "wait=x", "wait=-1", "wait=99999999", "wait=1.5", "wait=٣"]
)
def test_a_wait_out_of_range_is_refused(header: str) -> None:
    """Rather than cut to what we would."""
    with pytest.raises(Refusal, match="wait=1 to wait=60") as caught:
        preference(header)
    assert caught.value.field == "Prefer"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("", None), ("5", 5), ("90s", 90), ("1m30s", 90), ("1m", 60), ("2h", 7200), ("1h30m45s", 5445), ("24h", 86_400)],
)
def test_when_it_is_to_be_canceled(header: str, seconds: float | None) -> None:
    """Hours, minutes, seconds; a number alone is seconds."""
    assert cancel_after(header) == seconds


@pytest.mark.parametrize("header", ["4", "0s", "24h1s", "-5s", "5 s", "1.5m", "s", "30s1m", "99999999h", "soon", "٥٥"])
def test_a_time_out_of_range_is_refused(header: str) -> None:
    """As is what nobody can read."""
    with pytest.raises(Refusal, match="5s to 24h") as caught:
        cancel_after(header)
    assert caught.value.field == "Cancel-After"
