"""How far an image is, as bytes that outlive the process: parked or cut short, it goes on from there. Imports torch.

The bytes are a safetensors file: latents, the last step's prediction (the solver's history), the generator's state, and what
must be as it was for the rest to be the same picture. What was asked for is not in them: that is the request's.
"""

from __future__ import annotations

import hashlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ai.families.family import Model
from ai.stepping import Row

FORMAT = 1


def row_bytes(model: Model, row: Row) -> bytes:
    """A row that has made a step, and is the base model's still."""
    tensors = {
        "latents": row.latents,
        "x0": row.x0,
        "generator": row.generator.get_state(),
        "step": torch.tensor(row.step),
        "basis": _basis(model, row),
    }
    noise = row.drawn_noise
    if noise is not None:
        tensors["noise"] = noise
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def restore_row(model: Model, row: Row, data: bytes) -> bool:
    """Bring a row that was just opened to where it was. False, and no change, where it would not become the same picture."""
    try:
        saved = load(data)
    except (SafetensorError, ValueError):
        return False
    if saved.keys() - {"noise"} != {"latents", "x0", "generator", "step", "basis"}:
        return False
    if not torch.equal(saved["basis"], _basis(model, row)) or saved["latents"].shape != row.latents.shape:
        return False
    device = row.latents.device
    row.go_on(int(saved["step"]), saved["latents"].to(device), saved["x0"].to(device), saved.get("noise"))
    row.generator.set_state(saved["generator"])
    return True


def _basis(model: Model, row: Row) -> torch.Tensor:
    """A hash of what the request does not say: the solver's numbers, what the adapters hold, the size of the model."""
    digest = hashlib.sha256(f"{FORMAT} {model.weight_bytes} {row.handover} {row.guidance_scale}".encode())
    digest.update(row.table.rows.tobytes())
    for resident, scale in row.worn:
        digest.update(f"{resident.content_hash} {scale}".encode())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
