"""May a job exist: defaults filled in, limits checked, idempotency kept, then made durable.

A value comes from the request, else from this server's settings, else from the model's card.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter
from typing import TypeVar

from ai.cards import ModelCard, pictures_of
from ai.types import GenerationRequest
from server.adapter_names import is_fetched, is_registered, registered_name
from server.catalogue.catalogue import Catalogue, nothing_new
from server.clock import Clock
from server.commands import DEFAULT_STRENGTH, MAX_GUIDANCE_SCALE, AdapterUse, Submit
from server.errors import Code, Refusal
from server.interfaces import AdapterSource, Pool
from server.job import Job
from server.jobs.artists import Artists
from server.jobs.entering import Entrance
from server.jobs.init_images import InitImages
from server.jobs.places import Places
from server.jobs.signatures import Signatures, picture_of
from server.json_schema import Schema, applied
from server.replies import Admitted
from server.webhook import Webhook
from watermark import Signature

T = TypeVar("T")

_YOUNGER = ("use_refiner", "refiner_strength")  # than the first hashes: left out, they leave those as they are
_MAY_BE_NEWS = frozenset({Code.MODEL_NOT_FOUND, Code.ADAPTER_NOT_FOUND, Code.UNAVAILABLE})
_SCHEMA_WORDS = {"num_outputs": "num_images", "scheduler": "solver"}  # an input's, where a Submit has another
_NAMES_TOLD = 10  # of adapters, in a refusal; ListModels has them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may ask for (pixels, characters), and this server's own defaults (None: the model card's)."""

    max_prompt_characters: int
    max_width: int
    max_height: int
    max_num_inference_steps: int
    max_signature_image_bytes: int
    max_init_image_bytes: int
    max_init_image_pixels: int
    default_width: int | None = None
    default_height: int | None = None
    default_num_inference_steps: int | None = None
    default_guidance_scale: float | None = None
    use_refiner: bool = True  # where a model has one and the request does not say
    default_refiner_strength: float | None = None


class Admission:
    """Turns a Submit into a durable job, or refuses it."""

    def __init__(
        self,
        *,
        entrance: Entrance,
        places: Places,
        catalogue: Catalogue,
        artists: Artists,
        adapters: AdapterSource,
        limits: Limits,
        pool: Pool,
        clock: Clock,
        check_webhook: Callable[[Webhook], None],
        new_id: Callable[[], str],
        new_seed: Callable[[], int],
        hear_news: Callable[[], Awaitable[bool]] = nothing_new,
    ) -> None:
        self._entrance = entrance
        self._places = places
        self._catalogue = catalogue
        self._artists = artists
        self._adapters = adapters
        self._limits = limits
        self._pool = pool
        self._signatures = Signatures(places, pool, limits.max_signature_image_bytes)
        self._images = InitImages(pool, limits.max_init_image_pixels)
        self._clock = clock
        self._check_webhook = check_webhook
        self._new_id = new_id
        self._new_seed = new_seed
        self._hear_news = hear_news

    async def admit(self, command: Submit) -> Admitted:
        """The new job, holding a place; or the one that this idempotency key has already. Raises Refusal."""
        request = await self.check(command)
        if command.webhook is not None:
            self._check_webhook(command.webhook)
        body_hash = hash_of(command)
        return await self._entrance.enter(
            command.owner,
            command.idempotency_key,
            body_hash,
            lambda: self._prepared(command, request, body_hash),
            costly=_has_images(command),  # to decode them again would cost whoever repeats nothing, and us much
        )

    async def check(self, command: Submit) -> GenerationRequest:
        """As `complete`, also of what another node was given a moment ago."""
        try:
            return self.complete(command)
        except Refusal as refusal:
            if refusal.code not in _MAY_BE_NEWS or not await self._hear_news():
                raise
            return self.complete(command)

    async def _prepared(self, command: Submit, request: GenerationRequest, body_hash: str) -> Job:
        """The job with all that it needs, and a place. Raises Refusal."""
        signature = command.signature or self._artists.signature(request.model, request.adapters)
        self._places.take(command.owner)
        try:
            await self._signatures.take(request.request_id, command.signature)
            if command.init_image:
                request = await self._with_image(command, request)
                self._places.take_image(request.request_id, request.image_bytes)
            return self._job(command, request, signature, body_hash)
        except BaseException:
            self._places.release(command.owner, request.request_id)
            raise

    def _job(self, command: Submit, request: GenerationRequest, signature: Signature | None, body_hash: str) -> Job:
        return Job(
            id=request.request_id,
            owner=command.owner,
            idempotency_key=command.idempotency_key,
            body_hash=body_hash,
            request=request,
            signature=signature,
            deadline_seconds=command.deadline_seconds,
            created_at=self._clock.seconds(),
            webhook=command.webhook,
            object_key=command.object_key,
        )

    async def _with_image(self, command: Submit, request: GenerationRequest) -> GenerationRequest:
        """The request with its init image, decoded in a thread, and the size that follows from it. Raises Refusal."""
        card, limits = self._catalogue.card(request.model), self._limits
        assert isinstance(card, ModelCard), "the request was completed with it"

        def check_size(width: int, height: int) -> None:
            _check_size("width", width, card, limits.max_width)
            _check_size("height", height, card, limits.max_height)

        image = await self._images.read(
            command.init_image, command.width, command.height, card=card, check_size=check_size
        )
        return replace(request, init_image=image, width=image.width, height=image.height)

    def complete(self, command: Submit) -> GenerationRequest:
        """The request with every default filled in, and without its init image. Raises Refusal."""
        request_id = self._new_id()
        ticket = f"{command.owner} {command.idempotency_key}" if command.idempotency_key else request_id
        card, schema = self._chosen(command, ticket)
        if schema:
            command = _with_schema(command, schema)
        limits, defaults = self._limits, card.defaults
        width = first_of(command.width, limits.default_width, defaults.width)
        height = first_of(command.height, limits.default_height, defaults.height)
        steps = first_of(command.num_inference_steps, limits.default_num_inference_steps, defaults.num_inference_steps)
        _check_length("prompt", command.prompt, limits.max_prompt_characters)
        _check_length("negative_prompt", command.negative_prompt, limits.max_prompt_characters)
        _check_size("width", width, card, limits.max_width)
        _check_size("height", height, card, limits.max_height)
        if not 1 <= steps <= limits.max_num_inference_steps:
            raise Refusal.invalid("num_inference_steps", f"1 to {limits.max_num_inference_steps}", steps)
        guidance = first_of(command.guidance_scale, limits.default_guidance_scale, defaults.guidance_scale)
        if not 0 <= guidance <= MAX_GUIDANCE_SCALE:
            raise Refusal.invalid("guidance_scale", f"0 to {MAX_GUIDANCE_SCALE:g}", guidance)
        if command.solver and command.solver not in card.solvers:
            raise Refusal.invalid("solver", f"one of {', '.join(card.solvers)}", command.solver)
        solver = command.solver or card.solvers[0]
        if steps > card.most_steps.get(solver, steps):
            raise Refusal.invalid("num_inference_steps", f"1 to {card.most_steps[solver]} with {solver}", steps)
        self._signatures.check(command.signature)
        _check_bytes("init_image", command.init_image, limits.max_init_image_bytes)
        adapters = tuple(
            AdapterUse(self._adapter_name(index, use, card, command.owner), use.scale)
            for index, use in enumerate(command.adapters)
        )
        return GenerationRequest(
            request_id=request_id,
            model=card.name,
            prompt=command.prompt,
            negative_prompt=command.negative_prompt,
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=guidance,
            seed=self._new_seed() if command.seed is None else command.seed,
            num_images=command.num_images,
            adapters=adapters,
            solver=solver,
            priority=command.priority,
            preview_every=command.preview_every_steps,
            strength=_strength(command, steps),
            refiner_strength=_refiner_strength(command, card, limits),
        )

    def _adapter_name(self, index: int, use: AdapterUse, card: ModelCard, owner: str) -> str:
        """What the request is recorded with: an uploaded adapter by its content too."""
        uploaded = self._catalogue.adapter(owner, use.name)
        if uploaded is not None:
            if card.family and uploaded.family not in ("", card.family):  # what is not known the engine will find
                field = f"adapters[{index}].name"
                text = f"{field}: {uploaded.full_name} is for {uploaded.family} models, {card.name} is {card.family}"
                raise Refusal(Code.ADAPTER_INVALID, text, field=field, limit=f"an adapter for {card.family}")
            return registered_name(uploaded.owner, uploaded.name, uploaded.sha256)
        if is_registered(use.name):  # somebody else's, or one that was deleted
            raise _no_such_adapter(index, use, card)
        if use.name not in card.adapters:
            self._check_fetched(index, use, card)
        return use.name

    def _check_fetched(self, index: int, use: AdapterUse, card: ModelCard) -> None:
        """Refuse an adapter that the card does not know, unless its name says where else it is."""
        if not is_fetched(use.name):
            raise _no_such_adapter(index, use, card)
        try:
            self._adapters.check(use.name)
        except Refusal as refusal:
            field = f"adapters[{index}].name"
            raise Refusal(refusal.code, f"{field}: {refusal.message}", field=field, limit=refusal.limit) from None

    def _chosen(self, command: Submit, ticket: str) -> tuple[ModelCard, Schema]:
        """The model that is meant, which paints. Raises Refusal."""
        wanted = command.model or next((card.name for card in pictures_of(self._catalogue.own.values())), "")
        card, schema = self._catalogue.choose(command.owner, wanted, ticket)
        if not isinstance(card, ModelCard):
            raise Refusal.invalid("model", "a model that paints; others are asked by Predict", command.model)
        return card, schema


_UNHASHED = {"owner", "idempotency_key", "preview_every_steps", "webhook", "object_key"}
_HASHED = tuple(sorted(entry.name for entry in fields(Submit) if entry.name not in _UNHASHED))
_HASHED_VALUES = attrgetter(*_HASHED)


def hash_of(command: Submit) -> str:
    """A hash of what was asked for, without the key and the wishes about how to be told (SHA-256, hex): of its JSON, in the order
    of its names."""
    asked = {
        name: _plain(value)
        for name, value in zip(_HASHED, _HASHED_VALUES(command), strict=True)
        if value is not None or name not in _YOUNGER
    }
    asked["signature"] = repr(command.signature)
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _with_schema(command: Submit, schema: Schema) -> Submit:
    """The command with the defaults of a version's own schema, which it must keep to. Raises Refusal."""
    ours = {
        _SCHEMA_WORDS.get(name, name): one for name, one in schema.items() if name != "strength" or command.init_image
    }
    given = {name: value for name in ours if (value := getattr(command, name)) not in (None, "")}
    if given.get("num_images") == 1 and "default" in ours["num_images"]:  # which is also what nothing means
        del given["num_images"]
    return replace(command, **applied(ours, given, place=""))


def _has_images(command: Submit) -> bool:
    """Whether something has to be decoded before the job can be admitted."""
    return bool(command.init_image or picture_of(command.signature))


def first_of(*values: T | None) -> T:
    """The first that is not None; the last never is."""
    for value in values:
        if value is not None:
            return value
    raise AssertionError("the last never is")


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest() if value else ""
    return [asdict(use) for use in value] if isinstance(value, tuple) else value


def _check_length(name: str, text: str, limit: int) -> None:
    if len(text) > limit:
        message = f"{name} has {len(text)} characters; at most {limit} are taken"
        raise Refusal(Code.INVALID_PARAMETER, message, field=name, limit=f"at most {limit} characters")


def _check_size(name: str, pixels: int, card: ModelCard, largest: int) -> None:
    if not card.min_size <= pixels <= largest or pixels % card.size_multiple:
        raise Refusal.invalid(name, f"{card.min_size} to {largest}, in steps of {card.size_multiple}", pixels)


def _check_bytes(name: str, data: bytes, limit: int) -> None:
    if len(data) > limit:
        message = f"{name} has {len(data)} bytes; at most {limit} are taken"
        raise Refusal(Code.INVALID_PARAMETER, message, field=name, limit=f"at most {limit} bytes")


def _strength(command: Submit, steps: int) -> float:
    """The share of the steps that is made; 0 where there is no init image."""
    if not command.init_image:
        return 0.0
    strength = DEFAULT_STRENGTH if command.strength is None else command.strength
    if int(steps * strength) < 1:
        raise Refusal.invalid("strength", f"at least {1 / steps:.4g}, so that one of {steps} steps is made", strength)
    return strength


def _refiner_strength(command: Submit, card: ModelCard, limits: Limits) -> float:
    """The refiner's share of the noise schedule; 0 where none is used."""
    share = command.refiner_strength
    if card.refiner is None:
        limit = f"left out: {card.name} has no refiner"
        if command.use_refiner:
            raise Refusal.invalid("use_refiner", limit, True)
        if share and command.use_refiner is None:
            raise Refusal.invalid("refiner_strength", limit, share)
        return 0.0
    if not first_of(command.use_refiner, limits.use_refiner if share is None else True):
        return 0.0
    return first_of(share, limits.default_refiner_strength, round(1 - card.refiner_switch, 9))


def _no_such_adapter(index: int, use: AdapterUse, card: ModelCard) -> Refusal:
    field, names = f"adapters[{index}].name", list(card.adapters)
    more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    limit = f"the name of an adapter; {card.name} has {', '.join(names[:_NAMES_TOLD]) or 'none'}{more}"
    return Refusal(Code.ADAPTER_NOT_FOUND, f"{field}: there is no adapter {use.name[:60]!r}", field=field, limit=limit)
