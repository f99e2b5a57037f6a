"""What goes into the engine and what comes out of it: plain data, importable without torch.

A request becomes `num_images` samples; sample i starts from the noise of `seed + i`. Per request the engine says
`Started` once, `Stepped` at every step, `Parked` when it has to wait on the way, `Previewed` when asked to, and exactly one
of `Finished`, `Failed` and `Canceled`, which is always the last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ai.histogram import NO_ROWS, NO_SECONDS, Histogram

# As float16, rank 128 on Stable Diffusion 1.5's transformer blocks and text encoder (what kohya's scripts train) has 151 MB,
# and what people share is mostly a tenth of that. A file is held in memory whole while it is read.
MAX_ADAPTER_BYTES = 200_000_000
# Beyond it a low-rank change is hardly one any more (the networks' narrowest layers have 320 features), and every row of a
# batch is padded to the largest sum of ranks of a row.
MAX_ADAPTER_RANK = 128
# Per model, each of eight ranks. Memory grows with those in use: all of them, of kohya's usual layers of Stable Diffusion 1.5
# in float16, have 600 MB, a third of the model.
ADAPTER_SLOTS = 64
# What a device holds beside what is counted: the driver's context and the libraries' workspaces (0.5 to 0.8 GB on CUDA), holes
# between the allocator's blocks; on the CPU the interpreter and the server.
MEMORY_RESERVE = 1 << 30
# Whoever joins, cancels or has a higher priority waits for the step under way: a second is what a person does not mind.
MAX_STEP_SECONDS = 1.0
# A tenth of the seats is enough for the lowest priority to come forward, and too little to hold up the highest.
MAX_PASSED_OVER = 9
# Each holds its latents, its encoded prompts and its adapters: under 1 MB each for 512 x 512 pixels, and a batch or two of
# 16 is more than a burst of urgent work pushes out.
MAX_PARKED = 32


_CHOICES = {
    "dtype": ("auto", "float32", "float16", "bfloat16"),
    "weights": ("same", "int8"),
    "attention": ("sdpa", "sliced"),
    "cpu_offload": ("none", "encoders", "layers"),
}


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
    torch_threads: int = 0  # threads inside one torch operation on the CPU, at most; 0: one a core
    adapter_slots: int = (
        ADAPTER_SLOTS  # of each model, for eight ranks of an adapter each; the least recently used goes
    )
    max_adapter_bytes: int = MAX_ADAPTER_BYTES  # of an adapter's files together
    max_adapter_rank: int = MAX_ADAPTER_RANK
    memory_limit: int = 0  # bytes of the device that may be filled; 0: all that it has, but for the reserve
    memory_reserve: int = MEMORY_RESERVE
    idle_unload: float = 0.0  # seconds after which a model that nobody used is unloaded; 0: never
    # What a device with little memory may need (docs/small-cards.md).
    weights: str = "same"  # as `dtype` says, or "int8": linear layers' weights alone, by torchao
    attention: str = "sdpa"  # torch's fused attention, which is memory-efficient, or "sliced"
    vae_slicing: bool = False  # decode picture by picture
    vae_tiling: bool = False  # decode large pictures in overlapping tiles
    cpu_offload: str = "none"  # "encoders": text encoders and VAE visit the device; "layers": the UNet's layers too
    max_step_seconds: float = MAX_STEP_SECONDS  # a batch whose step takes longer only grows as long as that pays
    max_passed_over: int = MAX_PASSED_OVER  # seats (and turns) that may go past a lower priority in a row
    parking: bool = True  # whether a higher priority may take the seat of a lower one
    max_parked: int = MAX_PARKED  # samples that may be parked at a time

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"max_batch: must be at least 1, is {self.max_batch}")
        if self.torch_threads < 0:
            raise ValueError(f"torch_threads: must be 0 or more, is {self.torch_threads}")
        if not self.max_step_seconds > 0:
            raise ValueError(f"max_step_seconds: must be more than 0, is {self.max_step_seconds}")
        if self.max_parked < 0:
            raise ValueError(f"max_parked: must be 0 or more, is {self.max_parked}")
        for name in ("adapter_slots", "max_adapter_bytes", "max_adapter_rank", "max_passed_over"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, is {getattr(self, name)}")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: {getattr(self, name)!r} is none of {', '.join(known)}")
        if self.weights == "int8" and self.cpu_offload == "layers":
            raise ValueError("weights, cpu_offload: int8 weights cannot be offloaded layer by layer")
        for name in ("memory_limit", "memory_reserve", "idle_unload"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be 0 or more, is {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """One style of a picture, and how strongly: 0 is not at all, 1 as trained, negative away from it.

    The name is one of the model card's `adapters`, whose file the card knows alone, or one of the request's `adapter_files`.
    """

    name: str
    scale: float = 1.0

    @property
    def shown(self) -> str:
        """The name for logs and for others to read: what stands after the ? of an address may be a key to it."""
        return self.name.partition("?")[0]


@dataclass(frozen=True, slots=True)
class SavedImage:
    """How far an image of a request was, in an engine that has it no more. `data` is what `ai.saving` made."""

    index: int
    step: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class InitImage:
    """A picture to start from: `rgb` holds height × width × 3 bytes, rows from the top."""

    width: int
    height: int
    rgb: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One request, complete: every default has been filled in and every limit checked by whoever made it.

    Sizes are pixels, `seed` is the seed of the first image (0 … 2**63 - 1), `guidance_scale` of 1 or less switches
    guidance off, `preview_every` counts steps (0: no previews). The `adapters` add up, in whatever order; one that is named
    twice has the sum of its scales.

    A higher `priority` comes first; between those of one priority every `owner` gets an equal share. A request that cannot
    be painted within `deadline_seconds` of `submit` fails as soon as that is certain (None: it may take any time).

    `adapter_files` says where the files of adapters lie that were fetched for this request, by their names; they are this
    machine's, and stay there for as long as the engine has the request.

    What is `saved` of its images is gone on with, where that makes the same picture; the others begin at their first step.

    Image-to-image: from an `init_image` of the request's own size only the last `strength` of the steps are made (more than
    0, at most 1). A strength of 0 means that there is none.

    `refiner_strength` is the share of the noise schedule, 0 to 1, that the model's refiner takes away at its end: 0 leaves it
    out, None is what the model's card says.
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
    owner: str = ""
    priority: int = 0
    deadline_seconds: float | None = None
    preview_every: int = 0
    init_image: InitImage | None = None
    strength: float = 0.0
    refiner_strength: float | None = None
    saved: tuple[SavedImage, ...] = ()
    adapter_files: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def image_bytes(self) -> int:
        """What the init image's pixels take."""
        return 0 if self.init_image is None else len(self.init_image.rgb)

    @property
    def first_step(self) -> int:
        """How many of the steps an init image spares, as diffusers counts them."""
        return self.num_inference_steps - int(self.num_inference_steps * self.strength) if self.strength else 0


@dataclass(frozen=True, slots=True)
class Picture:
    """One finished image: `rgb` holds height × width × 3 bytes, rows from the top."""

    seed: int
    width: int
    height: int
    rgb: bytes


@dataclass(frozen=True, slots=True)
class ModelLoading:
    """A model is being read into memory; its requests wait, the others' steps go on."""

    model: str


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
class Parked:
    """A higher priority has the request's place. It goes on later from `step`: the next `Stepped` says so."""

    request_id: str
    step: int
    total: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Saved:
    """How far the request's images are, for another life of the engine: those that have begun and are not yet painted. Told
    when the request is parked, and in answer to `save`."""

    request_id: str
    images: tuple[SavedImage, ...]


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

    @property
    def size(self) -> int:
        """Bytes of all pixels."""
        return sum(len(picture.rgb) for picture in self.pictures)


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed; nothing of it is left in the engine."""

    request_id: str
    error: EngineError


@dataclass(frozen=True, slots=True)
class Canceled:
    """The request was cancelled and its rows are free."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ModelUnloaded:
    """A model is in memory no more; a request that names it has it loaded again."""

    model: str


ModelEvent = ModelLoading | ModelReady | ModelUnavailable | ModelUnloaded
"""What is told of models; everything else the engine tells is of a request."""


@dataclass(frozen=True, slots=True)
class HandedBack:
    """Requests that an engine gives up without an end of their own: by `Engine.hand_back` (none of them has begun), or with
    the `error` that its device was lost by. A fleet gives them to others, and nobody else hears of it."""

    requests: tuple[GenerationRequest, ...]
    error: EngineError | None = None


EngineEvent = ModelEvent | HandedBack | Started | Stepped | Parked | Saved | Previewed | Finished | Failed | Canceled

Deliver = Callable[[Sequence[EngineEvent]], None]
"""Takes what happened during one step, in order. Called on the engine's thread, at most once a step for the whole batch.

(A turn of the loop that only takes in a refusal, a cancel or a loaded model counts as a step without samples.)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNumbers:
    """What of a device's memory is spoken for, in bytes, by kind.

    `limit` is what may be (0: not known), `activations` the most that a pass of the models in memory was seen to take.
    """

    limit: int = 0
    models: int = 0
    adapters: int = 0
    latents: int = 0
    activations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNumbers:
    """What the engine measured, for status pages and metrics: of one device, or of several together.

    `running`, `parked` and `waiting` count samples (images): with a place in a batch, kept from it by a higher priority after
    they had begun, not begun. `last_batch` counts those of the last forward step, `last_rows` the rows that the network saw
    (a guided sample has two), `steps` the steps made since the engine was built, `step_seconds` is what the last one took,
    `device` where ("" until torch is loaded), `device_name` what the driver calls it ("" for a CPU).

    The histograms are of every step's seconds and samples, and of every request's seconds from `submit` to its seat and
    from `submit` to the end of its first step. `models` are those in memory. `adapters` counts those in slots,
    `adapter_evictions` those that were let go of, with their model or to make room.

    `gpu_utilisation` (0 to 1), and `device_used` of `device_total` bytes, whoever took them, are None where no driver tells them.
    `lost` says why the device takes no more.
    """

    running: int = 0
    parked: int = 0
    waiting: int = 0
    last_batch: int = 0
    last_rows: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    device: str = ""
    device_name: str = ""
    models: tuple[str, ...] = ()
    memory: MemoryNumbers = MemoryNumbers()
    step_times: Histogram = NO_SECONDS
    batches: Histogram = NO_ROWS
    queue_waits: Histogram = NO_SECONDS
    join_waits: Histogram = NO_SECONDS
    adapters: int = 0
    adapter_hits: int = 0
    adapter_loads: int = 0
    adapter_evictions: int = 0
    gpu_utilisation: float | None = None
    device_used: int | None = None
    device_total: int | None = None
    lost: str = ""
    devices: tuple[EngineNumbers, ...] = ()


class EngineError(Exception):
    """Something the engine could not do. Text for people is in `str(error)`.

    EngineError
    ├── ModelLoadError       a model's files are missing, refused, damaged or of no known family
    ├── AdapterError         an adapter's files are missing, refused, damaged or made for another model
    ├── OutOfMemory          the device had no room for this request even alone
    ├── DeviceLost           the device is not there, or does not work any more
    ├── GenerationError      the step itself failed for this request
    ├── DeadlineExceeded     the request's deadline has passed, or the steps left take longer than the time left
    └── EngineStopped        submitted after `stop()`
    """


class ModelLoadError(EngineError):
    """A model cannot be loaded: missing files, a pickle, an unknown family."""


class AdapterError(EngineError):
    """An adapter cannot be used: no such file, a pickle, an unknown layout or key, shapes of another base model."""


class OutOfMemory(EngineError):
    """The device has no room for this request even when it runs alone."""


class DeviceLost(EngineError):
    """The device is not there, or has failed in a way that ends all work on it."""


class GenerationError(EngineError):
    """The request's own step failed (its latents became NaN, the network raised)."""


class DeadlineExceeded(EngineError):
    """The request cannot be painted any more within its `deadline_seconds`."""


class EngineStopped(EngineError):
    """The engine was stopped and takes no more work."""
