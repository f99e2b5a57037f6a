"""A stream model's program: a torch.export file, loaded and held against its manifest by running it.

A .pt2 file is code: whoever writes one into the operator's folder runs what they like in the stream process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ai.live.manifests import Manifest

_ROWS = (1, 2, 5)  # batches that a new program is tried with: alone, the least that is a batch, and one more
_TOLERANCE = 1e-3  # between a row alone and in a batch: other kernels add in another order


class ProgramError(Exception):
    """A file that is no program, or not the one that its manifest tells of."""


class Program:
    """Runs batches. `call` takes (inputs, state, dt) and gives (values, state)."""

    def __init__(self, manifest: Manifest, call: Callable[..., Any]) -> None:
        self.manifest = manifest
        self._call = call

    def __call__(self, inputs: Tensor, state: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        """Values [B, outputs] and state [B, state], whatever they hold. Raises what the program does."""
        values, after = self._call(inputs, state, dt)
        return values, after


def load_program(manifest: Manifest) -> tuple[Program, float]:
    """The program, checked, and the seconds that it took. Raises ProgramError."""
    began = time.perf_counter()
    try:
        call = torch.export.load(manifest.program).module()
    except Exception as error:  # a zip that is none, a schema of another version, an operator that is not here
        raise ProgramError(f"{manifest.program} cannot be loaded as a torch.export program: {_line(error)}") from error
    program = Program(manifest, call)
    with torch.inference_mode():
        check(program)
    return program, time.perf_counter() - began


def check(program: Program) -> None:
    """Run it on batches of several sizes. Raises ProgramError with what the manifest says and what was found."""
    generator = torch.Generator().manual_seed(1)
    inputs, state, dt = _tried(program.manifest, max(_ROWS), generator)
    together = _run(program, inputs, state, dt)
    for rows in _ROWS:
        alone = _run(program, inputs[:rows], state[:rows], dt[:rows])
        for name, one, all_of_them in zip(("values", "state"), alone, together, strict=True):
            if not torch.allclose(one, all_of_them[:rows], rtol=_TOLERANCE, atol=_TOLERANCE):
                raise ProgramError(
                    f"{program.manifest.program}: its {name} of a row are others in a batch of {rows} than of {max(_ROWS)}: "
                    "the rows are sessions of different people, and must not know of each other"
                )


def _tried(manifest: Manifest, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    shape = (rows, len(manifest.inputs)) if manifest.inputs else (rows, 3, manifest.height, manifest.width)
    return torch.rand(shape, generator=generator), torch.zeros(rows, manifest.state), torch.full((rows,), 1 / 30)


def _run(program: Program, inputs: Tensor, state: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    manifest, rows = program.manifest, len(inputs)
    told = f"{manifest.program} does not do what {manifest.folder.name}/manifest.toml says"
    try:
        found = program(inputs, state, dt)
    except Exception as error:
        shapes = ", ".join(str(list(one.shape)) for one in (inputs, state, dt))
        raise ProgramError(f"{told}: it does not run on {shapes} (inputs, state, dt): {_line(error)}") from error
    wanted = {"values": (rows, len(manifest.outputs)), "state": (rows, manifest.state)}
    for (name, shape), given in zip(wanted.items(), found, strict=True):
        if not isinstance(given, Tensor) or given.dtype != torch.float32:
            kind = str(given.dtype) if isinstance(given, Tensor) else type(given).__name__
            raise ProgramError(f"{told}: its {name} are {kind}, and must be a tensor of float32")
        if tuple(given.shape) != shape:
            raise ProgramError(f"{told}: it gives {name} of {list(given.shape)}, and must give {list(shape)}")
        if not bool(torch.isfinite(given).all()):
            raise ProgramError(f"{told}: its {name} are no finite numbers for inputs of 0 to 1")
    return found


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
