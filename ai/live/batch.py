"""One tick of one stream model: the rows of all sessions in one forward pass, each with the state that it left last time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ai.live.packing import FIT, UNFIT, Tick
from ai.live.program import Program

_FIRST_ROWS = 64  # of the table of states; it doubles when it is full


class Batch:
    """A program and its sessions' states. `failed` is what the program raised last, for the log."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._manifest = program.manifest
        self._states = torch.zeros(_FIRST_ROWS, program.manifest.state)
        self._places: dict[int, int] = {}  # a session's row in the table
        self._free: list[int] = list(range(_FIRST_ROWS))
        self.failed = ""

    @property
    def sessions(self) -> int:
        """How many have a state."""
        return len(self._places)

    def run(self, tick: Tick) -> tuple[bytes, bytes]:
        """The rows' outcomes, a byte each, and their values as float32, zeros where UNFIT.

        A row that gives what is no finite number, or makes the program raise, is UNFIT and begins anew; no other row knows.
        """
        places = torch.tensor([self._place(session) for session in tick.sessions])
        dt = torch.tensor(tick.dt, dtype=torch.float32)
        values, after = self._forward(self._inputs(tick), self._states[places], dt)
        fit = torch.isfinite(values).all(1) & torch.isfinite(after).all(1)
        self._states[places] = torch.where(fit[:, None], after, 0.0)
        outcomes = bytes(FIT if one else UNFIT for one in fit.tolist())
        return outcomes, torch.where(fit[:, None], values, 0.0).numpy().tobytes()

    def forget(self, sessions: Sequence[int]) -> None:
        """They have ended."""
        for session in sessions:
            if (place := self._places.pop(session, None)) is not None:
                self._free.append(place)

    def _inputs(self, tick: Tick) -> Tensor:
        rows, manifest = len(tick.sessions), self._manifest
        if manifest.inputs:
            return torch.frombuffer(bytearray(tick.inputs), dtype=torch.float32).view(rows, len(manifest.inputs))
        pixels = torch.frombuffer(bytearray(tick.inputs), dtype=torch.uint8)
        return pixels.view(rows, manifest.height, manifest.width, 3).permute(0, 3, 1, 2).float().div_(255.0)

    def _place(self, session: int) -> int:
        place = self._places.get(session)
        if place is None:
            if not self._free:
                self._free.extend(range(len(self._states), 2 * len(self._states)))
                self._states = torch.cat([self._states, torch.zeros_like(self._states)])
            place = self._places[session] = self._free.pop()
            self._states[place] = 0.0
        return place

    def _forward(self, inputs: Tensor, state: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        """All rows at once; where that raises, each half for itself, down to the row that it is."""
        rows = len(inputs)
        try:
            values, after = self._program(inputs, state, dt)
        except Exception as error:
            self.failed = f"{type(error).__name__}: {error}"
            if rows == 1:
                return torch.full((1, len(self._manifest.outputs)), torch.nan), torch.zeros_like(state)
            half = rows // 2
            first = self._forward(inputs[:half], state[:half], dt[:half])
            second = self._forward(inputs[half:], state[half:], dt[half:])
            return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])
        return values, after
