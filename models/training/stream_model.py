"""Trains the embedded stream model: `python -m models.training.stream_model`; 15 seconds on one CPU thread.

A recurrent network of a few thousand weights that reads a face's parameters, frame by frame as a tracker sends them (noisy, at
uneven times, with outliers), and says how strong each of six expressions will be 50 ms later: what a character on a screen shows
by then. It learns on faces that are made up here: expressions come and go, each moves the parameters that it moves in people
(after Ekman and Friesen's Facial Action Coding System, by hand), and speech, blinks and a turning head are in the way.

What comes out is a folder as `ai.live.manifests` wants it: model.pt2, by torch.export, and manifest.toml.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from models.training.runs import learning_rate

PARAMETERS = (
    "brow_inner_up", "brow_down", "brow_outer_up", "eye_wide", "eye_squint", "eye_blink", "cheek_squint", "nose_sneer",
    "mouth_smile", "mouth_frown", "mouth_press", "mouth_stretch", "mouth_roll", "mouth_upper_up", "mouth_lower_down",
    "mouth_pucker", "jaw_open", "jaw_forward", "head_pitch", "head_roll",
)  # fmt: skip
EXPRESSIONS = ("joy", "sadness", "anger", "surprise", "fear", "disgust")
MOVES: dict[str, dict[str, float]] = {
    "joy": {"mouth_smile": 1.0, "cheek_squint": 0.8, "eye_squint": 0.4},
    "sadness": {"brow_inner_up": 0.8, "mouth_frown": 1.0, "mouth_roll": 0.3, "head_pitch": -0.3},
    "anger": {"brow_down": 1.0, "mouth_press": 0.8, "jaw_forward": 0.4, "eye_squint": 0.3, "nose_sneer": 0.3},
    "surprise": {"brow_outer_up": 0.9, "brow_inner_up": 0.7, "eye_wide": 0.9, "jaw_open": 0.8},
    "fear": {"brow_inner_up": 0.8, "eye_wide": 0.8, "mouth_stretch": 0.9, "brow_down": 0.3, "mouth_lower_down": 0.4},
    "disgust": {"nose_sneer": 1.0, "mouth_upper_up": 0.8, "mouth_frown": 0.3, "eye_squint": 0.2},
}
AHEAD = 0.05  # seconds: a tick of 30 Hz, its way to the screen and half a frame there
STATE = 32
FRAMES, BATCH, STEPS, PEAK = 48, 64, 600, 1e-2
SILENT = 8  # frames at a sequence's beginning that are not judged: nobody can know yet

MANIFEST = """\
name = "stream-demo"
description = "A face's parameters, as a tracker sends them, to the strength of six expressions 50 ms later, smoothed"
inputs = [{inputs}]
outputs = [{outputs}]
state = {state}
tick_hz = 30
"""


class Expressions(nn.Module):
    """A linear guess from the frame alone, and what a gated recurrent unit adds to it, which is told how much time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = nn.Linear(len(PARAMETERS) + 1, 3 * STATE)
        self.carries = nn.Linear(STATE, 3 * STATE)
        self.guesses = nn.Linear(len(PARAMETERS), len(EXPRESSIONS))
        self.adds = nn.Linear(STATE, len(EXPRESSIONS))

    def forward(self, inputs: Tensor, state: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [B, 20], state [B, 32], dt [B] seconds → values [B, 6] of 0 to 1, state [B, 32]."""
        values, after = self.unbounded(inputs, state, dt)
        return values.clamp(0.0, 1.0), after

    def unbounded(self, inputs: Tensor, state: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        """The same for training, which learns nothing beyond a bound."""
        inputs = inputs.clamp(-2.0, 2.0)  # a tracker that is lost says anything
        seen = self.reads(torch.cat([inputs, 10.0 * dt.clamp(0.0, 0.5)[:, None]], dim=1))
        kept = self.carries(state)
        reset = torch.sigmoid(seen[:, :STATE] + kept[:, :STATE])
        update = torch.sigmoid(seen[:, STATE : 2 * STATE] + kept[:, STATE : 2 * STATE])
        new = torch.tanh(seen[:, 2 * STATE :] + reset * kept[:, 2 * STATE :])
        after = update * state + (1.0 - update) * new
        return self.guesses(inputs) + self.adds(after), after


def moves() -> Tensor:
    """How each expression moves each parameter, [expressions, parameters]."""
    return torch.tensor([[MOVES[name].get(one, 0.0) for one in PARAMETERS] for name in EXPRESSIONS])


def faces(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Made-up sequences: parameters [B, T, 20], seconds since the frame before [B, T], expressions `AHEAD` later [B, T, 6]."""

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    dt = uniform(count, FRAMES, low=0.7, high=1.3) / 30
    dt = torch.where(uniform(count, FRAMES) < 0.1, 2 * dt, dt)  # a frame was lost before it
    dt[:, 0] = 0.0
    times = dt.cumsum(1)
    last = times[:, -1:, None]
    peaks = uniform(count, 1, 2 * len(EXPRESSIONS), low=-0.3, high=1.3) * last
    widths = uniform(count, 1, 2 * len(EXPRESSIONS), low=0.08, high=0.5)
    heights = uniform(count, 1, 2 * len(EXPRESSIONS)) * (uniform(count, 1, 2 * len(EXPRESSIONS)) < 0.4)

    def shown(at: Tensor) -> Tensor:
        pulses = heights * torch.exp(-(((at[..., None] - peaks) / widths) ** 2))
        return pulses.view(count, FRAMES, 2, len(EXPRESSIONS)).amax(2)

    seen = shown(times) @ moves() * uniform(count, 1, 1, low=0.8, high=1.1)
    place = PARAMETERS.index
    talk = (uniform(count, 1) < 0.5) * torch.sin(times * uniform(count, 1, low=12, high=28)).clamp(min=0) * 0.4
    seen[..., place("jaw_open")] += talk
    seen[..., place("mouth_lower_down")] += 0.5 * talk
    blink = torch.exp(-(((times - uniform(count, 1) * last[..., 0]) / 0.06) ** 2))
    seen[..., place("eye_blink")] += blink
    seen[..., place("eye_squint")] += 0.3 * blink
    for turn in ("head_pitch", "head_roll"):
        seen[..., place(turn)] += 0.4 * torch.sin(times * uniform(count, 1, high=4.0) + uniform(count, 1, high=6.3))
    seen += 0.1 * torch.randn(seen.shape, generator=generator)
    wrong = uniform(*seen.shape) < 0.01  # what a tracker gives when a hand is in the way
    return torch.where(wrong, uniform(*seen.shape), seen), dt, shown(times + AHEAD)


def run_all(network: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]], inputs: Tensor, dt: Tensor) -> Tensor:
    """What it says at each frame of whole sequences, [B, T, 6]."""
    state = torch.zeros(len(inputs), STATE)
    said = []
    for frame in range(inputs.shape[1]):
        values, state = network(inputs[:, frame], state, dt[:, frame])
        said.append(values)
    return torch.stack(said, 1)


def error(said: Tensor, truth: Tensor) -> float:
    """The root of the mean square, over what is judged."""
    return float((said - truth)[:, SILENT:].square().mean().sqrt())


def least_squares(generator: torch.Generator) -> Tensor:
    """The best linear guess from each frame alone, [21, 6], the last row for itself: what there is without a memory."""
    inputs, _, truth = faces(1024, generator)
    seen = torch.cat([inputs.flatten(0, 1), torch.ones(inputs.shape[0] * FRAMES, 1)], 1)
    solution: Tensor = torch.linalg.lstsq(seen, truth.flatten(0, 1)).solution
    return solution


def guessed(weights: Tensor, inputs: Tensor) -> Tensor:
    """That guess, of 0 to 1, [B, T, 6]."""
    return (inputs @ weights[:-1] + weights[-1]).clamp(0.0, 1.0)


@torch.inference_mode(mode=False)
@torch.enable_grad()
def train(steps: int = STEPS, seed: int = 1) -> Expressions:
    """From nothing; the same each time."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Expressions()
    weights = least_squares(generator)
    with torch.no_grad():
        network.guesses.weight.copy_(weights[:-1].T)
        network.guesses.bias.copy_(weights[-1])
        network.adds.weight.zero_()
        network.adds.bias.zero_()
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, step / steps, PEAK)
        inputs, dt, truth = faces(BATCH, generator)
        loss = (run_all(network.unbounded, inputs, dt) - truth)[:, SILENT:].square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            sys.stderr.write(f"step {step}: {loss.item() ** 0.5:.4f}\n")
    return network.eval()


def held_out() -> tuple[Tensor, Tensor, Tensor]:
    """Faces that no training sees."""
    return faces(256, torch.Generator().manual_seed(1_000_003))


def export(network: nn.Module, folder: Path) -> None:
    """Write the program and its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = {"inputs": {0: batch}, "state": {0: batch}, "dt": {0: batch}}
    example = (torch.zeros(2, len(PARAMETERS)), torch.zeros(2, STATE), torch.zeros(2))
    program = torch.export.export(network, example, dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")
    quoted = [", ".join(f'"{name}"' for name in names) for names in (PARAMETERS, EXPRESSIONS)]
    text = MANIFEST.format(inputs=quoted[0], outputs=quoted[1], state=STATE)
    (folder / "manifest.toml").write_text(text, encoding="utf-8")


def main() -> None:
    """Train, judge and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("models/stream-demo"))
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    torch.set_num_threads(1)  # its products are small: more threads wait for one another
    network = train(given.steps)
    with torch.no_grad():
        inputs, dt, truth = held_out()
        alone = guessed(least_squares(torch.Generator().manual_seed(2)), inputs)
        sys.stderr.write(f"held out: {error(run_all(network, inputs, dt), truth):.4f}, ")
        sys.stderr.write(f"frame by frame: {error(alone, truth):.4f}\n")
    export(network, given.folder)


if __name__ == "__main__":
    main()
