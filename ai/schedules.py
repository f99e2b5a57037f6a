"""What a model's scheduler configuration says, as each solver reads it. Plain Python, so that a card can ask too.

A solver is one of diffusers' scheduler classes, and reads the file of another class as that class's `from_config` does:
of the keys it knows it takes the file's values, and its own defaults where the file is silent. A key that would change the
picture and is not implemented makes the solver unusable with this model; keys that the class does not know change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ai.types import ModelLoadError


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A model's noise, and how a solver walks it; the keys are diffusers'. Those of other solvers keep their defaults here."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    timestep_spacing: str = "linspace"
    steps_offset: int = 0
    final_sigmas_type: str = "zero"  # DPM-Solver++, Euler
    lower_order_final: bool = True  # DPM-Solver++
    euler_at_final: bool = False  # DPM-Solver++
    set_alpha_to_one: bool = True  # DDIM
    original_inference_steps: int = 50  # LCM: steps of the distillation
    timestep_scaling: float = 10.0  # LCM


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "beta_schedule": ("linear", "scaled_linear"),
    "prediction_type": ("epsilon", "v_prediction"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "final_sigmas_type": ("zero", "sigma_min"),
}
_PROCESS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
_SPACED = (*_PROCESS, "timestep_spacing", "steps_offset")

_NO: tuple[object, ...] = (False, None)
_BETAS: Mapping[str, tuple[object, ...]] = {"trained_betas": (None,), "rescale_betas_zero_snr": _NO}
_OTHER_SIGMAS: Mapping[str, tuple[object, ...]] = {"use_exponential_sigmas": _NO, "use_beta_sigmas": _NO}


@dataclass(frozen=True, slots=True)
class _Reading:
    """How one solver reads a file: `keys` it takes from it, `unchanged` the values that leave the sampling as it is here.

    Whether sigmas are Karras's is in the solver's name and is not asked of the file.
    """

    keys: tuple[str, ...]
    unchanged: Mapping[str, tuple[object, ...]]
    defaults: Schedule = field(default_factory=Schedule)


# "bh1", "bh2" and "logrho" are other schedulers' own words, which diffusers turns into the plain one.
_DPMPP_2M = _Reading(
    (*_SPACED, "final_sigmas_type", "lower_order_final", "euler_at_final"),
    {
        **_BETAS,
        **_OTHER_SIGMAS,
        "solver_order": (2,),
        "thresholding": _NO,
        "algorithm_type": ("dpmsolver++",),
        "solver_type": ("midpoint", "bh1", "bh2", "logrho"),
        "use_lu_lambdas": _NO,
        "use_flow_sigmas": _NO,
        "use_dynamic_shifting": _NO,
        "lambda_min_clipped": (-float("inf"), None),
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    },
)

# `clip_sample` is for networks that paint pixels. diffusers' DDIM clips unless the file denies it; here it is not clipped
# unless the file asks for it, and then refused.
_READINGS: Mapping[str, _Reading] = {
    "dpmpp_2m": _DPMPP_2M,
    "dpmpp_2m_karras": replace(
        _DPMPP_2M, unchanged={**_DPMPP_2M.unchanged, "sigma_min": (None,), "sigma_max": (None,)}
    ),
    "euler": _Reading(
        (*_SPACED, "final_sigmas_type"),
        {**_BETAS, **_OTHER_SIGMAS, "interpolation_type": ("linear",), "timestep_type": ("discrete",)},
    ),
    "euler_a": _Reading(_SPACED, _BETAS),
    "ddim": _Reading(
        (*_SPACED, "set_alpha_to_one"),
        {**_BETAS, "clip_sample": _NO, "thresholding": _NO},
        Schedule(timestep_spacing="leading"),
    ),
    "lcm": _Reading(
        (*_PROCESS, "original_inference_steps", "timestep_scaling"),
        {**_BETAS, "clip_sample": _NO, "thresholding": _NO},
        Schedule(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    ),
}

SOLVERS = tuple(_READINGS)
"""Every solver by the name requests use, the usual default first."""

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
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    }
)


def read_schedule(config: Mapping[str, Any], solver: str) -> Schedule:
    """The schedule that a solver (one of SOLVERS) reads in a scheduler configuration.

    Raises ModelLoadError, naming the key, for a value that is not implemented here.
    """
    name = config.get("_class_name", "DPMSolverMultistepScheduler")
    if name not in _COMPATIBLE:
        raise ModelLoadError(f"scheduler: _class_name: {name!r} is of a kind these solvers cannot follow")
    defaulted = config.get("_use_default_values", ())  # the file did not say these: another class's own defaults
    given = {key: value for key, value in config.items() if key not in defaulted}
    reading = _READINGS[solver]
    for key, allowed in reading.unchanged.items():
        if key in given and given[key] not in allowed:
            raise ModelLoadError(f"scheduler: {key}: {given[key]!r} is not implemented for {solver}")
    values = {key: given[key] for key in reading.keys if key in given}
    for key, value in values.items():
        _check(key, value)
    return replace(reading.defaults, **values)


def schedules_for(config: Mapping[str, Any]) -> Mapping[str, Schedule]:
    """What each solver reads that can follow a scheduler configuration, by the solver's name."""
    found = {solver: _read_or_none(config, solver) for solver in SOLVERS}
    return {solver: schedule for solver, schedule in found.items() if schedule is not None}


def schedules_of_folder(config: Path | None) -> Mapping[str, Schedule]:
    """The same for the configurations in a folder. All solvers, by their own defaults, where there is none to read or where
    it is found wrong when the model is loaded."""
    try:
        text = "{}" if config is None else (config / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")
        found = schedules_for(json.loads(text))
    except (OSError, ValueError, AttributeError):
        found = {}
    return found or schedules_for({})


def most_steps(schedule: Schedule, solver: str) -> int | None:
    """How many steps a solver can make on its schedule, None for as many as anyone likes.

    (Trailing spacing cannot make every number below: from nine tenths on some round two steps to one timestep.)
    """
    train = schedule.num_train_timesteps
    if solver == "lcm":
        return schedule.original_inference_steps
    if solver == "dpmpp_2m":
        return train if schedule.timestep_spacing == "trailing" else train - 1
    between = solver == "dpmpp_2m_karras" or (solver != "ddim" and schedule.timestep_spacing == "linspace")
    return None if between else train


def _read_or_none(config: Mapping[str, Any], solver: str) -> Schedule | None:
    try:
        return read_schedule(config, solver)
    except ModelLoadError:
        return None


def _check(key: str, value: object) -> None:
    default = _DEFAULTS[key]
    if key in _CHOICES and value not in _CHOICES[key]:
        raise ModelLoadError(f"scheduler: {key}: {value!r} is not implemented; there are {', '.join(_CHOICES[key])}")
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise ModelLoadError(f"scheduler: {key}: must be {type(default).__name__}, is {value!r}")
    if key in ("num_train_timesteps", "original_inference_steps") and isinstance(value, int) and value < 1:
        raise ModelLoadError(f"scheduler: {key}: must be at least 1, is {value!r}")


_DEFAULTS = {entry.name: entry.default for entry in fields(Schedule)}
