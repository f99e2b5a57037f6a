"""What a prediction is asked for with, as a Submit, or as a Predict of a model that paints nothing. Nothing is clamped, and no
field is left out in silence."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema

from server.commands import (
    DEFAULT_STRENGTH,
    MAX_ADAPTERS,
    MAX_GUIDANCE_SCALE,
    MAX_IMAGES,
    MAX_SEED,
    AdapterUse,
    Predict,
    Submit,
)
from server.doors.http.schemas import MAX_TEXT, MAX_URL, AdapterChoice, SignatureRequest, StrictRequest, signature_of
from server.errors import Code, Refusal
from server.webhook import ALL_EVENTS, HookEvent, HookKind, Webhook

MAX_IMAGE_TEXT = 1 << 27  # characters of a data: URI; the body's own limit comes first

HookName = Literal["start", "output", "logs", "completed"]
HOOK_EVENTS: dict[HookName, HookEvent] = {
    "start": HookEvent.START,
    "output": HookEvent.COMPLETED,  # pictures are there all at once, at the end
    "logs": HookEvent.PROGRESS,
    "completed": HookEvent.COMPLETED,
}


_NamedOrScaled = Annotated[
    AdapterChoice,
    BeforeValidator(
        lambda given: {"name": given} if isinstance(given, str) else given, json_schema_input_type=str | AdapterChoice
    ),
]


class PredictionInput(StrictRequest):
    """What is to be painted. Left out, or null: the model's default, which its version's `openapi_schema` names."""

    prompt: str = Field(min_length=1, max_length=MAX_TEXT, examples=["a big green tree on a pink background"])
    negative_prompt: str | None = Field(None, max_length=MAX_TEXT)
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=MAX_GUIDANCE_SCALE)
    width: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0, le=MAX_SEED - MAX_IMAGES)
    num_outputs: int | None = Field(None, ge=1, le=MAX_IMAGES)
    scheduler: str | None = Field(None, max_length=100, description="A solver (docs/solvers.md).")
    image: str | None = Field(
        None, max_length=MAX_IMAGE_TEXT, description="What to begin with: a data: URI in base64, or an https URL."
    )
    strength: float | None = Field(
        None, gt=0, le=1, description=f"How much of the image is painted anew; {DEFAULT_STRENGTH} beside one."
    )
    adapters: list[_NamedOrScaled] | None = Field(None, max_length=MAX_ADAPTERS, description="Names, or {name, scale}.")
    lora: str | None = Field(None, min_length=1, max_length=MAX_URL, description="One more adapter, by its name.")
    lora_scale: float | None = Field(None, description="Its scale; 1 where it is left out.")


def _schema_of_inputs() -> dict[str, Any]:
    """Of `input`, for the documentation: what a model that paints takes, spelled out."""
    pictures = PredictionInput.model_json_schema(ref_template="#/components/schemas/{model}")
    pictures.pop("$defs", None)
    text = "Of a model that paints: these. Of any other: what its version's `openapi_schema` names."
    return {"anyOf": [pictures, {"type": "object"}], "description": text}


class ModelPredictionRequest(StrictRequest):
    """Of a model that the path names."""

    input: Annotated[dict[str, Any], WithJsonSchema(_schema_of_inputs())]
    webhook: str | None = Field(None, max_length=MAX_URL, pattern=r"^(?i:https?)://[^\x00-\x20]+$")
    webhook_events_filter: list[HookName] | None = Field(None, max_length=10, description="None: all of them.")
    webhook_completed: str | None = Field(
        None,
        max_length=MAX_URL,
        pattern=r"^(?i:https?)://[^\x00-\x20]+$",
        description="As `webhook`, for the end alone.",
    )
    signature: SignatureRequest | None = Field(
        None,
        description="Of the pictures. Left out: the artist's of the adapters, if there is one. Texts have none.",
    )
    stream: bool | None = Field(None, description="Every prediction can be streamed; this says nothing any more.")


class PredictionRequest(ModelPredictionRequest):
    """The model by one of three words: `version` (an id, owner/name or owner/name:id), `model`, or `model_id`."""

    version: str | None = Field(None, min_length=1, max_length=400)
    model: str | None = Field(None, min_length=1, max_length=400)
    model_id: str | None = Field(None, min_length=1, max_length=400, examples=["demo"])


def words_for_model(asked: PredictionRequest) -> list[tuple[str, str]]:
    """Which fields name the model, and what they say. Raises Refusal where none does."""
    named = [(field, word) for field in ("version", "model", "model_id") if (word := getattr(asked, field))]
    if not named:
        raise Refusal(
            Code.INVALID_PARAMETER, "version must be given, or model, or model_id", field="version", limit="given"
        )
    return named


def picture_input(asked: ModelPredictionRequest) -> PredictionInput:
    """What is to be painted. Raises RequestValidationError, as if it were told from the body at once."""
    try:
        return PredictionInput.model_validate(asked.input)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise RequestValidationError([{**one, "loc": ("body", "input", *one["loc"])} for one in problems]) from None


def predict_of(
    asked: ModelPredictionRequest, *, owner: str, model: str, deadline_seconds: float | None, idempotency_key: str
) -> Predict:
    """The Predict, of a model that paints nothing. Raises Refusal."""
    return Predict(
        owner=owner,
        model=model,
        input=asked.input,
        signature=signature_of(asked.signature) if asked.signature else None,
        deadline_seconds=deadline_seconds,
        webhook=_webhook(asked, streams=True),
        idempotency_key=idempotency_key,
    )


def command_of(
    asked: ModelPredictionRequest,
    given: PredictionInput,
    *,
    owner: str,
    model: str,
    image: bytes,
    deadline_seconds: float | None,
    idempotency_key: str,
) -> Submit:
    """The Submit. Raises Refusal in the words of `input`."""
    if given.lora_scale is not None and given.lora is None:
        raise Refusal.invalid("input.lora_scale", "left out without a lora", given.lora_scale)
    return Submit(
        owner=owner,
        prompt=given.prompt,
        model=model,
        negative_prompt=given.negative_prompt or "",
        width=given.width,
        height=given.height,
        num_inference_steps=given.num_inference_steps,
        guidance_scale=given.guidance_scale,
        seed=given.seed,
        num_images=given.num_outputs or 1,
        adapters=_adapters(given),
        solver=given.scheduler or "",
        deadline_seconds=deadline_seconds,
        init_image=image,
        strength=given.strength,
        signature=signature_of(asked.signature) if asked.signature else None,
        webhook=_webhook(asked),
        idempotency_key=idempotency_key,
    )


_WORDS = {"num_images": "num_outputs", "solver": "scheduler", "init_image": "image"}
_OURS = frozenset(Submit.__dataclass_fields__) - {
    "owner",
    "model",
    "webhook",
    "idempotency_key",
    "deadline_seconds",
    "signature",
}


def in_words_of_input(refusal: Refusal) -> Refusal:
    """A refusal of a Submit's field, by the name that the field has here."""
    root = refusal.field.partition("[")[0].partition(".")[0]
    if root not in _OURS:
        return refusal
    field = f"input.{_WORDS.get(root, root)}{refusal.field[len(root) :]}"
    message = refusal.message
    if message.startswith(refusal.field):
        message = field + message[len(refusal.field) :]
    elif root in _WORDS:
        message = message.replace(root, _WORDS[root])
    return Refusal(
        refusal.code, message, field=field, limit=refusal.limit, retry_after_seconds=refusal.retry_after_seconds
    )


def _adapters(given: PredictionInput) -> tuple[AdapterUse, ...]:
    uses = [AdapterUse(use.name, use.scale) for use in given.adapters or ()]
    if given.lora is not None:
        uses.append(AdapterUse(given.lora, 1.0 if given.lora_scale is None else given.lora_scale))
    return tuple(uses)


def _webhook(asked: ModelPredictionRequest, *, streams: bool = False) -> Webhook | None:
    """Whom to tell; what `streams` has an output before its end, which is told as it grows."""
    if asked.webhook is None:
        if asked.webhook_events_filter is not None:
            raise Refusal.invalid("webhook_events_filter", "left out without a webhook", asked.webhook_events_filter)
        if asked.webhook_completed is None:
            return None
        return Webhook(kind=HookKind.GENERIC, url=asked.webhook_completed, events=frozenset({HookEvent.COMPLETED}))
    if asked.webhook_completed is not None:
        raise Refusal.invalid("webhook_completed", "left out beside a webhook", "another address")
    names = asked.webhook_events_filter or ()
    events: Any = frozenset(HOOK_EVENTS[name] for name in names)
    if streams and "output" in names:
        events |= {HookEvent.PROGRESS}
    return Webhook(kind=HookKind.GENERIC, url=asked.webhook, events=events or ALL_EVENTS)
