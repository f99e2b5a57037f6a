"""How many jobs may be pending."""

from __future__ import annotations

import pytest

from server.errors import Code, Refusal
from server.jobs.places import Places


def test_one_owner_gets_so_many_places() -> None:
    """The next is refused with the limit and an estimate of when to try again; another owner's is not."""
    places = Places(10, 2, lambda: 7.5)
    places.take("ada")
    places.take("ada")
    with pytest.raises(Refusal) as caught:
        places.take("ada")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.limit == "2 pending jobs for one owner"
    assert caught.value.retry_after_seconds == 7.5
    places.take("bob")
    assert places.taken == 3


def test_all_owners_together_get_so_many_places() -> None:
    """Whoever comes next is refused."""
    places = Places(2, 2, lambda: 1.0)
    places.take("ada")
    places.take("bob")
    with pytest.raises(Refusal, match="2 pending jobs in all"):
        places.take("eve")
    assert places.taken == 2


def test_a_place_given_back_is_free() -> None:
    """For anybody."""
    places = Places(1, 1, lambda: 1.0)
    for owner in ("ada", "bob", "ada"):
        places.take(owner)
        places.release(owner)
    assert places.taken == 0
