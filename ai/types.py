"""What goes into the engine and what comes out of it: plain data, importable without torch.

A request for pictures becomes `num_images` samples; sample i starts from the noise of `seed + i`. One for a text is one row,
which grows by a token a step. Per request the engine says `Started` once, `Stepped` at every step, `Parked` when it has to wait
on the way, `Previewed` when asked to, `Spoke` when there is more of a text, and exactly one of `Finished` (pictures), `Answered`
(anything else), `Failed` and `Canceled`, which is always the last.

Requests, settings, numbers and errors have modules of their own, and are known here too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ai.errors import AdapterError as AdapterError
from ai.errors import DeadlineExceeded as DeadlineExceeded
from ai.errors import DeviceLost as DeviceLost
from ai.errors import EngineError as EngineError
from ai.errors import EngineStopped as EngineStopped
from ai.errors import GenerationError as GenerationError
from ai.errors import InputError as InputError
from ai.errors import MemoryLimitExceeded as MemoryLimitExceeded
from ai.errors import ModelLoadError as ModelLoadError
from ai.errors import OutOfMemory as OutOfMemory
from ai.numbers import EngineNumbers as EngineNumbers
from ai.numbers import MemoryNumbers as MemoryNumbers
from ai.requests import AdapterUse as AdapterUse
from ai.requests import CustomRequest as CustomRequest
from ai.requests import GenerationRequest as GenerationRequest
from ai.requests import InitImage as InitImage
from ai.requests import Json as Json
from ai.requests import Request as Request
from ai.requests import SavedImage as SavedImage
from ai.requests import TextRequest as TextRequest
from ai.settings import MAX_ADAPTER_BYTES as MAX_ADAPTER_BYTES
from ai.settings import MAX_ADAPTER_RANK as MAX_ADAPTER_RANK
from ai.settings import EngineSettings as EngineSettings


class Phase(StrEnum):
    """Where a request stands while the engine has it."""

    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    WRITING = "writing"


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
    device_seconds: float = 0.0  # as in `Finished`, so far


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
    """All images of the request, in order, and what its author should know (a truncated prompt, say).

    `device_seconds` is the request's share of the time that forward passes and decodings took: of each, its rows among all rows.
    """

    request_id: str
    pictures: tuple[Picture, ...]
    warnings: tuple[str, ...]
    device_seconds: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of all pixels."""
        return sum(len(picture.rgb) for picture in self.pictures)


@dataclass(frozen=True, slots=True)
class Spoke:
    """More of a text: the characters from `offset` on. Pieces follow each other without gaps, but for a request that begins
    anew (on another device): it says the same again from 0."""

    request_id: str
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a request that paints nothing: its `output` as JSON has it, figures of how it came about (numbers by name), and
    what its author should know."""

    request_id: str
    output: Json
    figures: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    device_seconds: float = 0.0  # as in `Finished`; of a custom model, those that its process was at it


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed; nothing of it is left in the engine."""

    request_id: str
    error: EngineError
    device_seconds: float = 0.0


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

    requests: tuple[Request, ...]
    error: EngineError | None = None


LastEvent = Finished | Answered | Failed | Canceled
"""Exactly one of these is the last of each request."""

EngineEvent = ModelEvent | HandedBack | Started | Stepped | Parked | Saved | Previewed | Spoke | LastEvent

Deliver = Callable[[Sequence[EngineEvent]], None]
"""Takes what happened during one step, in order. Called on the engine's thread, at most once a step for the whole batch.

(A turn of the loop that only takes in a refusal, a cancel or a loaded model counts as a step without samples.)
"""
