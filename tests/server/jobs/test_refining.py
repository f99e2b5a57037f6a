"""Whether a job has its model's refiner, and for how much of it: by the request, else the server's settings, else the card."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ai.cards import ModelCard
from server.commands import Submit
from server.errors import Refusal
from server.jobs.admission import Limits, hash_of
from tests.server.fakes import CARD, OTHER_CARD
from tests.server.house import ADA, LIMITS, House

REFINED = replace(CARD, refiner=ModelCard(name="demo:refiner", source="models/refiner"), refiner_switch=0.8)


def share(limits: Limits = LIMITS, card: ModelCard = REFINED, **wishes: Any) -> float | None:
    """What is handed to the engine."""
    house = House(limits=limits, cards=(card, OTHER_CARD))
    return house.admission.complete(Submit(owner=ADA, prompt="a star", **wishes)).refiner_strength


def test_what_a_request_says_counts_most() -> None:
    """Off is off, whatever the share; a share alone means on; on without a share is the card's."""
    assert share() == share(use_refiner=True) == 0.2
    assert share(use_refiner=False) == share(use_refiner=False, refiner_strength=0.5) == 0.0
    assert share(refiner_strength=0.35) == share(use_refiner=True, refiner_strength=0.35) == 0.35
    assert share(refiner_strength=0.0) == 0.0


def test_the_settings_are_for_requests_that_do_not_say() -> None:
    """USE_REFINER=false and DEFAULT_REFINER_STRENGTH."""
    off = replace(LIMITS, use_refiner=False)
    assert share(off) == 0.0
    assert share(off, use_refiner=True) == 0.2
    assert share(off, refiner_strength=0.4) == 0.4
    assert share(replace(LIMITS, default_refiner_strength=0.3)) == 0.3
    assert share(replace(LIMITS, default_refiner_strength=0.3), refiner_strength=0.1) == 0.1


@pytest.mark.parametrize(
    ("wishes", "field"),
    [({"use_refiner": True}, "use_refiner"), ({"refiner_strength": 0.3}, "refiner_strength")],
)
def test_a_model_without_a_refiner_cannot_be_refined(wishes: dict[str, Any], field: str) -> None:
    """A wish for one is refused by name; the settings do nothing to such a model, and asking for none is granted."""
    with pytest.raises(Refusal, match="demo has no refiner") as caught:
        share(card=CARD, **wishes)
    assert caught.value.field == field
    assert share(replace(LIMITS, default_refiner_strength=0.3), CARD) == 0.0
    assert share(card=CARD, use_refiner=False, refiner_strength=0.3) == share(card=CARD, refiner_strength=0.0) == 0.0


def test_what_was_never_said_leaves_the_body_s_hash_as_it_was() -> None:
    """A key that was used before there were refiners in requests is the same job's; said, it counts."""
    plain = Submit(owner=ADA, prompt="a star")
    assert hash_of(plain) == "e503fd05313e9d7adc45a67b325f5607b5f2871b3412264f90be3246e5038f95"
    assert hash_of(replace(plain, use_refiner=False)) != hash_of(plain)
    assert hash_of(replace(plain, refiner_strength=0.3)) != hash_of(replace(plain, refiner_strength=0.4))
