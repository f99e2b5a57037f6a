"""The settings of the models, of the engine and of the devices it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from config.fields import setting
from config.local_model import local_model

DEMO_MODEL = Path(__file__).resolve().parent.parent / "models" / "demo"
TEXT_DEMO_MODEL = DEMO_MODEL.with_name("text-demo")
_MODEL_NAME = re.compile(r"[A-Za-z0-9._/-]{1,100}")


class PaintingSettings(BaseSettings):
    """Part of `config.Settings`."""

    models: Annotated[dict[str, str], NoDecode] = setting(
        {}, "MODELS",
        why="name=source,name=source: diffusers folders, .safetensors files or hub ids. The first is the default.",
    )  # fmt: skip
    model_id: str = setting(
        "", "MODEL_ID", "MODEL_ID",
        why="One model by its source, before all of ATELIER_MODELS. With neither: what lies in ./model, else the embedded one.",
    )  # fmt: skip
    adapters_dir: Path | None = setting(
        None, "ADAPTERS_DIR",
        why="A folder of adapters for every model, beside each model's own `adapters/` (docs/adapters.md).",
    )  # fmt: skip
    adapter_slots: int = setting(
        64, "ADAPTER_SLOTS", ge=1, le=4096,
        why="Room in memory for adapters, for each model: a slot holds eight ranks, 10 MB of SD 1.5 in float16, 40 of SDXL.",
    )  # fmt: skip
    max_adapter_bytes: int = setting(
        200_000_000, "MAX_ADAPTER_BYTES", ge=1000,
        why="Of one adapter's files. kohya's usual layers of SD 1.5 at rank 128 have 151 MB; it is read whole.",
    )  # fmt: skip
    max_adapter_rank: int = setting(
        128, "MAX_ADAPTER_RANK", ge=1, le=1024,
        why="Beyond, an adapter is hardly smaller than what it changes; most have 4 to 64.",
    )  # fmt: skip
    device: str = setting(
        "auto", "DEVICE", "DEVICE", pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        why="auto takes the first CUDA device, or the CPU where there is none.",
    )  # fmt: skip
    devices: Annotated[tuple[str, ...], NoDecode] = setting(
        (), "DEVICES",
        why="Several devices, each with an engine of its own: cuda:0,cuda:1. They share one queue. None: the one of DEVICE.",
    )  # fmt: skip
    enable_gpu: bool = setting(
        True, "ENABLE_GPU", "ENABLE_GPU", why="Whether DEVICE=auto may take a CUDA device; false is the CPU."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = setting(
        "auto", "DTYPE", "DTYPE", why="auto is float16 on CUDA and float32 on the CPU."
    )
    max_batch: int = setting(
        16, "MAX_BATCH", "MAX_CONCURRENT_GENERATIONS", "MAX_CONCURRENCY", ge=1, le=256,
        why="Pictures denoised together. More share one pass, and each step then takes longer.",
    )  # fmt: skip
    max_step_seconds: float = setting(
        1.0, "MAX_STEP_SECONDS", gt=0,
        why="Whoever joins or cancels waits for a step. A batch whose step takes longer only grows while that pays.",
    )  # fmt: skip
    parking: bool = setting(
        True, "PARKING",
        why="A job of higher priority may take the place of one that is being painted, which goes on later.",
    )  # fmt: skip
    max_parked: int = setting(
        32, "MAX_PARKED", ge=0, le=10_000,
        why="Pictures parked at a time; each keeps its latents and adapters in the device's memory.",
    )  # fmt: skip
    max_texts: int = setting(
        32, "MAX_TEXTS", ge=1, le=10_000,
        why="Texts of one model that are written together: a pass reads all weights, however many rows it serves.",
    )  # fmt: skip
    max_passed_over: int = setting(
        9, "MAX_PASSED_OVER", ge=1, le=10_000,
        why="So many seats in a row may go past a lower priority that waits; the next is its. No priority starves.",
    )  # fmt: skip
    torch_threads: int = setting(
        0, "TORCH_THREADS", ge=0, le=1024,
        why="The engine's CPU threads, at most: fewer are taken where that is quicker, which is tried. 0: one a core.",
    )  # fmt: skip

    memory_limit: ByteSize = setting(
        0, "MEMORY_LIMIT", validate_default=True,
        why="Of each device: 6GiB, 500MB. Models are unloaded and batches made smaller to keep to it. 0: all but the reserve.",
    )  # fmt: skip
    memory_reserve: ByteSize = setting(
        "1GiB", "MEMORY_RESERVE", validate_default=True,
        why="Left free of a device where there is no MEMORY_LIMIT: the driver and the libraries take 0.5 to 0.8 GB beside.",
    )  # fmt: skip
    idle_unload: float = setting(
        0.0, "IDLE_UNLOAD", ge=0,
        why="A model that nobody used for so long is unloaded; its next job waits for it. 0: only when another needs the room.",
    )  # fmt: skip

    weights: Literal["same", "int8"] = setting(
        "same", "WEIGHTS",
        why="int8: the linear layers' weights in a quarter of float32's room, half of float16's (docs/small-cards.md).",
    )  # fmt: skip
    attention: Literal["sdpa", "sliced"] = setting(
        "sdpa", "ATTENTION",
        why="sdpa is torch's fused attention, which takes little memory. sliced: head by head, where a device lacks it.",
    )  # fmt: skip
    vae_slicing: bool = setting(
        False, "VAE_SLICING", why="Decode picture by picture: the memory of one, the time of all."
    )
    vae_tiling: bool = setting(
        False, "VAE_TILING", why="Decode large pictures in overlapping tiles. Colours may shift a little between them."
    )
    cpu_offload: Literal["none", "encoders", "layers"] = setting(
        "none", "CPU_OFFLOAD",
        why="encoders: text encoders and VAE are on the GPU while they run only. layers: the UNet layer by layer too, slowly.",
    )  # fmt: skip

    @field_validator("models", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        models: dict[str, str] = {}
        for pair in filter(None, (part.strip() for part in value.split(","))):
            name, equals, source = pair.partition("=")
            if not equals or not source or not _MODEL_NAME.fullmatch(name):
                raise ValueError(f"{pair!r} must be name=source")
            if name in models:
                raise ValueError(f"{name} stands twice")
            models[name] = source
        return models

    @field_validator("devices", mode="before")
    @classmethod
    def _split_devices(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        devices = tuple(filter(None, (part.strip() for part in value.split(","))))
        for device in devices:
            if not re.fullmatch(r"cpu|cuda:\d+", device):
                raise ValueError(f"{device[:32]!r} is neither cpu nor cuda:NUMBER")
            if device != "cpu" and devices.count(device) > 1:
                raise ValueError(f"{device} stands twice; two engines on one device only share its time")
        return devices

    @model_validator(mode="after")
    def _measures_go_together(self) -> Self:
        if self.weights == "int8" and self.cpu_offload == "layers":
            raise ValueError("ATELIER_WEIGHTS=int8 cannot be used with ATELIER_CPU_OFFLOAD=layers")
        return self

    def engine_devices(self) -> tuple[str, ...]:
        """The devices, each of which has an engine."""
        return self.devices or ("cpu" if self.device == "auto" and not self.enable_gpu else self.device,)

    def model_sources(self) -> dict[str, str]:
        """Name → source, the default first. Where none is named: what lies in the folder `model/`, else the two embedded
        models: one that paints, and one that writes prompts for it."""
        chosen = {self.model_id: self.model_id} if self.model_id else {}
        chosen.update(self.models)
        return chosen or local_model() or {"demo": str(DEMO_MODEL), "text-demo": str(TEXT_DEMO_MODEL)}
