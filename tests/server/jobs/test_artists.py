"""Whose signature a picture gets."""

from __future__ import annotations

from typing import Any

import pytest

from server.commands import AdapterUse
from server.errors import Code, Refusal
from server.jobs.artists import Artists
from tests.server.house import House
from watermark import Signature, TextMark

MINA, KALLE, OWN = (Signature(TextMark(name), artist=name) for name in ("Mina", "Kalle", "Own"))
ARTISTS = Artists(
    {("other", "ink"): MINA, ("other", "chalk"): KALLE, ("other", "style-1"): "style-1.artist.toml: name: missing"}
)
SIZE: dict[str, Any] = {"width": 128, "height": 128, "model": "other"}


@pytest.mark.parametrize(
    ("uses", "signature"),
    [
        ([], None),
        ([("ink", 1.0)], MINA),
        ([("ink", 0.0)], None),
        ([("style-0", 2.0)], None),
        ([("ink", 0.5), ("chalk", 0.7)], KALLE),
        ([("ink", 0.7), ("chalk", -0.9)], KALLE),
        ([("ink", 0.5), ("chalk", 0.5)], MINA),
        ([("ink", 0.5), ("chalk", 0.7), ("ink", 0.5)], MINA),
        ([("ink", 1.0), ("ink", -1.0), ("chalk", 0.1)], KALLE),
        ([("style-0", 9.0), ("chalk", 0.1)], KALLE),
        ([("style-1", 0.1), ("chalk", 0.2)], KALLE),
    ],
)
async def test_the_strongest_artist_signs(uses: list[tuple[str, float]], signature: Signature | None) -> None:
    """Of the adapters that act and have an artist the strongest, the first of equals; nobody where there is none."""
    house = House(artists=ARTISTS)
    job = await house.job(adapters=tuple(AdapterUse(*use) for use in uses), **SIZE)
    assert job.signature == signature


async def test_a_signature_of_ones_own_goes_first() -> None:
    """Who sends a signature gets that one, also where the artist's cannot be used."""
    house = House(artists=ARTISTS)
    for name in ("ink", "style-1"):
        assert (await house.job(adapters=(AdapterUse(name),), signature=OWN, **SIZE)).signature == OWN


async def test_no_picture_rather_than_an_unsigned_one() -> None:
    """Where the artist's signature cannot be used the request is refused, with the file and what is wrong; no place is held."""
    house = House(artists=ARTISTS)
    with pytest.raises(Refusal) as caught:
        await house.job(adapters=(AdapterUse("style-0"), AdapterUse("style-1")), **SIZE)
    assert (caught.value.code, caught.value.field) == (Code.ADAPTER_INVALID, "adapters[1].name")
    assert "style-1.artist.toml: name: missing" in str(caught.value)
    assert house.places.taken == 0


async def test_artists_belong_to_a_model() -> None:
    """An adapter of the same name on another model has an artist of its own, or none."""
    assert Artists({("demo", "ink"): MINA}).signature("other", [AdapterUse("ink")]) is None
