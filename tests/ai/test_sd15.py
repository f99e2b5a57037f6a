"""The Stable Diffusion 1.5 family against diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ai.families.family import Model
from ai.stepping import Stepper
from ai.types import GenerationRequest
from tests.ai import oracle
from tests.ai.drive import a_request, denoise, open_rows, relative_error

pytestmark = pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING)

TOLERANCE = 1e-4  # of the latents' scale, in float32: what docs promise for "solo equals batched"

MIX = [
    a_request("plain", num_inference_steps=6),
    a_request("without guidance", num_inference_steps=4, guidance_scale=1.0, seed=1),
    a_request("strong", num_inference_steps=9, guidance_scale=9.0, seed=2, prompt="two blue cats"),
    a_request("negative", num_inference_steps=3, negative_prompt="red", seed=3, prompt=""),
    a_request("guidance below one", num_inference_steps=1, guidance_scale=0.0, seed=2**40, prompt="zzz 한글 😀"),
    a_request("twin of the first", num_inference_steps=6, seed=8),
    a_request("many steps", num_inference_steps=16, guidance_scale=1.5, seed=5),
]
JOINS = [0, 0, 1, 2, 2, 4, 5]


def demo(request: GenerationRequest) -> GenerationRequest:
    """A request in the demo model's words."""
    words = "a big blue star on a white background" if request.prompt == "a red cat" else request.prompt
    return a_request(
        prompt=words,
        negative_prompt=request.negative_prompt,
        seed=request.seed,
        guidance_scale=request.guidance_scale,
        num_inference_steps=request.num_inference_steps,
        width=128,
        height=128,
    )


def in_words_of(name: str, requests: list[GenerationRequest]) -> list[GenerationRequest]:
    """The requests as a model understands them."""
    return [demo(request) for request in requests] if name == "demo" else requests


@pytest.mark.parametrize("name", ["epsilon", "v", "demo"])
def test_alone_it_equals_diffusers(name: str, models: dict[str, Model], folders: dict[str, Path]) -> None:
    """One request alone ends at the latents that StableDiffusionPipeline ends at."""
    for request in in_words_of(name, MIX[:4]):
        (latents,) = denoise(models[name], open_rows(models[name], [request]))
        assert relative_error(latents, oracle.latents(folders[name], request)) < TOLERANCE


@pytest.mark.parametrize("name", ["epsilon", "v", "demo"])
def test_in_a_mixed_batch_it_equals_diffusers(name: str, models: dict[str, Model], folders: dict[str, Path]) -> None:
    """Requests that differ in everything, and join and leave at different steps, end where each would end alone."""
    requests = in_words_of(name, MIX)
    for request, latents in zip(requests, denoise(models[name], open_rows(models[name], requests), JOINS), strict=True):
        assert relative_error(latents, oracle.latents(folders[name], request)) < TOLERANCE, request.request_id


@pytest.mark.parametrize("name", ["epsilon", "v", "demo"])
def test_two_rows_noise_swapped_is_noticed(name: str, models: dict[str, Model], folders: dict[str, Path]) -> None:
    """The equality check is no rubber stamp: with the noise of two rows swapped it fails for exactly those."""
    requests = in_words_of(name, MIX[:3])
    rows = open_rows(models[name], requests)
    rows[0].latents, rows[1].latents = rows[1].latents, rows[0].latents
    errors = [
        relative_error(latents, oracle.latents(folders[name], request))
        for request, latents in zip(requests, denoise(models[name], rows), strict=True)
    ]
    assert [error < TOLERANCE for error in errors] == [False, False, True]


@pytest.mark.parametrize("name", ["epsilon", "v", "demo"])
def test_pictures_equal_diffusers(name: str, models: dict[str, Model], folders: dict[str, Path]) -> None:
    """Pictures decoded together differ from the pipeline's by at most one level of 255."""
    requests = in_words_of(name, MIX[:4])
    rows = open_rows(models[name], requests)
    denoise(models[name], rows)
    with torch.inference_mode():
        pictures, failures = Stepper(models[name]).decode(rows)
    assert failures == {}
    for request, row in zip(requests, rows, strict=True):
        found = np.frombuffer(pictures[row], np.uint8).reshape(request.height, request.width, 3).astype(int)
        assert np.abs(found - oracle.picture(folders[name], request)).max() <= 1


def test_two_prompts_differ(models: dict[str, Model]) -> None:
    """The test checkpoint tells prompts apart, in their embeddings and at the end of the text."""
    red, blue = (
        models["epsilon"].prompt(a_request(prompt=prompt), ()).positive["text"]
        for prompt in ("a red cat", "a blue cat")
    )
    assert red.shape == (1, 77, 24)
    assert (red - blue).abs().max() > 0.01
    assert (red[0, 4] - blue[0, 4]).abs().max() > 0.001  # where the text ends: what CLIP pools


def test_guidance_off_costs_no_row(models: dict[str, Model]) -> None:
    """At a guidance scale of 1 or less no negative prompt is encoded."""
    assert models["epsilon"].prompt(a_request(guidance_scale=1.0), ()).negative is None
    assert models["epsilon"].prompt(a_request(guidance_scale=1.01), ()).negative is not None


@pytest.mark.parametrize("name", ["epsilon", "demo"])
@pytest.mark.parametrize(
    "prompt", ["", "zzz qqq", "고양이 한 마리", "😀👩‍👩‍👧", "\x00\t\n", "a" * 5000, "<|endoftext|> red"]
)
def test_odd_prompts(name: str, prompt: str, models: dict[str, Model], folders: dict[str, Path]) -> None:
    """Any text is encoded, to what the pipeline encodes it to."""
    prompted = models[name].prompt(a_request(prompt=prompt, negative_prompt=prompt), ())
    wanted, _ = oracle.pipeline(folders[name]).encode_prompt(prompt, "cpu", 1, False)
    assert torch.allclose(prompted.positive["text"], wanted, atol=1e-6)


def test_a_prompt_that_fits_has_no_warning(models: dict[str, Model]) -> None:
    """Seventy-five tokens beside the two special ones are no reason for a warning."""
    assert models["epsilon"].prompt(a_request(prompt=" ".join(["red"] * 75)), ()).warnings == ()


def test_truncated_prompts_are_told(models: dict[str, Model]) -> None:
    """A prompt that is cut, and a negative one, give warnings that quote what was dropped as it was written."""
    prompt = " ".join(["red"] * 75) + "  a Blue CAT, 고양이"
    prompted = models["epsilon"].prompt(a_request(prompt=prompt, negative_prompt=prompt + " !"), ())
    assert prompted.warnings == (
        'prompt: cut to 77 tokens; dropped: "a Blue CAT, 고양이"',
        'negative_prompt: cut to 77 tokens; dropped: "a Blue CAT, 고양이 !"',
    )


def test_truncation_in_the_demo_model(models: dict[str, Model]) -> None:
    """The demo model takes as many tokens as CLIP, start and end among them."""
    (warning,) = models["demo"].prompt(a_request(prompt=" ".join(["red"] * 75) + " big blue star"), ()).warnings
    assert warning == 'prompt: cut to 77 tokens; dropped: "big blue star"'


def test_a_negative_prompt_not_used_is_not_warned_of(models: dict[str, Model]) -> None:
    """Without guidance the negative prompt plays no part, however long it is."""
    request = a_request(negative_prompt="red " * 100, guidance_scale=1.0)
    assert models["epsilon"].prompt(request, ()).warnings == ()


def test_noise_is_diffusers_noise(models: dict[str, Model]) -> None:
    """Noise comes from a CPU generator, in the order in which diffusers draws it."""
    wanted = torch.randn((1, 4, 9, 8), generator=torch.Generator("cpu").manual_seed(99))[0]
    model = models["epsilon"]
    assert torch.equal(model.noise(torch.Generator("cpu").manual_seed(99), model.latent_shape(72, 64)), wanted)


def test_previews_show_what_is_coming(models: dict[str, Model]) -> None:
    """Near the end, the preview is a pixel for eight by eight of its own picture, and of none of the others."""
    model, stepper = models["demo"], Stepper(models["demo"])
    prompts = ["a red circle on a blue background", "a white star on a black background"]
    prompts += ["a big green square on a yellow background", "a purple heart on a white background"]
    requests = [demo(a_request(prompt=prompt, num_inference_steps=10)) for prompt in prompts]
    rows = open_rows(model, requests)
    with torch.inference_mode():
        for _ in range(9):
            stepper.step(rows)
        previews = stepper.preview(rows)
        stepper.step(rows)
        small = torch.nn.functional.avg_pool2d(model.decode(torch.stack([row.latents for row in rows])), 8)
    for index, (width, height, rgb) in enumerate(previews):
        assert (width, height) == (16, 16)
        painted = torch.from_numpy(np.frombuffer(rgb, np.uint8).reshape(16, 16, 3) / 127.5 - 1).permute(2, 0, 1)
        differences = (small - painted).abs().mean((1, 2, 3)).tolist()
        assert differences.index(min(differences)) == index
        assert differences[index] < 0.45  # of the range of 2: the demo's VAE is not very linear
