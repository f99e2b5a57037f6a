"""Rows of every solver, from noise and from images, in the same forward passes, against diffusers' own pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from ai.families.family import Model
from ai.schedules import SOLVERS
from ai.stepping import Stepper, open_row
from ai.types import Failed, GenerationRequest, InitImage
from tests.ai import oracle
from tests.ai.drive import Bench, a_request, an_image, denoise, open_rows, pixels, relative_error
from tests.ai.fakes import FakeModel

pytestmark = pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING)

TOLERANCE = 1e-4  # of the latents' scale, in float32


def mix() -> Iterator[GenerationRequest]:
    """For every solver one request from noise and two from images, all different."""
    seeds = count(20)
    for solver in SOLVERS:
        guidance = 1.5 if solver == "lcm" else 5.0
        text = {"solver": solver, "guidance_scale": guidance, "prompt": f"a cat by {solver}"}
        yield a_request(f"{solver} from noise", **text, num_inference_steps=len(solver), seed=next(seeds))
        for steps, strength in ((5, 0.5), (7, 1.0)):
            start = {"init_image": an_image(seed=steps), "strength": strength}
            yield a_request(f"{solver} at {strength}", **text, **start, num_inference_steps=steps, seed=next(seeds))
    yield a_request("lcm without guidance", solver="lcm", guidance_scale=1.0)


MIX = list(mix())
JOINS = [index % 4 for index in range(len(MIX))]


@pytest.mark.parametrize("name", ["epsilon", "v"])
def test_a_batch_of_all_solvers_equals_diffusers(name: str, models: dict[str, Model], folders: dict[str, Path]) -> None:
    """Every row ends where diffusers' pipeline ends with the scheduler of that name, whoever joins and leaves beside it."""
    for request, latents in zip(MIX, denoise(models[name], open_rows(models[name], MIX), JOINS), strict=True):
        assert relative_error(latents, oracle.latents(folders[name], request)) < TOLERANCE, request.request_id


@pytest.mark.parametrize("solver", SOLVERS)
def test_pictures_equal_diffusers(solver: str, models: dict[str, Model], folders: dict[str, Path]) -> None:
    """Pictures of 72 by 64 pixels, from noise and from an image, differ from the pipelines' by one level of 255 at most."""
    size = {"width": 72, "height": 64, "solver": solver, "guidance_scale": 1.5 if solver == "lcm" else 4.0}
    image = {"init_image": an_image(72, 64), "strength": 0.8}
    requests = [a_request("noise", **size, num_images=2), a_request("image", **size, **image, num_images=2)]
    bench = Bench(lambda card, _: models["epsilon"])
    bench.paint(*requests)
    for request in requests:
        for index, picture in enumerate(bench.finished(request.request_id).pictures):
            wanted = oracle.picture(folders["epsilon"], request, index)
            assert np.abs(pixels(picture) - wanted).max() <= 1, (request.request_id, index)


def test_two_rows_generators_swapped_is_noticed(models: dict[str, Model], folders: dict[str, Path]) -> None:
    """The equality check is no rubber stamp: with two rows' generators swapped it fails for exactly those."""
    requests = [a_request(str(seed), solver="euler_a", seed=seed) for seed in range(3)]
    rows = open_rows(models["epsilon"], requests)
    rows[0].generator, rows[1].generator = rows[1].generator, rows[0].generator
    errors = [
        relative_error(latents, oracle.latents(folders["epsilon"], request))
        for request, latents in zip(requests, denoise(models["epsilon"], rows), strict=True)
    ]
    assert [error < TOLERANCE for error in errors] == [False, False, True]


def test_a_row_goes_on_from_its_saved_state(models: dict[str, Model], folders: dict[str, Path]) -> None:
    """Step, latents, history and the generator's state are all of a row: put into another, it ends the same."""
    model, request = models["epsilon"], a_request(solver="euler_a", num_inference_steps=6)
    (row,) = open_rows(model, [request])
    with torch.inference_mode():
        Stepper(model).step([row])
        (other,) = open_rows(model, [request])
        other.step, other.latents, other.x0 = row.step, row.latents, row.x0
        other.generator.set_state(row.generator.get_state())
    (latents,) = denoise(model, [other])
    assert relative_error(latents, oracle.latents(folders["epsilon"], request)) < TOLERANCE


class CountingModel(FakeModel):
    """Counts how often it draws."""

    drawn = 0

    def noise(self, generator: torch.Generator, shape: object) -> torch.Tensor:
        """As always."""
        self.drawn += 1
        return super().noise(generator, shape)  # type: ignore[arg-type]


@pytest.mark.parametrize(("solver", "draws"), [("dpmpp_2m", 1), ("ddim", 1), ("euler_a", 4), ("lcm", 4)])
def test_noise_is_drawn_where_it_is_needed(solver: str, draws: int) -> None:
    """Beside the first noise, only ancestral and consistency rows draw, and not for their last step."""
    model = CountingModel()
    denoise(model, open_rows(model, [a_request(solver=solver, num_inference_steps=4)]))
    assert model.drawn == draws


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"init_image": an_image(72, 64)}, "init_image: must be 64 × 64 pixels, is 72 × 64"),
        ({"strength": 0.5}, "strength: goes with an init_image"),
        ({"init_image": InitImage(64, 64, b"short")}, "init_image: must have 12288 bytes, has 5"),
        ({"init_image": an_image(), "strength": 0.0}, "strength: must be more than 0 and at most 1, is 0.0"),
        ({"init_image": an_image(), "strength": 1.01}, "strength: must be more than 0 and at most 1, is 1.01"),
        ({"init_image": an_image(), "strength": float("nan")}, "strength: must be more than 0 and at most 1, is nan"),
        ({"init_image": an_image(), "strength": 0.2}, "strength: leaves none of the 4 steps"),
    ],
)
def test_init_images_that_cannot_be_used(changes: dict[str, object], problem: str, models: dict[str, Model]) -> None:
    """What does not fit fails by the field's name, and harms no neighbour."""
    bench = Bench(lambda card, _: models["epsilon"])
    bench.paint(a_request("bad", **changes), a_request("good"))
    assert [str(event.error) for event in bench.of(Failed)] == [problem]
    assert len(bench.finished("good").pictures) == 1


def test_an_image_is_encoded_once_a_request(models: dict[str, Model]) -> None:
    """The pictures of one request start from one encoding, each with its own draw from it."""
    model, request = models["epsilon"], a_request(init_image=an_image(), strength=0.5, num_images=2)
    with torch.inference_mode():
        prompted = model.prompt(request, ())
        first, second = (open_row(model, request, index, prompted).latents for index in (0, 1))
    assert first.shape == second.shape == (4, 8, 8)
    assert not torch.equal(first, second)
