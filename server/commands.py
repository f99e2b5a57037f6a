"""What may be asked of the server: one frozen command a request, whichever door it came by.

A command checks, when it is made, all that can be known without a server's settings (types, ranges that are part of the
contract, NaN). What depends on this server's limits or models is checked by `server.jobs.admission`. Both raise
`Refusal`, which names the field and the limit.

`owner` is the identity that the door established; jobs belong to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ai.types import AdapterUse as AdapterUse  # the engine's own word, which commands use as it stands
from ai.types import Json
from server.catalogue_commands import CatalogueCommand as CatalogueCommand
from server.errors import Refusal
from server.listing import JobPage
from server.live.events import Frame
from server.webhook import Webhook
from watermark import Signature

if TYPE_CHECKING:
    from server.principal import Principal

MAX_IMAGES = 4  # a request's images share its adapters and its result; more pictures are more requests
MAX_SEED = 2**63 - 1  # the largest a torch generator takes on every platform
MAX_GUIDANCE_SCALE = 50.0  # far above any use; larger values only overflow half precision
DEFAULT_STRENGTH = 0.75  # keeps the init image's composition, and repaints what fills it
MAX_PRIORITY = 100
MAX_PREVIEW_EVERY = 2**32 - 1  # what the wire can say; beyond the number of steps it means: never
MAX_IDEMPOTENCY_KEY = 200  # characters; a UUID has 36
MAX_INPUT_BYTES = (
    1_000_000  # of a Predict's input as JSON: a frame of the TCP door, and more text than a model's context
)
MAX_ADAPTERS = 8  # on one picture; more than a few styles at once paint mud


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Ask for pictures. None means: the model's default."""

    owner: str
    prompt: str
    model: str = ""
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    num_images: int = 1
    adapters: tuple[AdapterUse, ...] = ()
    solver: str = ""
    priority: int = 0
    deadline_seconds: float | None = None
    signature: Signature | None = None
    preview_every_steps: int = 0
    init_image: bytes = field(default=b"", repr=False)  # a PNG, JPEG or WebP file; none where it is empty
    strength: float | None = None
    use_refiner: bool | None = None  # None: where the model has one
    refiner_strength: float | None = None  # the share of the noise schedule that is the refiner's
    webhook: Webhook | None = None
    object_key: str = (
        ""  # where the first picture is stored; a door's own word, never its caller's. "": the server's choice
    )
    idempotency_key: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Raise Refusal for what no server would take."""
        if not self.prompt.strip():
            raise Refusal.invalid("prompt", "at least 1 character other than space", self.prompt)
        _within("num_images", self.num_images, 1, MAX_IMAGES)
        _within("preview_every_steps", self.preview_every_steps, 0, MAX_PREVIEW_EVERY)
        _check_wishes(self.priority, self.deadline_seconds, self.idempotency_key)
        if self.seed is not None:
            _within("seed", self.seed, 0, MAX_SEED - MAX_IMAGES)
        if self.guidance_scale is not None:
            _within("guidance_scale", self.guidance_scale, 0, MAX_GUIDANCE_SCALE)
        if self.strength is not None:
            self._check_strength(self.strength)
        if self.refiner_strength is not None:
            _within("refiner_strength", self.refiner_strength, 0, 1)
        check_adapter_count(len(self.adapters))
        for index, adapter in enumerate(self.adapters):
            if not adapter.name:
                raise Refusal.invalid(f"adapters[{index}].name", "the name of an adapter", adapter.name)
            if not math.isfinite(adapter.scale):
                raise Refusal.invalid(f"adapters[{index}].scale", "a finite number", adapter.scale)

    def _check_strength(self, strength: float) -> None:
        if not self.init_image:
            raise Refusal.invalid("strength", "left out without an init_image", strength)
        if not 0 < strength <= 1:
            raise Refusal.invalid("strength", "more than 0 and at most 1", strength)


@dataclass(frozen=True, slots=True)
class CheckSubmit:
    """Whether a Submit would be refused for what it says, asked before more is done for it. Nothing is admitted."""

    submit: Submit


@dataclass(frozen=True, slots=True, kw_only=True)
class Predict:
    """Ask a model that paints nothing. `input` is what its input_schema names, as JSON has it; left out: the model's default. The
    `signature` is for pictures that a custom model makes."""

    owner: str
    model: str
    input: Mapping[str, Json] = field(default_factory=dict)
    signature: Signature | None = None
    priority: int = 0
    deadline_seconds: float | None = None
    webhook: Webhook | None = None
    idempotency_key: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Raise Refusal for what no server would take."""
        if not self.model:
            raise Refusal.invalid("model", "the name of a model", self.model)
        _check_wishes(self.priority, self.deadline_seconds, self.idempotency_key)
        try:
            told = {name: value for name, value in self.input.items() if not is_file(value)}
            size = len(json.dumps(told, allow_nan=False, ensure_ascii=False).encode())
        except (ValueError, TypeError, RecursionError):  # NaN, half a surrogate pair, nesting beyond reason
            raise Refusal.invalid("input", "a JSON object of sound text and finite numbers", "something else") from None
        if size > MAX_INPUT_BYTES:
            raise Refusal.invalid("input", f"at most {MAX_INPUT_BYTES} bytes as JSON", size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Stop a job."""

    owner: str
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Follow a job from event `from_event` on."""

    owner: str
    job_id: str
    from_event: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetJob:
    """A job as it stands: by its id, or by the key that it was asked for with."""

    owner: str
    job_id: str = ""
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListJobs:
    """The owner's jobs, newest first."""

    owner: str
    page: JobPage = field(default_factory=JobPage)


@dataclass(frozen=True, slots=True)
class ListModels:
    """Every model this server can paint with, for this owner ("": those that are everyone's)."""

    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetModel:
    """One model, or a version of one, by any of its names (server.model_names); a refusal names `field`."""

    owner: str
    model: str
    field: str = "model"


@dataclass(frozen=True, slots=True)
class GetServerStatus:
    """How the server is doing."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there, and what time is it."""

    client_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLive:
    """Open a live session. Its frames come from a `source` of the operator's, or, where that is empty, from whoever asks."""

    owner: str
    model: str
    echo_input: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        """Raise Refusal for what no server would take."""
        if not self.model:
            raise Refusal.invalid("model", "the name of a stream model", self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFrame:
    """A session's next input."""

    owner: str
    live_id: str
    frame: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLive:
    """End a live session."""

    owner: str
    live_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLive:
    """Follow a live session from now on."""

    owner: str
    live_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectUdp:
    """Where to send datagrams, and what they are signed with.

    `principal` is the owner's, and `token` the credential that says so: the key is good for no more, and no longer.
    """

    owner: str
    principal: Principal | None = field(default=None, repr=False)
    token: str = field(default="", repr=False, compare=False)


Command = (
    Submit
    | CheckSubmit
    | Predict
    | Cancel
    | Watch
    | GetJob
    | ListJobs
    | ListModels
    | GetModel
    | GetServerStatus
    | Ping
    | OpenLive
    | LiveFrame
    | CloseLive
    | WatchLive
    | ConnectUdp
    | CatalogueCommand
)


def is_file(value: Json) -> bool:
    """Whether an input is the bytes of a file, as a data URL: a custom model's picture, say. Those have a limit of their own."""
    return isinstance(value, str) and value.startswith("data:")


def check_adapter_count(count: int) -> None:
    """Raise Refusal for more adapters than a picture may have."""
    if count > MAX_ADAPTERS:
        raise Refusal.invalid("adapters", f"at most {MAX_ADAPTERS}", count)


def _check_wishes(priority: int, deadline_seconds: float | None, idempotency_key: str) -> None:
    """What every request for a job may say."""
    _within("priority", priority, -MAX_PRIORITY, MAX_PRIORITY)
    if deadline_seconds is not None and not 0 < deadline_seconds < math.inf:
        raise Refusal.invalid("deadline_seconds", "more than 0", deadline_seconds)
    if len(idempotency_key) > MAX_IDEMPOTENCY_KEY:
        raise Refusal.invalid("idempotency_key", f"at most {MAX_IDEMPOTENCY_KEY} characters", idempotency_key)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN compares false, so it is refused too
        raise Refusal.invalid(name, f"{low:g} to {high:g}" if high < 1e6 else f"{low} to {high}", value)
