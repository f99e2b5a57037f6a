"""Samplers as tables: every solver here is one row of numbers per step, the same tensor update for all.

With x the noisy latents, `out` the network's output and x0 its prediction of the clean latents, each step is

    x0     = sample_to_x0 * x + output_to_x0 * out
    x_next = keep * x + x0_now * x0 + x0_before * (x0 of the step before)

so the rows of one batch may stand at different steps, of different step counts and of different solvers. Tables are
computed in float64 on the host, from the values of a diffusers `scheduler_config.json`. A further deterministic solver
is another builder in `SOLVERS`; one that adds noise needs one more column and the generator's state in the row.

Sources: DPM-Solver++ 2M is algorithm 2 of https://arxiv.org/abs/2211.01095; timestep spacings are Table 2 of
https://arxiv.org/abs/2305.08891. The reference implementation, and the oracle of the tests, is
diffusers.DPMSolverMultistepScheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ai.types import GenerationError, ModelLoadError

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What a model's scheduler configuration says of its noise, as far as it is implemented.

    The defaults are those of diffusers.DPMSolverMultistepScheduler: a key that the file leaves out gets them, whatever
    scheduler class the file was written for (as `DPMSolverMultistepScheduler.from_config` has it).
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    timestep_spacing: str = "linspace"
    steps_offset: int = 0
    lower_order_final: bool = True
    euler_at_final: bool = False
    final_sigmas_type: str = "zero"


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "beta_schedule": ("linear", "scaled_linear"),
    "prediction_type": ("epsilon", "v_prediction"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "final_sigmas_type": ("zero", "sigma_min"),
}

# Keys that change the sampling and are not implemented, with the values that leave it as it is here. "bh1", "bh2" and
# "logrho" are other schedulers' own words, which diffusers turns into the plain one.
_UNCHANGED: Mapping[str, tuple[object, ...]] = {
    "trained_betas": (None,),
    "solver_order": (2,),
    "thresholding": (False, None),
    "algorithm_type": ("dpmsolver++",),
    "solver_type": ("midpoint", "bh1", "bh2", "logrho"),
    "use_karras_sigmas": (False, None),
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "use_flow_sigmas": (False, None),
    "use_dynamic_shifting": (False, None),
    "rescale_betas_zero_snr": (False, None),
    "lambda_min_clipped": (-float("inf"), None),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
}

# The classes whose configuration describes the same diffusion process, so that their keys mean the same.
_COMPATIBLE = frozenset(
    {
        "DDIMScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSDEScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    }
)


def read_schedule(config: Mapping[str, Any]) -> Schedule:
    """The schedule told by a scheduler configuration, of DPMSolverMultistepScheduler or a compatible class.

    Raises ModelLoadError, naming the key, for a value that is not implemented here.
    """
    name = config.get("_class_name", "DPMSolverMultistepScheduler")
    if name not in _COMPATIBLE:
        raise ModelLoadError(f"scheduler: _class_name: {name!r} is of a kind this solver cannot follow")
    defaulted = config.get("_use_default_values", ())  # the file did not say these: another class's own defaults
    given = {key: value for key, value in config.items() if key not in defaulted}
    for key, allowed in _UNCHANGED.items():
        if key in given and given[key] not in allowed:
            raise ModelLoadError(f"scheduler: {key}: {given[key]!r} is not implemented")
    values = {entry.name: given[entry.name] for entry in fields(Schedule) if entry.name in given}
    for key, value in values.items():
        _check(key, value)
    return Schedule(**values)


def _check(key: str, value: object) -> None:
    default = getattr(_DEFAULTS, key)
    if key in _CHOICES and value not in _CHOICES[key]:
        raise ModelLoadError(f"scheduler: {key}: {value!r} is not implemented; there are {', '.join(_CHOICES[key])}")
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise ModelLoadError(f"scheduler: {key}: must be {type(default).__name__}, is {value!r}")
    if key == "num_train_timesteps" and isinstance(value, int) and value < 1:
        raise ModelLoadError(f"scheduler: {key}: must be at least 1, is {value!r}")


_DEFAULTS = Schedule()


class Coefficients(NamedTuple):
    """One step's numbers, in the order of `SolverTable.rows`' columns; `timestep` is what the network is told."""

    timestep: float
    sample_to_x0: float
    output_to_x0: float
    keep: float
    x0_now: float
    x0_before: float


@dataclass(frozen=True, slots=True, eq=False)
class SolverTable:
    """All steps of one solver run: `rows` is float64 [steps, 6], columns as in `Coefficients`."""

    rows: Floats
    init_noise_sigma: float = 1.0  # standard deviation of the noise that x starts from

    @property
    def steps(self) -> int:
        """How many steps there are (with trailing spacing it may differ from those asked for, as in diffusers)."""
        return len(self.rows)


def dpmpp_2m(schedule: Schedule, num_inference_steps: int) -> SolverTable:
    """DPM-Solver++ 2M, midpoint form, data prediction; first order where the history or the end demands it.

    Raises GenerationError for a number of steps that the schedule cannot tell apart.
    """
    timesteps = _timesteps(schedule, num_inference_steps)
    sigmas = _sigmas(schedule, timesteps)
    if not len(timesteps) or np.any(np.diff(sigmas[:-1]) >= 0):
        raise GenerationError(
            f"num_inference_steps: {num_inference_steps} is not possible with this model's "
            f"{schedule.num_train_timesteps} training steps and {schedule.timestep_spacing!r} spacing"
        )
    steps = len(timesteps)
    first_order = [index == 0 or _lower_order(schedule, index, steps) for index in range(steps)]
    return SolverTable(
        np.array(
            [_dpmpp_step(schedule, float(timesteps[i]), sigmas, i, first_order=first_order[i]) for i in range(steps)]
        )
    )


def _lower_order(schedule: Schedule, index: int, steps: int) -> bool:
    few = schedule.lower_order_final and steps < 15  # below 15 steps the last second-order one is unstable (the paper)
    return index == steps - 1 and (schedule.euler_at_final or few or schedule.final_sigmas_type == "zero")


def _dpmpp_step(schedule: Schedule, timestep: float, sigmas: Floats, index: int, *, first_order: bool) -> Coefficients:
    # sigma is the ratio noise : signal. In the paper's variance-preserving terms alpha = 1 / sqrt(sigma² + 1), its
    # sigma is sigma·alpha, lambda = -log(sigma), and so exp(-h) is a ratio of two sigmas.
    here, after = sigmas[index], sigmas[index + 1]
    alpha_here, alpha_after = _alpha(here), _alpha(after)
    noise_here, noise_after = here * alpha_here, after * alpha_after
    toward_x0 = alpha_after * (1.0 - after / here)
    correction = 0.0
    if not first_order:
        h, h_before = np.log(here / after), np.log(sigmas[index - 1] / here)
        correction = 0.5 * toward_x0 * (h / h_before)
    to_x0 = {"epsilon": (1.0 / alpha_here, -here), "v_prediction": (alpha_here, -noise_here)}
    sample_to_x0, output_to_x0 = to_x0[schedule.prediction_type]
    return Coefficients(
        timestep, sample_to_x0, output_to_x0, noise_after / noise_here, toward_x0 + correction, -correction
    )


def _alpha(sigma: float) -> float:
    return float(1.0 / np.sqrt(sigma * sigma + 1.0))


def _training_sigmas(schedule: Schedule) -> Floats:
    power = {"linear": 1.0, "scaled_linear": 2.0}[schedule.beta_schedule]
    start, end = schedule.beta_start ** (1 / power), schedule.beta_end ** (1 / power)
    betas = np.linspace(start, end, schedule.num_train_timesteps, dtype=np.float64) ** power
    signal = np.cumprod(1.0 - betas)
    return np.asarray(np.sqrt((1.0 - signal) / signal), dtype=np.float64)


def _timesteps(schedule: Schedule, steps: int) -> Floats:
    train = schedule.num_train_timesteps
    if steps < 1:
        return np.empty(0)
    if schedule.timestep_spacing == "linspace":
        return np.linspace(0, train - 1, steps + 1).round()[:0:-1]
    if schedule.timestep_spacing == "leading":
        return np.asarray((np.arange(0, steps + 1) * (train // (steps + 1)))[:0:-1] + schedule.steps_offset, np.float64)
    return np.asarray(np.arange(train, 0, -train / steps).round() - 1, np.float64)


def _sigmas(schedule: Schedule, timesteps: Floats) -> Floats:
    """Sigma at each timestep and the one that the last step ends at: float64 [steps + 1]."""
    training = _training_sigmas(schedule)
    last = 0.0 if schedule.final_sigmas_type == "zero" else float(training[0])
    return np.append(np.interp(timesteps, np.arange(len(training)), training), last)


SOLVERS: Mapping[str, Callable[[Schedule, int], SolverTable]] = {"dpmpp_2m": dpmpp_2m}
"""Every solver by the name requests use."""


def build_table(schedule: Schedule, solver: str, num_inference_steps: int) -> SolverTable:
    """The table of the named solver. Raises GenerationError for one that does not exist or a bad number of steps."""
    builder = SOLVERS.get(solver)
    if builder is None:
        raise GenerationError(f"solver: {solver!r} does not exist; there are {', '.join(SOLVERS)}")
    return builder(schedule, num_inference_steps)


def update(latents: Tensor, x0_before: Tensor, output: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """One step of every row at once: the next latents and this step's x0, both new tensors.

    All float32. `latents`, `x0_before` and `output` are [rows, channels, height, width]; `coefficients` is [rows, 5],
    the columns of `Coefficients` without the timestep. A row's first step ignores `x0_before` (its factor is 0), which
    must be finite all the same.
    """
    shape = (-1,) + (1,) * (latents.dim() - 1)
    sample_to_x0, output_to_x0, keep, x0_now, x0_factor = (column.view(shape) for column in coefficients.unbind(1))
    x0 = (latents * sample_to_x0).addcmul_(output, output_to_x0)
    return (latents * keep).addcmul_(x0, x0_now).addcmul_(x0_before, x0_factor), x0
