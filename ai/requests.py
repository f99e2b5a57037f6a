"""What is asked of the engine: pictures, texts, and whatever custom models take. Plain Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Any
"""None, a truth value, a number, a text, a list of such, or texts to such."""


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

    @property
    def steps(self) -> int:
        """How many are made."""
        return self.num_inference_steps - self.first_step

    @property
    def samples(self) -> int:
        """How many seats of a batch it takes."""
        return self.num_images


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """One text, complete: every default has been filled in and every limit that needs no tokenizer checked by whoever made it.

    At most `max_length` tokens are written after those of the prompt. `temperature` 0 takes the likeliest token each time; else
    one is drawn from the `top_k` likeliest (0: all), of those the fewest that together have `top_p` of the probability. The text
    ends before the first of the `stop` texts in it, which is not told. The same `seed` gives the same text.

    `owner`, `priority` and `deadline_seconds` are as in GenerationRequest. What it is said to `cost` is for limits alone.
    """

    request_id: str
    model: str
    prompt: str
    max_length: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: tuple[str, ...] = ()
    owner: str = ""
    priority: int = 0
    deadline_seconds: float | None = None
    cost: float | None = None  # None: one for each thousand tokens

    @property
    def input(self) -> dict[str, Json]:
        """What was asked for, by the names of the model's input_schema."""
        return {
            "prompt": self.prompt,
            "max_length": self.max_length,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "stop": list(self.stop),
            "seed": self.seed,
        }

    @property
    def steps(self) -> int:
        """How many are made at most: one a token."""
        return self.max_length

    @property
    def samples(self) -> int:
        """How many seats of a batch it takes."""
        return 1

    @property
    def image_bytes(self) -> int:
        """It brings none."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomRequest:
    """One call of a custom model's `predict`. The `input` was checked against the card's schema, and is again in the process.

    `files` are inputs that are bytes, by their names; they come in place of what stands in `input` under the same name, which
    says of them what people may want to know. They are no more when the job has ended.
    """

    request_id: str
    model: str
    input: Mapping[str, Json] = field(default_factory=dict, hash=False)
    files: Mapping[str, bytes] = field(default_factory=dict, hash=False, repr=False)
    seed: int = 0  # as recorded; the class takes one where it has an argument for it
    owner: str = ""
    priority: int = 0
    deadline_seconds: float | None = None
    cost: float = 0.0  # for limits alone

    @property
    def steps(self) -> int:
        """What progress is told in: a hundredth each."""
        return 100

    @property
    def samples(self) -> int:
        """It takes no seat of a batch."""
        return 1

    @property
    def image_bytes(self) -> int:
        """What its files take."""
        return sum(map(len, self.files.values()))


Request = GenerationRequest | TextRequest | CustomRequest
"""What a job may ask of an engine. Each has request_id, model, owner, priority, deadline_seconds, seed, steps, samples and
image_bytes; those that paint nothing have an `input`."""
