"""Where and how an engine runs. Plain Python."""

from __future__ import annotations

from dataclasses import dataclass

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
# A pass reads all weights, for one row or for dozens: on a GPU the first few dozen rows cost next to nothing.
MAX_TEXTS = 32


_CHOICES = {
    "dtype": ("auto", "float32", "float16", "bfloat16"),
    "weights": ("same", "int8"),
    "attention": ("sdpa", "sliced"),
    "cpu_offload": ("none", "encoders", "layers"),
}


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
    max_texts: int = MAX_TEXTS  # of one model, written together

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ValueError(f"max_batch: must be at least 1, is {self.max_batch}")
        if self.torch_threads < 0:
            raise ValueError(f"torch_threads: must be 0 or more, is {self.torch_threads}")
        if not self.max_step_seconds > 0:
            raise ValueError(f"max_step_seconds: must be more than 0, is {self.max_step_seconds}")
        if self.max_parked < 0:
            raise ValueError(f"max_parked: must be 0 or more, is {self.max_parked}")
        for name in ("adapter_slots", "max_adapter_bytes", "max_adapter_rank", "max_passed_over", "max_texts"):
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
