"""Trains the UNet on the latents of drawn pictures: `python -m models.training.unet`.

VAE and text encoder are done and frozen. v prediction on a scaled-linear schedule, every error
counted alike; one prompt in seventeen is empty and one in seven a mere word, for guidance.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel

from models.training.muon import MuonAndAdamW
from models.training.runs import Average, Meter, Run, device_at_hand, half_precision, kept
from models.training.text import WIDTH, tokens_of, told
from models.training.tokenizer import build
from models.training.vae import LATENT_CHANNELS, to_signed, to_uint8
from models.training.world import Scene, draw_scene, training_scenes

# The upper level is thin, for edges; what to paint is decided at 8 x 8 and 4 x 4, where it costs little.
CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "block_out_channels": (48, 96, 128),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "attention_head_dim": 4,  # heads, in truth: diffusers' old name for them
    "cross_attention_dim": WIDTH,
}
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.02,  # not 0.012: flat grounds would shine through what should be pure noise
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "steps_offset": 1,
}

_SMALL_OFTENER = 2.0  # a small scene is drawn so many times as often as another: most mistakes are small ones


class Noising:
    """The noise schedule."""

    def __init__(self, device: torch.device) -> None:
        start, end = (float(SCHEDULER[name]) ** 0.5 for name in ("beta_start", "beta_end"))
        betas = torch.linspace(start, end, SCHEDULER["num_train_timesteps"], dtype=torch.float64) ** 2
        signal = (1 - betas).cumprod(0)
        self._alpha, self._sigma = signal.sqrt().float().to(device), (1 - signal).sqrt().float().to(device)

    def noisy(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The noisy latents, and the v to be predicted."""
        alpha, sigma = self._alpha[timesteps].view(-1, 1, 1, 1), self._sigma[timesteps].view(-1, 1, 1, 1)
        return alpha * clean + sigma * noise, alpha * noise - sigma * clean


def draw_timesteps(count: int) -> Tensor:
    """Timesteps to train on: mostly those between 200 and 800, where it is decided what shape will be seen."""
    anywhere, between = torch.randint(1000, (count,)), torch.randint(200, 800, (count,))
    return torch.where(torch.rand(count) < 0.3, anywhere, between)


def draw_latents(vae: AutoencoderKL, scenes: list[Scene], seed: int, device: torch.device) -> Tensor:
    """The scenes' pictures as scaled latents, fp16."""
    random, latents = Random(seed), []
    for start in range(0, len(scenes), 64):
        pictures = torch.stack([to_uint8(draw_scene(scene, random)) for scene in scenes[start : start + 64]])
        with torch.no_grad(), half_precision(device):
            encoded = vae.encode(to_signed(pictures.to(device))).latent_dist.mode() * vae.config.scaling_factor
        latents.append(encoded.half())
    return torch.cat(latents)


def new_unet(start: Path | None) -> UNet2DConditionModel:
    """An untrained UNet, or one that goes on from the weights in the folder `start`."""
    if start is None:
        return UNet2DConditionModel(**CONFIG)
    unet: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(start, torch_dtype=torch.float32)
    return unet


def train(arguments: argparse.Namespace) -> None:
    """Train, then write the average weights in fp16, and the scheduler's configuration."""
    device, tokenizer = device_at_hand(), build()
    torch.manual_seed(arguments.seed)
    vae = AutoencoderKL.from_pretrained(arguments.model / "vae").to(device, torch.float32).eval()
    encoder = (
        CLIPTextModel.from_pretrained(str(arguments.model / "text_encoder"), dtype=torch.float32).to(device).eval()
    )
    scenes = Random(arguments.seed).sample(training_scenes(), arguments.scenes) * arguments.drawn
    latents = kept(arguments.work / "latents.pt", device, partial(draw_latents, vae, scenes, arguments.seed, device))
    unet = new_unet(arguments.start).to(device).train()
    often = torch.tensor([_SMALL_OFTENER if scene.size == "small" else 1.0 for scene in scenes])
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # the fused attention's backward costs a fifth of a step there
    optimizer, average, meter, noising = MuonAndAdamW(unet), Average(unet, arguments.average), Meter(), Noising(device)
    state = {"unet": unet, "optimizer": optimizer, "average": average.network}
    for step in Run(arguments.work, arguments.steps, arguments.rate, state, arguments.minutes):
        random = Random(arguments.seed * 1_000_003 + step)
        chosen = torch.multinomial(often, arguments.batch)
        prompts = [told(scenes[i], random)[0] for i in chosen.tolist()]
        clean = latents[chosen].float()
        timesteps = draw_timesteps(arguments.batch).to(device)
        noisy, wanted = noising.noisy(clean, torch.randn(clean.shape).to(device), timesteps)
        with half_precision(device):
            with torch.no_grad():
                words = encoder(tokens_of(tokenizer, prompts).to(device)).last_hidden_state
            found = unet(noisy, timesteps, encoder_hidden_states=words, return_dict=False)[0]
        errors = (found.float() - wanted).square().mean((1, 2, 3))
        optimizer.zero_grad()
        errors.mean().backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.update(unet, step)
        high = timesteps > 500
        meter.add(loss=errors.mean(), high=errors[high].mean(), low=errors[~high].mean())
        if step % 50 == 49:
            print(meter, flush=True)
        if step % 500 == 499:
            save(average, arguments.model)
    save(average, arguments.model)


def save(average: Average, folder: Path) -> None:
    """Write UNet and scheduler into a model's folder."""
    unet = UNet2DConditionModel(**CONFIG)
    unet.load_state_dict(average.network.state_dict())
    unet.to(dtype=torch.float16).save_pretrained(folder / "unet")
    DPMSolverMultistepScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.training.unet", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("build/model"), help="has vae/ and text_encoder/")
    parser.add_argument("--start", type=Path, help="a UNet's folder to go on from")
    parser.add_argument("--work", type=Path, default=Path("build/model/unet-run"), help="state to resume from")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--minutes", type=float, default=1e9, help="end by then, however many steps were made")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--average", type=float, default=0.998)
    parser.add_argument("--scenes", type=int, default=23_260)
    parser.add_argument("--drawn", type=int, default=1, help="pictures of each scene, moved and grown at random")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # of the whole process, so not in `train`, which tests call too
    train(parse())
