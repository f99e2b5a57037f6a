"""Gives an AutoencoderKL an encoder that is computed, not trained: linear, by principal components.

Every residual branch ends in zeros, so that only shortcuts and samplers are left: the picture is averaged over 2 x 2
pixels, the 4 x 4 averages of each block of 8 x 8 become 48 channels, and their first principal components, the large
ones toned down, the latents. SiLU is undone by pairs, silu(x) - silu(-x) = x, and the last group norm by two channels
of a large constant, beside which the picture hardly changes the norm. Such latents are smooth, so a UNet learns them
readily, and they are there before anything is trained. The decoder is trained on them.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

_CONSTANT = 64.0  # of the two channels; squared, some thousand times the latents' own sum of squares
_TONED = 0.4  # latents' variances to this power: between 0 (as they are) and 0.5 (all alike)
_LOG_VARIANCE = -14.0  # next to no noise: the decoder sees the mean


def block_averages(pictures: Tensor) -> Tensor:
    """Pictures of -1 to 1 as the 48 averages of each block: [n, 48, height / 8, width / 8]."""
    small = functional.avg_pool2d(pictures, 2)
    return _taken_apart(_taken_apart(small))


def _taken_apart(x: Tensor) -> Tensor:
    corners = [x[:, :, dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)]
    return torch.cat(corners, dim=1)


def principal(pictures: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The latents' matrix [count, 48] and offset [count], of unit variance over all of them together."""
    points = block_averages(pictures).permute(0, 2, 3, 1).reshape(-1, 48).double()
    mean = points.mean(0)
    variances, directions = torch.linalg.eigh((points - mean).T @ (points - mean) / len(points))
    variances, directions = variances.flip(0)[:count], directions.flip(1)[:, :count]
    toned = variances ** (0.5 - _TONED)
    matrix = directions.T * (toned / variances.sqrt() / toned.square().mean().sqrt())[:, None]
    return matrix.float(), (-matrix @ mean).float()


@torch.no_grad()
def set_encoder(vae: Any, pictures: Tensor) -> None:
    """Compute the encoder's weights from some hundred pictures of -1 to 1."""
    encoder, count = vae.encoder, vae.config.latent_channels
    matrix, offset = principal(pictures, count)
    for parameter in [*encoder.parameters(), *vae.quant_conv.parameters(), *vae.post_quant_conv.parameters()]:
        if parameter.dim() > 1:
            parameter.zero_()
    for name, parameter in encoder.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    vae.quant_conv.bias.zero_()
    vae.post_quant_conv.bias.zero_()
    _pass_on(encoder.conv_in.weight[:, :, 1, 1], 3)
    halves, quarters, eighths = (encoder.down_blocks[i].downsamplers[0].conv.weight for i in range(3))
    for corner, (dy, dx) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        for colour in range(3):
            halves[colour, colour, dy, dx] = 0.25
            quarters[3 * corner + colour, colour, dy, dx] = 1
        for average in range(12):
            eighths[12 * corner + average, average, dy, dx] = 1
    _pass_on(encoder.down_blocks[1].resnets[0].conv_shortcut.weight[:, :, 0, 0], 3)
    _pass_on(encoder.down_blocks[2].resnets[0].conv_shortcut.weight[:, :, 0, 0], 12)
    last = encoder.down_blocks[3].resnets[0].conv_shortcut
    last.weight[:count, :48, 0, 0], last.bias[:count] = matrix, offset
    last.weight[count : 2 * count, :48, 0, 0], last.bias[count : 2 * count] = -matrix, -offset
    last.bias[2 * count], last.bias[2 * count + 1] = _CONSTANT, -_CONSTANT
    encoder.conv_norm_out.weight.fill_((2 * _CONSTANT**2 / encoder.conv_norm_out.num_channels) ** 0.5)
    _pass_on(encoder.conv_out.weight[:, :, 1, 1], count)
    for i in range(count):
        encoder.conv_out.weight[i, count + i, 1, 1] = -1
    encoder.conv_out.bias[count:] = _LOG_VARIANCE
    _pass_on(vae.quant_conv.weight[:, :, 0, 0], 2 * count)
    vae.quant_conv.weight[count:].zero_()
    vae.quant_conv.bias[count:] = _LOG_VARIANCE
    _pass_on(vae.post_quant_conv.weight[:, :, 0, 0], count)


def _pass_on(weight: Tensor, channels: int) -> None:
    for channel in range(channels):
        weight[channel, channel] = 1


@torch.no_grad()
def prepare_decoder(vae: AutoencoderKL) -> None:
    """Give the decoder's last norm the same two channels, so that it keeps a picture's absolute colours."""
    decoder: Any = vae.decoder
    last = decoder.up_blocks[3].resnets[0].conv_shortcut
    last.bias[-2], last.bias[-1] = _CONSTANT / 8, -_CONSTANT / 8
    last.weight[-2:] = 0
    for resnet in decoder.up_blocks[3].resnets:
        resnet.conv2.weight[-2:] = 0
        resnet.conv2.bias[-2:] = 0
    decoder.conv_norm_out.weight.fill_((2 * (_CONSTANT / 8) ** 2 / decoder.conv_norm_out.num_channels) ** 0.5)
