from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ai.schedules import SOLVERS, Schedule, most_steps, read_schedule, schedules_for
from ai.solvers import Column, SolverTable, SolverTables, build_table, update
from ai.types import GenerationError, ModelLoadError
from tests.ai import oracle

pytestmark = pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING)

BASE: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
STEPS = [1, 2, 3, 5, 10, 14, 15, 18, 20, 50]
SPACINGS = ["linspace", "leading", "trailing"]
SHAPE = (1, 4, 8, 8)


def network(sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """Stands for a network: bounded, and different at each timestep."""
    return torch.tanh(sample * (0.3 + timestep / 1500)) - 0.1


def draws() -> torch.Generator:
    """The noise of a test."""
    return torch.Generator("cpu").manual_seed(1)


def table_of(config: dict[str, Any], solver: str, steps: int, start: int = 0) -> SolverTable:
    """The solver's table on a configuration."""
    return build_table(read_schedule(config, solver), solver, steps, start)


def assert_follows_diffusers(config: dict[str, Any], solver: str, steps: int, start: int | None = None) -> None:
    """Compare every timestep, what the network is given at every step, and the end, with diffusers' scheduler.

    Both draw their noise from a generator of their own; with `start` they begin in the middle, with noise on an image.
    """
    scheduler, theirs_draws, ours_draws = oracle.scheduler(solver, config), draws(), draws()
    scheduler.set_timesteps(steps)
    table = table_of(config, solver, steps, start or 0)
    timesteps = scheduler.timesteps[start or 0 :]
    assert np.abs(table.rows[:, Column.TIMESTEP] - timesteps.double().numpy()).max() < 1e-4
    theirs, ours = (torch.randn(SHAPE, generator=generator) for generator in (theirs_draws, ours_draws))
    if start is None:
        theirs, ours = theirs * scheduler.init_noise_sigma, ours * table.init_noise_sigma
    else:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        image = torch.linspace(-2, 2, 256).view(SHAPE)
        theirs = scheduler.add_noise(image, theirs, timesteps[:1])
        ours = image * table.image_scale + ours * table.noise_scale
    x0, generator = torch.zeros(SHAPE), {"generator": theirs_draws} if solver in ("euler_a", "lcm") else {}
    for step, timestep in enumerate(timesteps):
        given = scheduler.scale_model_input(theirs, timestep)
        assert (ours - given).abs().max() < 2e-5 * given.abs().max(), f"{solver}: before step {step} of {steps}"
        output = network(given, float(timestep))
        theirs = scheduler.step(output, timestep, theirs, **generator, return_dict=False)[0]
        row = torch.from_numpy(table.rows[step : step + 1]).float()
        noise = torch.randn(SHAPE, generator=ours_draws) if table.is_noisy(step) else None
        ours, x0 = update(ours, x0, network(ours, float(timestep)), row[:, 1:], noise)
    assert (ours - theirs).abs().max() < 2e-5 * theirs.abs().max(), f"{solver}: the end of {steps} steps"


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_step_is_diffusers_step(solver: str, prediction: str, spacing: str) -> None:
    """Whatever the solver, the number of steps, spacing and prediction, each step gives what diffusers' scheduler gives."""
    for steps in STEPS:
        assert_follows_diffusers(BASE | {"prediction_type": prediction, "timestep_spacing": spacing}, solver, steps)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_run_that_starts_in_the_middle(solver: str, spacing: str) -> None:
    """From an image, noise is added and the steps go on as diffusers' scheduler has it from the same index."""
    for steps, start in ((4, 0), (5, 3), (20, 1), (20, 10), (20, 19)):
        assert_follows_diffusers(BASE | {"timestep_spacing": spacing}, solver, steps, start)


@pytest.mark.parametrize(
    "change",
    [
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"lower_order_final": True, "final_sigmas_type": "sigma_min"},
        {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"num_train_timesteps": 500},
        {"steps_offset": 0, "timestep_spacing": "leading"},
        {"set_alpha_to_one": False},
        {"original_inference_steps": 100, "timestep_scaling": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_configuration_values_that_are_implemented(solver: str, change: dict[str, Any]) -> None:
    """Every implemented key changes the steps as it does in diffusers."""
    for steps in (1, 2, 14, 15, 20):
        assert_follows_diffusers(BASE | change, solver, steps)


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
        {"_class_name": "LCMScheduler", "original_inference_steps": 40, "beta_end": 0.011},
        {"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True},
        BASE | {"timestep_spacing": "leading", "_use_default_values": ["timestep_spacing"]},
    ],
    ids=lambda config: config.get("_class_name", "empty"),
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_other_schedulers_files_resolve_as_in_diffusers(solver: str, config: dict[str, Any]) -> None:
    """A file of any scheduler class gives what the from_config of the solver's own class makes of it."""
    assert_follows_diffusers(config, solver, 10)


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
        read_schedule(BASE | {key: value}, "dpmpp_2m")


# Keys that do nothing while others, which are refused, leave them switched off.
IDLE = {"dynamic_thresholding_ratio", "sample_max_value", "clip_sample_range", "flow_shift", "time_shift_type"}
IDLE |= {"sigma_min", "sigma_max"}  # of sigmas other than the timesteps' own
NAMED = {"use_karras_sigmas"}  # by the solver's name, whatever the file says
UNUSED = {
    "lcm": {"timestep_spacing", "steps_offset", "set_alpha_to_one"}
}  # known to the class, which makes nothing of them


@pytest.mark.parametrize("solver", SOLVERS)
def test_all_of_diffusers_keys_are_decided_on(solver: str) -> None:
    """No key of diffusers' schedulers is ignored without a reason."""
    keys = set(oracle.SCHEDULERS[solver][0]().config) - {"_use_default_values"}
    for key in keys - IDLE - NAMED - UNUSED.get(solver, set()):
        with pytest.raises(ModelLoadError, match=key):
            read_schedule({key: "something else"}, solver)


def test_a_solver_reads_only_its_own_keys() -> None:
    """What only another solver's class knows changes nothing, and refuses nothing."""
    assert read_schedule(BASE | {"algorithm_type": "deis", "clip_sample": True}, "euler_a") == read_schedule(
        BASE, "euler_a"
    )
    assert tuple(schedules_for(BASE)) == SOLVERS
    assert tuple(schedules_for(BASE | {"algorithm_type": "deis"})) == ("euler", "euler_a", "ddim", "lcm")
    clipping = schedules_for(BASE | {"clip_sample": True})
    assert tuple(clipping) == ("dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_a")
    assert tuple(schedules_for(BASE | {"prediction_type": "sample"})) == ()


def test_a_model_offers_what_its_schedule_allows() -> None:
    """A solver that cannot follow the schedule is refused with the names of those that can; a schedule for none, at once."""
    tables = SolverTables(BASE | {"clip_sample": True})
    assert tables.table("euler", 3).steps == 3
    with pytest.raises(
        GenerationError, match=r"solver: 'ddim' does not fit this model; there are dpmpp_2m, .*, euler_a$"
    ):
        tables.table("ddim", 3)
    with pytest.raises(ModelLoadError, match="scheduler: prediction_type"):
        SolverTables({"prediction_type": "sample"})


@pytest.mark.parametrize("steps", [0, -1, 100000])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("solver", ["dpmpp_2m", "ddim", "lcm"])
def test_impossible_numbers_of_steps(solver: str, steps: int, spacing: str) -> None:
    """More steps than the schedule has, or none, is an error that names the field."""
    with pytest.raises(GenerationError, match="num_inference_steps"):
        build_table(Schedule(timestep_spacing=spacing), solver, steps)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_most_steps_can_be_made_and_no_more(solver: str, spacing: str) -> None:
    """What is told of a solver before anything is loaded is what its table then allows."""
    schedule = Schedule(timestep_spacing=spacing, original_inference_steps=30)
    most = most_steps(schedule, solver)
    assert build_table(schedule, solver, most or 2000).steps == (most or 2000)
    if most is not None:
        with pytest.raises(GenerationError, match=f"num_inference_steps: {solver} makes at most {most} with this"):
            build_table(schedule, solver, most + 1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_beyond_the_end(solver: str) -> None:
    """A run of which nothing is left is an error that names the field."""
    with pytest.raises(GenerationError, match="strength"):
        build_table(Schedule(), solver, 5, 5)


def test_unknown_solver() -> None:
    """A solver that does not exist is an error that lists those that do."""
    with pytest.raises(
        GenerationError, match=r"solver: 'heun' does not fit this model; there are dpmpp_2m, dpmpp_2m_karras"
    ):
        SolverTables(BASE).table("heun", 10)


def test_rows_of_one_update_are_independent() -> None:
    """One fused update gives each row, at its own step of its own solver's run, what it gets alone."""
    places = {"dpmpp_2m": 7, "dpmpp_2m_karras": 3, "euler": 9, "euler_a": 4, "ddim": 0, "lcm": 5}
    tables = {solver: build_table(Schedule(), solver, 10 + place) for solver, place in places.items()}
    rows = torch.from_numpy(np.stack([table.rows[places[solver]] for solver, table in tables.items()])).float()
    latents, before, output, noise = torch.randn((4, len(rows), 4, 8, 8), generator=draws())
    together = update(latents, before, output, rows[:, 1:], noise)
    for i, (solver, table) in enumerate(tables.items()):
        own = noise[i : i + 1] if table.is_noisy(places[solver]) else None
        alone = update(latents[i : i + 1], before[i : i + 1], output[i : i + 1], rows[i : i + 1, 1:], own)
        assert torch.equal(together[0][i], alone[0][0])
        assert torch.equal(together[1][i], alone[1][0])


def test_who_needs_noise() -> None:
    """Only ancestral and consistency sampling draw, at every step but the last."""
    noisy = {solver: [build_table(Schedule(), solver, 4).is_noisy(step) for step in range(4)] for solver in SOLVERS}
    assert noisy.pop("euler_a") == noisy.pop("lcm") == [True, True, True, False]
    assert not any(any(steps) for steps in noisy.values())


def test_tables_are_double_precision() -> None:
    """Coefficients are computed on the host in float64, one for each column."""
    table: SolverTable = build_table(Schedule(), "dpmpp_2m", 20)
    assert table.rows.dtype == np.float64
    assert table.rows.shape == (table.steps, len(Column)) == (20, 7)
