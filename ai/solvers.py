"""Samplers as tables: every solver here is one row of numbers per step, the same tensor update for all.

With x the noisy latents, `out` the network's output, x0 its prediction of the clean latents and z fresh noise, each step is

    x0     = sample_to_x0 * x + output_to_x0 * out
    x_next = keep * x + x0_now * x0 + x0_before * (x0 of the step before) + noise * z

so the rows of one batch may stand at different steps, of different step counts and of different solvers. Tables are
computed in float64 on the host, from the values of a diffusers `scheduler_config.json` (ai.schedules).

x is kept variance-preserving (x = alpha x0 + sqrt(1 - alpha²) noise) whichever the solver. Euler's own x is that divided by
alpha, and its `scale_model_input` multiplies by alpha again: here the factors are in the table, and the network is given x.

Sources: DPM-Solver++ 2M is algorithm 2 of https://arxiv.org/abs/2211.01095; Karras's sigmas are equation 5 of
https://arxiv.org/abs/2206.00364, as Euler's steps are its algorithm 1 without churn; ancestral sampling is k-diffusion's;
DDIM is equation 12 of https://arxiv.org/abs/2010.02502 with eta 0; LCM is algorithm 2 of https://arxiv.org/abs/2310.04378;
timestep spacings are Table 2 of https://arxiv.org/abs/2305.08891. The reference implementations, and the oracle of the tests, are
diffusers' schedulers of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai.schedules import SOLVERS, Schedule, most_steps, read_schedule, schedules_for
from ai.types import GenerationError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]

KEPT_TABLES = 256  # per model: one for each solver, number of steps and first step in use, a few kB each
KARRAS_RHO = 7.0  # the paper's
LCM_SIGMA_DATA = 0.5  # the paper's
FEW_STEPS = 15  # below so many DPM-Solver++'s last second-order step is unstable (its paper)


class Column(IntEnum):
    """One step's numbers, as they stand in a row; the timestep is what the network is told."""

    TIMESTEP = 0
    SAMPLE_TO_X0 = 1
    OUTPUT_TO_X0 = 2
    KEEP = 3
    X0_NOW = 4
    X0_BEFORE = 5
    NOISE = 6


@dataclass(frozen=True, slots=True, eq=False)
class SolverTable:
    """All steps of one solver run: `rows` is float64 [steps, 7], columns as in `Column`.

    x starts as `init_noise_sigma` times standard normal noise; from an image, as `image_scale` times its latents and
    `noise_scale` times noise.
    """

    rows: Floats
    init_noise_sigma: float
    image_scale: float
    noise_scale: float
    num_train_timesteps: int

    @property
    def steps(self) -> int:
        """How many steps there are (with trailing spacing it may differ from those asked for, as in diffusers)."""
        return len(self.rows)

    def steps_within(self, share: float) -> int:
        """How many of its steps lie in the first `share` of the noise schedule, as diffusers' `denoising_end` counts them."""
        end = round(self.num_train_timesteps - share * self.num_train_timesteps)
        return int((self.rows[:, Column.TIMESTEP] >= end).sum())

    def continued(self, step: int, rest: SolverTable) -> SolverTable:
        """This table up to `step`, and all of the rest after it."""
        return replace(self, rows=np.concatenate([self.rows[:step], rest.rows]))

    def is_noisy(self, step: int) -> bool:
        """Whether a step needs fresh noise."""
        return bool(self.rows[step, Column.NOISE])


class SolverTables:
    """The tables of one model, by solver and number of steps."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config` is the model's scheduler configuration. Raises ModelLoadError where no solver can follow it."""
        self._schedules = schedules_for(config) or {solver: read_schedule(config, solver) for solver in SOLVERS}
        self._build = lru_cache(KEPT_TABLES)(build_table)

    def table(self, solver: str, num_inference_steps: int, start: int = 0) -> SolverTable:
        """The solver's steps from step `start` on. Raises GenerationError."""
        if solver not in self._schedules:
            raise GenerationError(f"solver: {solver!r} does not fit this model; there are {', '.join(self._schedules)}")
        return self._build(self._schedules[solver], solver, num_inference_steps, start)


def build_table(schedule: Schedule, solver: str, num_inference_steps: int, start: int = 0) -> SolverTable:
    """The table of a solver (one of SOLVERS) from step `start` on.

    Raises GenerationError for a number of steps that the schedule cannot tell apart, or a start beyond them.
    """
    most = most_steps(schedule, solver)
    if most is not None and num_inference_steps > most:
        raise GenerationError(
            f"num_inference_steps: {solver} makes at most {most} with this model, not {num_inference_steps}"
        )
    with np.errstate(all="ignore"):  # between steps that are the same, which is refused right after
        run = _RUNS[solver](schedule, num_inference_steps, start) if num_inference_steps > 0 else None
    if run is None or np.any(np.diff(run.sigmas) >= 0):
        raise GenerationError(
            f"num_inference_steps: {num_inference_steps} is not possible with {solver} on this model's "
            f"{schedule.num_train_timesteps} training steps and {schedule.timestep_spacing!r} spacing"
        )
    if not start < len(run.rows):
        raise GenerationError(f"strength: leaves none of the {len(run.rows)} steps")
    alpha = _alpha(run.sigmas[start])
    return SolverTable(
        run.rows[start:],
        run.init_noise_sigma,
        image_scale=float(alpha),
        noise_scale=float(alpha * run.sigmas[start]),
        num_train_timesteps=schedule.num_train_timesteps,
    )


class _Run(NamedTuple):
    """All steps of a solver: `rows` [steps, 7]; `sigmas` [steps] is the ratio noise : signal that each begins at."""

    rows: Floats
    sigmas: Floats
    init_noise_sigma: float = 1.0


def _dpmpp_2m(schedule: Schedule, steps: int, start: int) -> _Run:
    trailing = schedule.timestep_spacing == "trailing"
    timesteps = (_spaced(schedule, steps) if trailing else _spaced(schedule, steps + 1)[:steps]).round()
    return _dpmpp(schedule, timesteps, _sigmas(schedule, timesteps), start)


def _dpmpp_2m_karras(schedule: Schedule, steps: int, start: int) -> _Run:
    training = _training_sigmas(schedule)
    high, low = training[-1] ** (1 / KARRAS_RHO), training[0] ** (1 / KARRAS_RHO)
    sigmas = (high + np.linspace(0, 1, steps) * (low - high)) ** KARRAS_RHO
    timesteps = np.interp(np.log(sigmas), np.log(training), np.arange(len(training), dtype=np.float64)).round()
    return _dpmpp(schedule, timesteps, np.append(sigmas, _last_sigma(schedule)), start)


def _dpmpp(schedule: Schedule, timesteps: Floats, sigmas: Floats, start: int) -> _Run:
    """Midpoint form, data prediction; first order where the history or the end demands it."""
    here, after = sigmas[:-1], sigmas[1:]
    rows = _rows(schedule, timesteps, here, after, _alpha(after))
    steps = len(rows)
    few = schedule.lower_order_final and steps < FEW_STEPS
    last = steps - (schedule.euler_at_final or few or schedule.final_sigmas_type == "zero")
    second = slice(start + 1, last)
    # lambda = -log(sigma): the paper's h is a difference of two of them.
    h, h_before = np.log(here[second] / after[second]), np.log(here[start : last - 1] / here[second])
    correction = 0.5 * rows[second, Column.X0_NOW] * (h / h_before)
    rows[second, Column.X0_NOW] += correction
    rows[second, Column.X0_BEFORE] = -correction
    return _Run(rows, here)


def _euler(schedule: Schedule, steps: int, start: int) -> _Run:
    timesteps = _spaced(schedule, steps)
    sigmas = _sigmas(schedule, timesteps)
    here, after = sigmas[:-1], sigmas[1:]
    alpha_after = np.append(_alpha(after[:-1]), 1.0)  # what is decoded is Euler's own x
    return _Run(_rows(schedule, timesteps, here, after, alpha_after), here, _euler_start(schedule, here))


def _euler_a(schedule: Schedule, steps: int, start: int) -> _Run:
    timesteps = _spaced(schedule, steps)
    here = _sigmas(schedule, timesteps)[:-1]
    after = np.append(here[1:], 0.0)
    rows = _rows(schedule, timesteps, here, after**2 / here, _alpha(after))  # down to below the next sigma,
    rows[:, Column.NOISE] = after * np.sqrt(1.0 - (after / here) ** 2) * _alpha(after)  # and up again by fresh noise
    return _Run(rows, here, _euler_start(schedule, here))


def _euler_start(schedule: Schedule, here: Floats) -> float:
    return 1.0 if schedule.timestep_spacing == "leading" else float(here[0] * _alpha(here[0]))


def _ddim(schedule: Schedule, steps: int, start: int) -> _Run:
    timesteps = _spaced(schedule, steps).round()
    training = _training_sigmas(schedule)
    final = 0.0 if schedule.set_alpha_to_one else training[0]
    before = timesteps - schedule.num_train_timesteps // steps
    here = _at(training, timesteps)
    after = np.where(before < 0, final, _at(training, before))
    return _Run(_rows(schedule, timesteps, here, after, _alpha(after)), here)


def _lcm(schedule: Schedule, steps: int, start: int) -> _Run:
    original = schedule.original_inference_steps
    trained = np.arange(original, 0, -1) * (schedule.num_train_timesteps // original) - 1.0
    timesteps = trained[np.floor(np.linspace(0, original, steps, endpoint=False)).astype(int)]
    here = _at(_training_sigmas(schedule), timesteps)
    after = np.append(here[1:], 0.0)
    rows = _rows(schedule, timesteps, here, after, _alpha(after))
    scaled, data = timesteps * schedule.timestep_scaling, LCM_SIGMA_DATA
    rows[:, Column.KEEP] = _alpha(after) * data**2 / (scaled**2 + data**2)  # the consistency function's c_skip
    rows[:, Column.X0_NOW] = _alpha(after) * scaled / np.sqrt(scaled**2 + data**2)  # and c_out
    rows[:, Column.NOISE] = _alpha(after) * after
    return _Run(rows, here)


def _rows(schedule: Schedule, timesteps: Floats, here: Floats, down: Floats, alpha_after: Floats) -> Floats:
    """Rows that go from sigma `here` toward x0 to sigma `down`, in a straight line of x / alpha."""
    alpha = _alpha(here)
    to_x0 = {"epsilon": (1.0 / alpha, -here), "v_prediction": (alpha, -here * alpha)}[schedule.prediction_type]
    left = down / here
    rows = np.zeros((len(here), len(Column)))
    rows[:, Column.TIMESTEP] = timesteps
    rows[:, Column.SAMPLE_TO_X0], rows[:, Column.OUTPUT_TO_X0] = to_x0
    rows[:, Column.KEEP] = left * alpha_after / alpha
    rows[:, Column.X0_NOW] = (1.0 - left) * alpha_after
    return rows


def _alpha(sigma: Floats) -> Floats:
    return np.asarray(1.0 / np.sqrt(sigma * sigma + 1.0))


def _training_sigmas(schedule: Schedule) -> Floats:
    power = {"linear": 1.0, "scaled_linear": 2.0}[schedule.beta_schedule]
    start, end = schedule.beta_start ** (1 / power), schedule.beta_end ** (1 / power)
    # diffusers has these in float32. Its rounding is followed, since it decides which timestep some of Karras's sigmas round
    # to; what is left differs from 600 steps on.
    betas = np.linspace(start, end, schedule.num_train_timesteps).astype(np.float32) ** np.float32(power)
    signal = np.cumprod((1 - betas).astype(np.float64)).astype(np.float32)
    return np.asarray(np.sqrt((1 - signal) / signal), np.float64)


def _spaced(schedule: Schedule, steps: int) -> Floats:
    """Timesteps from high to low, not rounded where `linspace` puts them between two."""
    train = schedule.num_train_timesteps
    if schedule.timestep_spacing == "linspace":
        return np.linspace(0, train - 1, steps)[::-1]
    if schedule.timestep_spacing == "leading":
        return np.asarray(np.arange(steps)[::-1] * (train // steps) + schedule.steps_offset, np.float64)
    return np.asarray(np.arange(train, 0, -train / steps).round() - 1, np.float64)


def _sigmas(schedule: Schedule, timesteps: Floats) -> Floats:
    """Sigma at each timestep and the one that the last step ends at: float64 [steps + 1]."""
    return np.append(_at(_training_sigmas(schedule), timesteps), _last_sigma(schedule))


def _at(training: Floats, timesteps: Floats) -> Floats:
    return np.asarray(np.interp(timesteps, np.arange(len(training)), training))


def _last_sigma(schedule: Schedule) -> float:
    return 0.0 if schedule.final_sigmas_type == "zero" else float(_training_sigmas(schedule)[0])


_RUNS: Mapping[str, Callable[[Schedule, int, int], _Run]] = {
    "dpmpp_2m": _dpmpp_2m,
    "dpmpp_2m_karras": _dpmpp_2m_karras,
    "euler": _euler,
    "euler_a": _euler_a,
    "ddim": _ddim,
    "lcm": _lcm,
}


def update(
    latents: Tensor, x0_before: Tensor, output: Tensor, coefficients: Tensor, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One step of every row at once: the next latents and this step's x0, both new tensors.

    All float32. `latents`, `x0_before`, `output` and `noise` are [rows, channels, height, width]; `coefficients` is [rows, 6],
    the columns without the timestep. A row's first step ignores `x0_before` (its factor is 0), which
    must be finite all the same. Without `noise` no row may need any.
    """
    shape = (-1,) + (1,) * (latents.dim() - 1)
    columns = [column.view(shape) for column in coefficients.unbind(1)]
    sample_to_x0, output_to_x0, keep, x0_now, x0_factor, noise_factor = columns
    x0 = (latents * sample_to_x0).addcmul_(output, output_to_x0)
    following = (latents * keep).addcmul_(x0, x0_now).addcmul_(x0_before, x0_factor)
    return (following if noise is None else following.addcmul_(noise, noise_factor)), x0
