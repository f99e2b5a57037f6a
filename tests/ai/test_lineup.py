"""What rows that step together gather and keep."""

from __future__ import annotations

import torch

from ai.adapters.residents import Resident, Worn
from ai.lineup import Kept, Lineup, line_up, slots_of

CPU = torch.device("cpu")
ONE = Worn(Resident("one", (3,), frozenset({"unet.a"})), 1.0)
FAINT = Worn(ONE.resident, 0.25)
WIDE = Worn(Resident("wide", (1, 4, 2), frozenset({"unet.b"})), -0.5)


def told(lineup: Lineup) -> list[tuple[int, int, list[list[int]], int]]:
    """Its bands: first, last, slots, alike."""
    return [(band.first, band.last, band.slots.tolist(), band.alike) for band in lineup.bands]


def test_rows_that_gather_equally_many_slots_are_a_band() -> None:
    """Neighbours only; those that wear nothing are in none, and a missing slot is the empty one, at no scale."""
    lineup = line_up([[WIDE], [ONE], [FAINT], [], [ONE]], CPU)
    assert told(lineup) == [(0, 1, [[1, 4, 2, 0]], 1), (1, 3, [[3], [3]], 1), (4, 5, [[3]], 1)]
    assert lineup.bands[0].scales.tolist() == [[-0.5, -0.5, -0.5, 0.0]]
    assert lineup.bands[1].scales.tolist() == [[1.0], [0.25]]
    assert [band.layers for band in lineup.bands] == [{"unet.b"}, {"unet.a"}, {"unet.a"}]


def test_rows_in_turn_that_wear_the_same() -> None:
    """As many as divide every run of them; another scale is another run."""
    assert [band.alike for band in line_up([[ONE], [ONE], [FAINT], [FAINT]], CPU).bands] == [2]
    assert [band.alike for band in line_up([[ONE]] * 6 + [[FAINT]] * 4, CPU).bands] == [2]
    assert [band.alike for band in line_up([[ONE]] * 6, CPU).bands] == [6]
    assert [band.alike for band in line_up([[ONE], [ONE], [FAINT]], CPU).bands] == [1]


def test_slots_are_counted_in_powers_of_two() -> None:
    """So that few rows find no neighbour that gathers as many."""
    assert [slots_of(row) for row in ([], [ONE], [ONE, FAINT], [WIDE], [WIDE, ONE], [WIDE, WIDE])] == [0, 1, 2, 4, 4, 8]


def test_what_is_kept_is_made_once() -> None:
    """Under its key, and of the tensor that it was made of; another tensor's is neither given nor kept in its place."""
    kept, made = Kept(), []

    def make() -> tuple[torch.Tensor, ...]:
        made.append(torch.ones(4))
        return (made[-1],)

    text, other = torch.zeros(1), torch.zeros(1)
    first = kept.once("key", make, of=text)
    assert kept.once("key", make, of=text) is first
    assert kept.once("key", make, of=other) is not first
    assert kept.once("key", make, of=text) is first
    assert kept.once("another", make) is kept.once("another", make)
    assert len(made) == 3
    assert [tensor.nbytes for tensor in kept.tensors()] == [16, 16]


def test_what_is_kept_has_a_limit() -> None:
    """What does not fit any more is made again each time."""
    kept = Kept(limit=20)
    first = kept.once("first", lambda: (torch.ones(4),))
    second = kept.once("second", lambda: (torch.ones(4),))
    assert kept.once("first", lambda: (torch.ones(4),)) is first
    assert kept.once("second", lambda: (torch.ones(4),)) is not second
    assert sum(tensor.nbytes for tensor in kept.tensors()) == 16
