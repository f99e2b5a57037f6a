"""What every training run shares: where it keeps its state, how it resumes, its learning rate and its average weights."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def device_at_hand() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 autocast: 1.5 times as fast on the CPUs it was tried on, more on a GPU."""
    return torch.autocast(device.type, torch.bfloat16)


def learning_rate(step: int, done: float, peak: float, warm_up: int = 60) -> float:
    """A linear rise, then half a cosine down to a fiftieth of the peak; `done` is the share of the run behind us."""
    return peak * min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * 0.5 * (1 + cos(pi * min(1.0, done))))


class Average:
    """An exponential moving average of a network's weights, which forgets faster while it is young."""

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights as they are after `step`."""
        decay = min(self._decay, (step + 1) / (step + 10))
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            mine.lerp_(theirs.detach(), 1 - decay)


class Run:
    """One training run of `steps` steps, its state in `folder`/state.pt every few minutes; started again, it goes on.

    `state` holds whatever has a state_dict. The clock may end it early, the learning rate falling in time for that:
    `minutes` counts this process's time only.
    """

    def __init__(self, folder: Path, steps: int, peak: float, state: dict[str, Any], minutes: float = 1e9) -> None:
        self._path, self._state, self._steps, self._peak = folder / "state.pt", state, steps, peak
        self._seconds = 60 * minutes
        self._first = 0
        self.done = 0.0  # share of the run behind us
        folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            saved = torch.load(self._path, map_location=device_at_hand(), weights_only=True)
            self._first = saved.pop("step")
            for name, value in saved.items():
                state[name].load_state_dict(value)

    def __iter__(self) -> Iterator[int]:
        started = saved = now = time.monotonic()
        for step in range(self._first, self._steps):
            self.done = max(step / self._steps, (now - started) / self._seconds)
            for group in self._state["optimizer"].param_groups:
                group["lr"] = learning_rate(step, self.done, self._peak)
            torch.manual_seed(step)  # a resumed run draws what the whole one would have drawn
            yield step
            now = time.monotonic()
            over = now - started > self._seconds or step + 1 == self._steps
            if now - saved > 120 or over:
                self._save(step + 1)
                saved = now
            if step % 50 == 49:
                print(
                    f"step {step + 1}/{self._steps}, {(now - started) / (step + 1 - self._first):.3f} s each",
                    flush=True,
                )
            if over:
                return

    def _save(self, step: int) -> None:
        partial = self._path.with_suffix(".new")
        torch.save({"step": step} | {name: value.state_dict() for name, value in self._state.items()}, partial)
        partial.replace(self._path)


def kept(path: Path, device: torch.device, make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives, kept in a file between runs."""
    if path.exists():
        found: Tensor = torch.load(path, map_location=device, weights_only=True)
        return found
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(made, path)
    return made


class Meter:
    """Running means of named losses."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def add(self, **losses: Tensor) -> None:
        """Take in one step's."""
        for name, loss in losses.items():
            value = float(loss.detach())
            self._values[name] = value if name not in self._values else 0.98 * self._values[name] + 0.02 * value

    def __str__(self) -> str:
        return " ".join(f"{name} {value:.4f}" for name, value in self._values.items())
