"""The Stable Diffusion XL family against diffusers' own pipelines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ai.cards import ModelCard, read_card
from ai.families import load
from ai.families.family import Model
from ai.families.known import CONFIGS
from ai.stepping import Stepper
from ai.types import EngineSettings, InitImage, ModelLoadError
from tests.ai import oracle
from tests.ai.drive import a_request, denoise, open_rows, relative_error
from tests.ai.test_sd15 import TOLERANCE
from tests.ai.tiny import build_vae
from tests.ai.tiny_xl import base_networks, build_base, build_single_file

pytestmark = pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING)

CPU = EngineSettings(device="cpu")
PICTURE = InitImage(64, 64, np.random.default_rng(5).integers(0, 256, 64 * 64 * 3, np.uint8).tobytes())

MIX = [
    a_request("plain", num_inference_steps=6),
    a_request("without guidance", num_inference_steps=4, guidance_scale=1.0, seed=1),
    a_request("negative", num_inference_steps=3, negative_prompt="red", seed=3, prompt=""),
    a_request("strong", num_inference_steps=9, guidance_scale=9.0, seed=2, prompt="two blue cats"),
    a_request("from a picture", num_inference_steps=8, seed=6, init_image=PICTURE, strength=0.6),
    a_request(
        "from a picture, ancestral", num_inference_steps=5, seed=7, init_image=PICTURE, strength=1.0, solver="euler_a"
    ),
]
JOINS = [0, 1, 1, 2, 3, 0]


def load_source(source: Path | str) -> Model:
    """Load whatever is at `source`, by what its files say of it."""
    return load(ModelCard(name="tiny", source=str(source)), CPU)


@pytest.fixture(scope="module")
def base(xl_folder: Path) -> Model:
    """The base model."""
    return load_source(xl_folder)


@pytest.fixture
def copy(xl_folder: Path, tmp_path: Path) -> Path:
    """A copy of the base model's folder to spoil."""
    return shutil.copytree(xl_folder, tmp_path / "copy")


def test_in_a_mixed_batch_it_equals_diffusers(base: Model, xl_folder: Path) -> None:
    """Requests that differ in everything, and join and leave at different steps, end where each ends in the pipeline."""
    for request, latents in zip(MIX, denoise(base, open_rows(base, MIX), JOINS), strict=True):
        assert relative_error(latents, oracle.latents(xl_folder, request)) < TOLERANCE, request.request_id


def test_pictures_equal_diffusers(base: Model, xl_folder: Path) -> None:
    """Pictures that are not square, too, differ from the pipeline's by at most one level of 255."""
    requests = [a_request(str(seed), width=96, seed=seed) for seed in (1, 2)]
    rows = open_rows(base, requests)
    denoise(base, rows)
    with torch.inference_mode():
        pictures, failures = Stepper(base).decode(rows)
    assert failures == {}
    for request, row in zip(requests, rows, strict=True):
        found = np.frombuffer(pictures[row], np.uint8).reshape(request.height, request.width, 3).astype(int)
        assert np.abs(found - oracle.picture(xl_folder, request)).max() <= 1


@pytest.mark.parametrize("prompt", ["", "zzz qqq!", "고양이 한 마리", "😀👩‍👩‍👧", "a" * 500])
def test_both_encoders_are_told_the_prompt(prompt: str, base: Model, xl_folder: Path) -> None:
    """Any text is encoded to what the pipeline encodes it to, side by side and pooled."""
    prompted = base.prompt(a_request(prompt=prompt, negative_prompt=prompt + "?"), ())
    wanted = oracle.pipeline(xl_folder).encode_prompt(prompt, device="cpu", negative_prompt=prompt + "?")
    assert prompted.negative is not None
    told = [part[name] for name in ("text", "pooled") for part in (prompted.positive, prompted.negative)]
    for found, expected in zip(told, wanted, strict=True):
        assert torch.allclose(found, expected, atol=1e-6)


def test_an_empty_negative_prompt_is_zeros_where_the_model_says_so(base: Model, copy: Path) -> None:
    """force_zeros_for_empty_prompt makes zeros of a negative prompt that is not given; without it that is encoded."""
    zeros = base.prompt(a_request(), ()).negative
    build_base(copy, force_zeros_for_empty_prompt=False)
    encoded = load_source(copy).prompt(a_request(), ()).negative
    assert zeros is not None
    assert encoded is not None
    assert not zeros["text"].any()
    assert not zeros["pooled"].any()
    assert encoded["text"].std() > 0.1
    assert encoded["pooled"].std() > 0.1


def test_the_sizes_are_told(base: Model) -> None:
    """The UNet is told height and width, an uncropped corner, and height and width again, for both prompts."""
    prompted = base.prompt(a_request(height=72, width=96), ())
    assert prompted.negative is not None
    for told in (prompted.positive, prompted.negative):
        assert told["sizes"].tolist() == [[72, 96, 0, 0, 72, 96]]


def test_a_refiner_is_told_a_score(xl_refiner_folder: Path) -> None:
    """A refiner is told what diffusers tells it: a good aesthetic score, and a bad one for the negative prompt."""
    prompted = load_source(xl_refiner_folder).prompt(a_request(height=72, width=96), ())
    assert prompted.negative is not None
    assert prompted.positive["sizes"].tolist() == [[72, 96, 0, 0, 6.0]]
    assert prompted.negative["sizes"].tolist() == [[72, 96, 0, 0, 2.5]]


def test_a_prompt_that_is_cut_is_told_once(base: Model) -> None:
    """Both encoders drop the same end of a prompt: one warning quotes it."""
    prompted = base.prompt(a_request(prompt=" ".join(["red"] * 75) + " a Blue CAT"), ())
    assert prompted.warnings == ('prompt: cut to 77 tokens; dropped: "a Blue CAT"',)


@pytest.mark.parametrize(("dtype", "decoded"), [("float16", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_vae_is_spared_float16(dtype: str, decoded: torch.dtype, xl_folder: Path) -> None:
    """A VAE that overflows in float16 (force_upcast) decodes in float32 there, and in bfloat16 as it is."""
    model = load(ModelCard(name="tiny", source=str(xl_folder)), EngineSettings(device="cpu", dtype=dtype))
    (latents,) = denoise(model, open_rows(model, [a_request()]))
    with torch.inference_mode():
        picture = model.decode(latents[None])
    assert picture.dtype is decoded
    assert picture.isfinite().all()


def test_another_vae(xl_folder: Path, tmp_path: Path) -> None:
    """A VAE that the card names decodes instead of the model's own, by its own scale and in its own number format."""
    torch.manual_seed(5)
    vae = build_vae(scaling_factor=0.3, force_upcast=False)
    vae.save_pretrained(tmp_path / "vae")
    card = ModelCard(name="tiny", source=str(xl_folder), vae=str(tmp_path / "vae"))
    latents = torch.randn((1, 4, 8, 8))
    with torch.inference_mode():
        found = load(card, CPU).decode(latents)
        wanted = vae.eval().decode(latents / 0.3).sample
        half = load(card, EngineSettings(device="cpu", dtype="float16")).decode(latents)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert half.dtype is torch.float16


@pytest.mark.parametrize("which", ["base", "refiner"])
def test_single_files(which: str, xl_folder: Path, xl_refiner_folder: Path, tmp_path: Path) -> None:
    """The same weights as one file in the original layout, OpenCLIP's for the second encoder, predict the same."""
    folder = xl_folder if which == "base" else xl_refiner_folder
    request, results = a_request(), []
    for source in (folder, build_single_file(folder, tmp_path / f"{which}.safetensors")):
        model = load_source(source)
        results += denoise(model, open_rows(model, [request]))
    assert relative_error(results[1], results[0]) < 1e-5


def test_one_vocabulary_is_enough_for_a_single_file(xl_folder: Path, base: Model, tmp_path: Path) -> None:
    """Where only one tokenizer lies beside a file, the second is made of it: it differs by the token it pads with."""
    file = build_single_file(xl_folder, tmp_path / "tiny.safetensors")
    shutil.rmtree(file.with_suffix(".config") / "tokenizer_2")
    shutil.move(file.with_suffix(".config") / "tokenizer", tmp_path / "tokenizer")
    found, wanted = (model.prompt(a_request(), ()).positive for model in (load_source(file), base))
    assert torch.allclose(found["text"], wanted["text"], atol=1e-6)


def test_a_single_file_without_a_tokenizer(xl_folder: Path, tmp_path: Path) -> None:
    """Where no tokenizer can be had, the error says which files to put where."""
    file = build_single_file(xl_folder, tmp_path / "tiny.safetensors")
    shutil.rmtree(file.with_suffix(".config") / "tokenizer")
    shutil.rmtree(file.with_suffix(".config") / "tokenizer_2")
    with pytest.raises(ModelLoadError, match=r"put its vocab.json, merges.txt .* into .*/tokenizer"):
        load_source(file)


@pytest.mark.parametrize("network", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_weights_that_are_not_in_the_file(network: str, copy: Path) -> None:
    """A checkpoint that lacks a tensor is refused, not filled up with noise."""
    (path,) = (copy / network).glob("*.safetensors")
    tensors = load_file(path)
    del tensors[sorted(tensors)[-1]]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=str(copy)):
        load_source(copy)


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "tokenizer_2"])
def test_missing_parts(part: str, copy: Path) -> None:
    """A folder without one of its parts is refused by that part's name."""
    shutil.rmtree(copy / part)
    with pytest.raises(ModelLoadError, match=rf"{part}: (there is no such folder|its vocabulary is missing)"):
        load_source(copy)


@pytest.mark.parametrize("part", ["unet", "text_encoder_2"])
def test_pickles_are_refused(part: str, copy: Path) -> None:
    """A folder with only a pickle for one of its networks is refused with that file's name."""
    (path,) = (copy / part).glob("*.safetensors")
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(ModelLoadError, match=rf"{part}/{path.stem}.bin: a pickle"):
        load_source(copy)


def test_a_network_that_takes_other_numbers(copy: Path, xl_refiner_folder: Path) -> None:
    """A UNet that is told another number of sizes than this family's is refused."""
    index = copy / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "StableDiffusionXLImg2ImgPipeline"}))
    load_source(copy)  # a base model that this pipeline saved is one all the same
    scored = shutil.copytree(xl_refiner_folder, copy.parent / "scored") / "model_index.json"
    scored.write_text(json.dumps(json.loads(scored.read_text()) | {"requires_aesthetics_score": False}))
    with pytest.raises(ModelLoadError, match="unet: takes 60 numbers beside the prompt, not the 68 it would be told"):
        load_source(scored.parent)


@pytest.mark.parametrize(("key", "value"), [("time_cond_proj_dim", 8), ("addition_embed_type", "text")])
def test_a_network_that_takes_other_inputs(key: str, value: object, copy: Path) -> None:
    """A UNet that is to be told something else, as the guidance scale, is refused by the entry that says so."""
    config = dict(base_networks().unet.config) | {key: value, "_use_default_values": []}
    diffusers.UNet2DConditionModel.from_config(config).save_pretrained(copy / "unet")
    with pytest.raises(ModelLoadError, match=f"unet: {key} is {value!r}, this family's is"):
        load_source(copy)


def test_another_family(copy: Path, epsilon_folder: Path) -> None:
    """A card that names the wrong family for its files is refused, either way round."""
    for folder, family in ((copy, "sd15"), (epsilon_folder, "sdxl")):
        with pytest.raises(ModelLoadError, match="is not known to this family"):
            load(ModelCard(name="tiny", source=str(folder), family=family), CPU)


def test_cards_know_the_family(xl_folder: Path, epsilon_folder: Path, single_file: Path, tmp_path: Path) -> None:
    """A card takes its defaults from the family that the files are of, folder or single file, and its size from what they are
    configured for."""
    plain = tmp_path / "plain.safetensors"
    shutil.copy(build_single_file(xl_folder, tmp_path / "xl.safetensors"), plain)
    found = {source: read_card("any", str(source)) for source in (xl_folder, plain, epsilon_folder, single_file)}
    assert [card.family for card in found.values()] == ["sdxl", "sdxl", "sd15", "sd15"]
    assert [card.defaults.num_inference_steps for card in found.values()] == [30, 30, 50, 50]
    assert [card.defaults.width for card in found.values()] == [64, 1024, 64, 64]
    assert found[plain].defaults.num_inference_steps == 30
    assert found[plain].defaults.guidance_scale == 5.0


def test_files_that_tell_no_family(tmp_path: Path) -> None:
    """A card of a file that is no model is read all the same; loading says what is wrong with it."""
    lora, damaged = tmp_path / "lora.safetensors", tmp_path / "damaged.safetensors"
    save_file({"lora_unet.weight": torch.zeros(4)}, lora)
    damaged.write_bytes(b"\xff" * 100)
    for source, problem in ((lora, "holds no tensor that tells"), (damaged, "not a sound safetensors file")):
        assert read_card("any", str(source)).family == ""
        with pytest.raises(ModelLoadError, match=problem):
            load_source(source)


@pytest.mark.parametrize(("name", "unet_size"), [("sdxl", 2_567_463_684), ("sdxl_refiner", 2_259_526_660)])
def test_shipped_configurations(name: str, unet_size: int) -> None:
    """The configurations shipped for single files are Stable Diffusion XL's, by its published numbers of parameters."""
    folder = CONFIGS / name
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(json.loads((folder / "unet/config.json").read_text()))
        vae = diffusers.AutoencoderKL.from_config(json.loads((folder / "vae/config.json").read_text()))
        second = transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig.from_pretrained(folder / "text_encoder_2")
        )
    sizes = [sum(weight.numel() for weight in network.parameters()) for network in (unet, vae, second)]
    assert sizes == [unet_size, 83_653_863, 694_659_840]
    assert vae.config.scaling_factor == 0.13025
