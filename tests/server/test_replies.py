"""What handlers answer with."""

from __future__ import annotations

import pytest

from server.model_records import ModelRecord, Visibility
from server.replies import FoundModel, ModelState, ModelView, Unoffered
from tests.server.fakes import CARD, TEXT_CARD


def a_record(model_type: str) -> ModelRecord:
    """A model that somebody registered, without versions."""
    return ModelRecord(
        id="1", owner="ada", name="one", description="", model_type=model_type, visibility=Visibility.PRIVATE,
        created_at=0.0, updated_at=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "paints"), [("text-to-image", True), ("image-to-image", True), ("text-generation", False)]
)
def test_what_a_model_is_asked_for_is_known_before_it_is_here(model_type: str, paints: bool) -> None:
    """By its record: between a look and a request it may have come."""
    assert FoundModel(Unoffered(a_record(model_type), ())).paints is paints


def test_what_a_model_is_asked_for_is_its_card_s_to_say() -> None:
    """Whatever its record calls it; the operator's models have none."""
    assert FoundModel(ModelView(CARD, ModelState.READY)).paints
    assert not FoundModel(ModelView(TEXT_CARD, ModelState.READY)).paints
    assert not FoundModel(ModelView(TEXT_CARD, ModelState.READY, record=a_record("text-to-image"))).paints
