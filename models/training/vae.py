"""Trains the VAE's decoder: `python -m models.training.vae`.

An AutoencoderKL that makes 16 x 16 x 16 latents of 128 x 128 pictures. Its encoder is computed (`linear`) and written
first, so that the UNet can be trained at the same time as the decoder.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from models.training.linear import prepare_decoder, set_encoder
from models.training.muon import MuonAndAdamW
from models.training.runs import Average, Meter, Run, device_at_hand, half_precision
from models.training.shapes import SIZE, Floats
from models.training.styles import STYLES
from models.training.world import colour_of, draw_scene_mask, training_scenes

LATENT_CHANNELS = 16  # of 192 numbers a block of 8 x 8 pixels has; with 4 a small star was taken for a flower
CONFIG: dict[str, Any] = {
    "block_out_channels": (8, 32, 64, 96),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": LATENT_CHANNELS,
    "layers_per_block": 1,
    "mid_block_add_attention": False,
    "norm_num_groups": 1,
    "sample_size": 128,
    "scaling_factor": 1.0,  # the latents are made with unit variance
}
CROP = 64  # pixels: a quarter of the work, and four times as many pictures seen
_WHOLE = 0.7  # of the run, after which whole pictures are seen: the norms' statistics are those of whole pictures
_PLAIN = 0.25  # of the crops without an edge that are kept


def draw_pool(count: int, styled: float, seed: int) -> Tensor:
    """Pictures of training scenes, the share `styled` of them in a style: uint8 [count, 3, SIZE, SIZE]."""
    random, generator = Random(seed), np.random.default_rng(seed)
    scenes, names = training_scenes(), list(STYLES)
    pictures = []
    for _ in range(count):
        scene = random.choice(scenes)
        mask, colour, ground = draw_scene_mask(scene, random), colour_of(scene.colour), colour_of(scene.ground)
        picture = mask[..., None] * colour + (1 - mask[..., None]) * ground
        if random.random() < styled:
            picture = STYLES[random.choice(names)](mask, colour, ground, generator)
        pictures.append(to_uint8(picture))
    return torch.stack(pictures)


def to_uint8(picture: Floats) -> Tensor:
    """[height, width, 3] of 0 to 1 as uint8 [3, height, width]."""
    return torch.from_numpy((picture * 255).round().astype(np.uint8)).permute(2, 0, 1)


def to_signed(pictures: Tensor) -> Tensor:
    """uint8 as the VAE wants it: -1 to 1."""
    return pictures.float() / 127.5 - 1


def crops_of(pool: Tensor, count: int, size: int) -> Tensor:
    """Random crops at multiples of eight pixels, where latent pixels begin; of bare ground only a few."""
    crops: list[Tensor] = []
    while len(crops) < count:
        i = int(torch.randint(len(pool), ()))
        y, x = (8 * torch.randint((pool.shape[-1] - size) // 8 + 1, (2,))).tolist()
        crop = pool[i, :, y : y + size, x : x + size]
        if bool((crop != crop[:, :1, :1]).any()) or float(torch.rand(())) < _PLAIN:
            crops.append(crop)
    return torch.stack(crops)


def picture_loss(painted: Tensor, truth: Tensor) -> Tensor:
    """L1 and half L2, and L1 of the differences between neighbours, which keeps edges where they are."""
    edges = sum((painted.diff(dim=axis) - truth.diff(dim=axis)).abs().mean() for axis in (2, 3))
    return functional.l1_loss(painted, truth) + 0.5 * functional.mse_loss(painted, truth) + edges


def new_vae(arguments: argparse.Namespace) -> AutoencoderKL:
    """The VAE with its encoder done and its decoder untrained, or one that goes on from the weights in `start`."""
    if arguments.start is not None:
        started: AutoencoderKL = AutoencoderKL.from_pretrained(arguments.start, torch_dtype=torch.float32)
        return started.eval()
    torch.manual_seed(arguments.seed)
    vae = AutoencoderKL(**CONFIG)
    set_encoder(vae, to_signed(draw_pool(400, 0.0, arguments.seed + 1)))
    prepare_decoder(vae)
    return vae.eval()


def train(arguments: argparse.Namespace) -> None:
    """Write the encoder, train the decoder, and write the VAE again, in fp16."""
    device, vae = device_at_hand(), new_vae(arguments)
    vae.to(torch.float16).save_pretrained(arguments.out)
    vae.to(device, torch.float32)
    pool = draw_pool(arguments.pool, arguments.styled, arguments.seed).to(device)
    decoder, meter = vae.decoder.train(), Meter()
    optimizer, average = MuonAndAdamW(decoder, outer=("conv_in", "conv_out")), Average(decoder, 0.99)
    state = {"decoder": decoder, "optimizer": optimizer, "average": average.network}
    run = Run(arguments.work, arguments.steps, arguments.rate, state, arguments.minutes)
    for step in run:
        whole = run.done > _WHOLE
        truth = to_signed(crops_of(pool, arguments.batch // 4 if whole else arguments.batch, SIZE if whole else CROP))
        with half_precision(device):
            with torch.no_grad():
                latents = vae.encode(truth).latent_dist.mode()
                strength = arguments.noise * torch.rand(len(latents), 1, 1, 1)  # not one that could be counted on
                latents = latents + (strength * torch.randn(latents.shape)).to(device)
            painted = decoder(latents)
        loss = picture_loss(painted.float(), truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        average.update(decoder, step)
        meter.add(loss=loss)
        if step % 50 == 49:
            print(meter, flush=True)
        if step % 200 == 199:
            save(vae, average, arguments.out)
    save(vae, average, arguments.out)


def save(vae: AutoencoderKL, average: Average, folder: Path) -> None:
    """Write the VAE with the decoder's average weights."""
    whole = copy.deepcopy(vae).cpu()
    whole.decoder.load_state_dict(average.network.state_dict())
    whole.to(torch.float16).save_pretrained(folder)


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.training.vae", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/model/vae"))
    parser.add_argument("--start", type=Path, help="a VAE's folder to go on from, its encoder kept as it is")
    parser.add_argument("--work", type=Path, default=Path("build/model/vae-run"), help="state to resume from")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=1e9, help="end by then, however many steps were made")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pool", type=int, default=8000)
    parser.add_argument("--styled", type=float, default=0.0, help="share of pictures in one of the ten styles")
    parser.add_argument("--noise", type=float, default=0.3, help="at most, on the latents: a UNet's are never exact")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


if __name__ == "__main__":
    train(parse())
