"""A tick's rows: each with its own state, together in one pass, and none the worse for another."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ai.live.batch import Batch
from ai.live.packing import FIT, UNFIT, Tick
from ai.live.program import Program, load_program
from tests.ai.live.programs import EYE, Colours, face


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Of the sums."""
    return Batch(load_program(face(tmp_path / "face"))[0])


def run(batch: Batch, sessions: Sequence[int], *rows: Sequence[float], dt: float = 0.5) -> list[list[float]]:
    """The values of each row, none for one that is unfit."""
    inputs = b"".join(array("f", row).tobytes() for row in rows)
    outcomes, values = batch.run(Tick(1, sessions, [dt] * len(rows), inputs))
    found = list(struct.iter_unpack("=3f", values))
    return [list(row) if fit == FIT else [] for row, fit in zip(found, outcomes, strict=True)]


def test_each_session_has_its_own_state(batch: Batch) -> None:
    """Whatever rows it stands between; one that is forgotten begins anew."""
    assert run(batch, [7], [1, 2]) == [[3.0, 1.0, 0.5]]
    assert run(batch, [9, 7], [1, 1], [2, 2], dt=0.25) == [[2.0, 1.0, 0.25], [4.0, 2.0, 0.25]]
    batch.forget([7, 8])
    assert [row[1] for row in run(batch, [7, 9], [0, 0], [0, 0])] == [1.0, 2.0]
    assert batch.sessions == 2


def test_the_table_of_states_grows(batch: Batch) -> None:
    """And keeps what it held; places of those that are gone are used again, and are clean."""
    sessions = list(range(200))
    for frames in (1.0, 2.0):
        assert {row[1] for row in run(batch, sessions, *[[0, 0]] * 200)} == {frames}
    batch.forget(range(100))
    assert {row[1] for row in run(batch, range(1000, 1100), *[[0, 0]] * 100)} == {1.0}
    assert {row[1] for row in run(batch, range(100, 200), *[[0, 0]] * 100)} == {3.0}


def test_a_row_without_numbers_is_unfit_and_begins_anew(batch: Batch) -> None:
    """Its neighbours are as they would have been."""
    assert run(batch, [1, 2, 3], [1, 0], [99, 99], [3, 0]) == [[1.0, 1.0, 0.5], [], [3.0, 1.0, 0.5]]
    assert [row[1] for row in run(batch, [1, 2, 3], [1, 0], [1, 0], [3, 0])] == [2.0, 1.0, 2.0]


def test_a_row_that_makes_the_program_raise_is_alone_with_it(batch: Batch) -> None:
    """The others run in halves; what was raised is kept for the log."""
    program: Any = batch._program

    def picky(inputs: torch.Tensor, state: torch.Tensor, dt: torch.Tensor) -> Any:
        if bool((inputs < 0).any()):
            raise ValueError("below zero")
        return program(inputs, state, dt)

    batch._program = Program(program.manifest, picky)
    sessions = list(range(7))
    rows = [[1.0, float(at)] for at in sessions]
    rows[4] = [-1.0, 0.0]
    found = run(batch, sessions, *rows)
    assert [row[:2] for row in found] == [[1.0 + at, 1.0] if at != 4 else [] for at in sessions]
    assert batch.failed == "ValueError: below zero"


def test_an_image_s_bytes_are_red_green_and_blue(tmp_path: Path) -> None:
    """Of each pixel, from 0 to 1, rows from the top."""
    batch = Batch(load_program(face(tmp_path / "eye", Colours(), EYE))[0])
    red, half_blue = bytes([255, 0, 0]) * 6, bytes([0, 0, 255]) * 3 + bytes(9)
    outcomes, values = batch.run(Tick(1, [1, 2], [0.0, 0.0], red + half_blue))
    assert (outcomes, list(struct.iter_unpack("=2f", values))) == (bytes([FIT, FIT]), [(1.0, 0.0), (0.0, 0.5)])


def test_alone_and_in_a_batch_are_the_same(batch: Batch) -> None:
    """Bit for bit here; UNFIT is told by its own number."""
    together = run(batch, [1, 2, 3], [0.1, 0.2], [0.3, 0.4], [0.5, 0.6])
    alone = [run(batch, [number], row)[0] for number, row in ((11, [0.1, 0.2]), (12, [0.3, 0.4]), (13, [0.5, 0.6]))]
    assert together == alone
    assert UNFIT != FIT
