from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from ai.solvers import Schedule, SolverTable, build_table, read_schedule, update
from ai.types import GenerationError, ModelLoadError
from tests.ai.oracle import NUMPY_COPY_WARNING

pytestmark = pytest.mark.filterwarnings(NUMPY_COPY_WARNING)

BASE: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
STEPS = [1, 2, 3, 5, 10, 14, 15, 20, 50]


def network(sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """Stands for a network: bounded, and different at each timestep."""
    return torch.tanh(sample * (0.3 + timestep / 1500)) - 0.1


def assert_follows_diffusers(config: dict[str, Any], steps: int) -> None:
    """Compare every timestep, every step's result and its x0 with the scheduler that from_config makes."""
    scheduler = DPMSolverMultistepScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    table = build_table(read_schedule(config), "dpmpp_2m", steps)
    assert table.rows[:, 0].tolist() == scheduler.timesteps.tolist()
    theirs = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    ours, x0 = theirs.clone(), torch.zeros_like(theirs)
    for index, timestep in enumerate(scheduler.timesteps):
        output = network(theirs, float(timestep))
        theirs = scheduler.step(output, timestep, theirs).prev_sample
        row = torch.from_numpy(table.rows[index : index + 1]).float()
        ours, x0 = update(ours, x0, network(ours, float(timestep)), row[:, 1:])
        assert (x0 - scheduler.model_outputs[-1]).abs().max() < 2e-5 * x0.abs().max()
        assert (ours - theirs).abs().max() < 2e-5 * theirs.abs().max(), f"step {index} of {steps}"


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_every_step_is_diffusers_step(prediction: str, spacing: str) -> None:
    """Whatever the number of steps, spacing and prediction, each step gives what diffusers' scheduler gives."""
    for steps in STEPS:
        assert_follows_diffusers(BASE | {"prediction_type": prediction, "timestep_spacing": spacing}, steps)


@pytest.mark.parametrize(
    "change",
    [
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"lower_order_final": True, "final_sigmas_type": "sigma_min"},
        {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"num_train_timesteps": 500},
        {"steps_offset": 0, "timestep_spacing": "leading"},
    ],
    ids=str,
)
def test_configuration_values_that_are_implemented(change: dict[str, Any]) -> None:
    """Every implemented key changes the steps as it does in diffusers."""
    for steps in STEPS:
        assert_follows_diffusers(BASE | change, steps)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False, "beta_start": 0.001},
        {"_class_name": "DDIMScheduler", "clip_sample": False, "timestep_spacing": "leading", "steps_offset": 1},
        {"_class_name": "DDPMScheduler", "variance_type": "fixed_small", "beta_schedule": "scaled_linear"},
        {"_class_name": "DEISMultistepScheduler", "algorithm_type": "dpmsolver++", "solver_type": "logrho"},
        {"_class_name": "UniPCMultistepScheduler", "solver_type": "bh2", "predict_x0": True, "beta_end": 0.012},
        {"_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear", "final_sigmas_type": "sigma_min"},
        BASE | {"timestep_spacing": "leading", "_use_default_values": ["timestep_spacing"]},
    ],
    ids=lambda config: config.get("_class_name", "empty"),
)
def test_other_schedulers_files_resolve_as_in_diffusers(config: dict[str, Any]) -> None:
    """A file of another scheduler class gives what DPMSolverMultistepScheduler.from_config makes of it."""
    assert_follows_diffusers(config, 10)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta_schedule", "squaredcos_cap_v2"),
        ("trained_betas", [0.1, 0.2]),
        ("prediction_type", "sample"),
        ("timestep_spacing", "other"),
        ("final_sigmas_type", "other"),
        ("solver_order", 3),
        ("solver_type", "heun"),
        ("algorithm_type", "sde-dpmsolver++"),
        ("algorithm_type", "deis"),
        ("thresholding", True),
        ("use_karras_sigmas", True),
        ("use_exponential_sigmas", True),
        ("use_beta_sigmas", True),
        ("use_lu_lambdas", True),
        ("use_flow_sigmas", True),
        ("use_dynamic_shifting", True),
        ("rescale_betas_zero_snr", True),
        ("lambda_min_clipped", -5.1),
        ("variance_type", "learned_range"),
        ("_class_name", "FlowMatchEulerDiscreteScheduler"),
        ("_class_name", "EDMEulerScheduler"),
        ("beta_start", "0.1"),
        ("num_train_timesteps", 0),
        ("num_train_timesteps", True),
    ],
)
def test_values_not_implemented_are_refused(key: str, value: object) -> None:
    """A value that would change the picture and is not implemented is refused by its key's name."""
    with pytest.raises(ModelLoadError, match=f"scheduler: {key}:"):
        read_schedule(BASE | {key: value})


def test_all_of_diffusers_keys_are_decided_on() -> None:
    """No key of diffusers' scheduler is ignored without a reason."""
    keys = set(DPMSolverMultistepScheduler().config) - {"_use_default_values"}
    idle = {"dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type"}  # their switches are off
    for key in keys - idle - set(Schedule.__dataclass_fields__):
        with pytest.raises(ModelLoadError, match=key):
            read_schedule({key: "something else"})


@pytest.mark.parametrize("steps", [0, -1, 1001, 100000])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_impossible_numbers_of_steps(steps: int, spacing: str) -> None:
    """More steps than the schedule has, or none, is an error that names the field."""
    with pytest.raises(GenerationError, match="num_inference_steps"):
        build_table(Schedule(timestep_spacing=spacing), "dpmpp_2m", steps)


def test_unknown_solver() -> None:
    """A solver that does not exist is an error that lists those that do."""
    with pytest.raises(GenerationError, match=r"solver: 'euler' does not exist; there are dpmpp_2m"):
        build_table(Schedule(), "euler", 10)


def test_rows_of_one_update_are_independent() -> None:
    """One fused update gives each row, at its own step of its own run, what it gets alone."""
    tables = [build_table(Schedule(), "dpmpp_2m", steps) for steps in (3, 10, 20)]
    rows = torch.from_numpy(np.stack([table.rows[step] for table, step in zip(tables, (0, 9, 7), strict=True)])).float()
    latents, before, output = torch.randn((3, 3, 4, 8, 8), generator=torch.Generator().manual_seed(2))
    together = update(latents, before, output, rows[:, 1:])
    for i in range(3):
        alone = update(latents[i : i + 1], before[i : i + 1], output[i : i + 1], rows[i : i + 1, 1:])
        assert torch.equal(together[0][i], alone[0][0])
        assert torch.equal(together[1][i], alone[1][0])


def test_tables_are_double_precision() -> None:
    """Coefficients are computed on the host in float64."""
    table: SolverTable = build_table(Schedule(), "dpmpp_2m", 20)
    assert table.rows.dtype == np.float64
    assert table.steps == 20
