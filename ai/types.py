"""What goes into the engine and what comes out of it: plain data, importable without torch.

A request becomes `num_images` samples; sample i starts from the noise of `seed + i`. Per request the engine says
`Started` once, `Stepped` at every step, `Previewed` when asked to, and exactly one of `Finished`, `Failed`
and `Canceled`, which is always the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

# As float16, rank 128 on Stable Diffusion 1.5's transformer blocks and text encoder (what kohya's scripts train) has 151 MB,
# and what people share is mostly a tenth of that. Reading one holds up the step loop, so there is a limit.
MAX_ADAPTER_BYTES = 200_000_000
# Beyond it a low-rank change is hardly one any more (the networks' narrowest layers have 320 features), and a batch of
# several adapters pads all of them to the largest.
MAX_ADAPTER_RANK = 128
# Per model. Thirty-two of the usual 10 to 40 MB are about the memory of one more model.
RESIDENT_ADAPTERS = 32


class Phase(StrEnum):
    """Where a request stands while the engine has it."""

    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Where and how an engine runs. Plain text and numbers, so that reading them needs no torch.

    `device` is "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:1". `dtype` is "auto" (float16 on
    CUDA, float32 on the CPU), "float32", "float16" or "bfloat16".
    """

    device: str = "auto"
    dtype: str = "auto"
    max_batch: int = 16  # samples per forward pass; with guidance the network sees twice as many rows
    torch_threads: int = 0  # threads inside one torch operation on the CPU; 0 leaves it to torch
    resident_adapters: int = RESIDENT_ADAPTERS  # kept in memory for each model; the least recently used goes first
    max_adapter_bytes: int = MAX_ADAPTER_BYTES  # of an adapter's files together
    max_adapter_rank: int = MAX_ADAPTER_RANK

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", "float32", "float16", "bfloat16"):
            raise ValueError(f"dtype: {self.dtype!r} is none of auto, float32, float16, bfloat16")
        if self.max_batch < 1:
            raise ValueError(f"max_batch: must be at least 1, is {self.max_batch}")
        if self.torch_threads < 0:
            raise ValueError(f"torch_threads: must be 0 or more, is {self.torch_threads}")
        for name in ("resident_adapters", "max_adapter_bytes", "max_adapter_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, is {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """One style of a picture, and how strongly: 0 is not at all, 1 as trained, negative away from it.

    The name is one of the model card's `adapters`; where its file lies is known to the card alone.
    """

    name: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One request, complete: every default has been filled in and every limit checked by whoever made it.

    Sizes are pixels, `seed` is the seed of the first image (0 … 2**63 - 1), `guidance_scale` of 1 or less switches
    guidance off, a higher `priority` is seated first, `preview_every` counts steps (0: no previews). The `adapters` add up,
    in whatever order; one that is named twice has the sum of its scales.
    """

    request_id: str
    model: str
    prompt: str
    negative_prompt: str = ""
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    num_images: int = 1
    adapters: tuple[AdapterUse, ...] = ()
    solver: str = "dpmpp_2m"
    priority: int = 0
    preview_every: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """One finished image: `rgb` holds height × width × 3 bytes, rows from the top."""

    seed: int
    width: int
    height: int
    rgb: bytes


@dataclass(frozen=True, slots=True)
class ModelReady:
    """A model is in memory and can paint."""

    model: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelUnavailable:
    """A model could not be loaded; requests for it fail with the same error."""

    model: str
    error: EngineError


@dataclass(frozen=True, slots=True)
class Started:
    """The request has a place in the batch."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step was made. `step` is the lowest of the request's images, of `total` steps each; `fraction` (0 to 1) is the share of
    all its steps that are done; `eta_seconds` is what the present pace leaves."""

    request_id: str
    phase: Phase
    step: int
    total: int
    fraction: float
    eta_seconds: float


@dataclass(frozen=True, slots=True)
class Previewed:
    """A rough look at what the picture is becoming: latent-sized, `rgb` as in `Picture`."""

    request_id: str
    image_index: int
    step: int
    width: int
    height: int
    rgb: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """All images of the request, in order, and what its author should know (a truncated prompt, say)."""

    request_id: str
    pictures: tuple[Picture, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed; nothing of it is left in the engine."""

    request_id: str
    error: EngineError


@dataclass(frozen=True, slots=True)
class Canceled:
    """The request was cancelled and its rows are free."""

    request_id: str


EngineEvent = ModelReady | ModelUnavailable | Started | Stepped | Previewed | Finished | Failed | Canceled

Deliver = Callable[[Sequence[EngineEvent]], None]
"""Takes what happened during one step, in order. Called on the engine's thread, at most once a step for the whole batch.

(A turn of the loop that loads a model, or only takes in a refusal or a cancel, counts as a step without samples.)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNumbers:
    """What the engine measured, for status pages and metrics.

    `running` and `waiting` count samples (images), `last_batch` those of the last forward step, `steps` the steps made
    since the engine was built, `step_seconds` what the last one took, `device` where ("" until torch is loaded).
    """

    running: int = 0
    waiting: int = 0
    last_batch: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    device: str = ""


class EngineError(Exception):
    """Something the engine could not do. Text for people is in `str(error)`.

    EngineError
    ├── ModelLoadError       a model's files are missing, refused, damaged or of no known family
    ├── AdapterError         an adapter's files are missing, refused, damaged or made for another model
    ├── OutOfMemory          the device had no room for this request even alone
    ├── GenerationError      the step itself failed for this request
    └── EngineStopped        submitted after `stop()`
    """


class ModelLoadError(EngineError):
    """A model cannot be loaded: missing files, a pickle, an unknown family."""


class AdapterError(EngineError):
    """An adapter cannot be used: no such file, a pickle, an unknown layout or key, shapes of another base model."""


class OutOfMemory(EngineError):
    """The device has no room for this request even when it runs alone."""


class GenerationError(EngineError):
    """The request's own step failed (its latents became NaN, the network raised)."""


class EngineStopped(EngineError):
    """The engine was stopped and takes no more work."""
