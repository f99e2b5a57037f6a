"""Models as Replicate's API describes them: owner/name, one version each, and what goes in and comes out as OpenAPI."""

from __future__ import annotations

from typing import Any, NamedTuple

from ai.cards import Card, ModelCard, PredictingCard
from server.commands import (
    DEFAULT_STRENGTH,
    MAX_ADAPTERS,
    MAX_GUIDANCE_SCALE,
    MAX_IMAGES,
    MAX_SEED,
)
from server.doors.http.errors import time_text
from server.jobs.admission import Limits, first_of
from server.json_schema import Schema
from server.model_names import full_name, version_of
from server.replies import ModelState, ModelView, VersionView

COG_VERSION = ""  # no Cog made it; clients that look at this read old versions' outputs in another way
MOST_NAMED = 200  # adapters in the schema; more are known by ListModels


def model_body(view: ModelView, limits: Limits, base_url: str, since: float) -> dict[str, Any]:
    """A model; `since` (seconds since 1970) is when this server began to offer it."""
    owner, _, name = full_name(view.card.name).partition("/")
    record = view.record
    described = view.card.description if record is None else record.description
    return {
        "url": f"{base_url}/v1/models/{owner}/{name}",
        "owner": owner,
        "name": name,
        "description": described or None,
        "visibility": "public" if record is None else record.visibility.value,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "cover_image_url": None,
        "run_count": 0,
        "default_example": None,
        "latest_version": None
        if view.state is ModelState.UNAVAILABLE
        else version_body(main_version(view, since), limits),
    }


class Described(NamedTuple):
    """A version: its card, what its owner says of its input, and since when (seconds since 1970) it is offered."""

    card: Card
    schema: Schema
    since: float


def main_version(view: ModelView, since: float) -> Described:
    """The version that most requests go to; the one that there is of a model of the settings, which is offered `since` then."""
    return next((one for one in versions_of(view, since) if one.card is view.card), Described(view.card, {}, since))


def versions_of(view: ModelView, since: float) -> list[Described]:
    """Those that can be used, the newest first."""
    if view.record is None:
        return [Described(view.card, {}, since)]
    there = [described_version(one) for one in view.versions]
    return [one for one in reversed(there) if one is not None]


def described_version(view: VersionView) -> Described | None:
    """One that was looked at."""
    return None if view.card is None else Described(view.card, view.version.input_schema, view.version.created_at)


def version_body(version: Described, limits: Limits) -> dict[str, Any]:
    """A version of a model."""
    return {
        "id": version_of(version.card.name),
        "created_at": time_text(version.since),
        "cog_version": COG_VERSION,
        "openapi_schema": openapi_schema(version.card, limits, version.schema),
    }


def openapi_schema(card: Card, limits: Limits, schema: Schema | None = None) -> dict[str, Any]:
    """Of Input and Output: each field with its type, default and limits, in the order in which a form shows them."""
    properties = input_properties(card, limits, schema)
    for order, described in enumerate(properties.values()):
        described["x-order"] = order
    if isinstance(card, ModelCard):
        required, output = ["prompt"], {"type": "array", "items": {"type": "string", "format": "uri"}}
    else:
        required = [name for name, described in properties.items() if described.pop("required", False) is True]
        output = card.output_schema
    return {
        "openapi": "3.1.0",
        "info": {"title": full_name(card.name), "version": version_of(card.name)},
        "paths": {},
        "components": {
            "schemas": {
                "Input": {
                    "title": "Input",
                    "type": "object",
                    "required": required,
                    "properties": properties,
                    "additionalProperties": False,
                },
                "Output": {"title": "Output", **output},
            }
        },
    }


def input_properties(card: Card, limits: Limits, schema: Schema | None = None) -> dict[str, dict[str, Any]]:
    """Every field of `input`, by what the card and the server's settings say, and what a version's own schema says beside."""
    found = _picture_properties(card, limits) if isinstance(card, ModelCard) else _own_properties(card)
    for name, one in (schema or {}).items():
        found[name] = {**found.get(name, {}), **{word: value for word, value in one.items() if word != "required"}}
    return found


def _own_properties(card: PredictingCard) -> dict[str, dict[str, Any]]:
    titles = {name: {"title": name.replace("_", " ").title()} for name in card.input_schema}
    return {name: {**titles[name], **described} for name, described in card.input_schema.items()}


def _picture_properties(card: ModelCard, limits: Limits) -> dict[str, dict[str, Any]]:
    own = card.defaults
    text = {"type": "string", "maxLength": limits.max_prompt_characters}
    sides = {"type": "integer", "minimum": card.min_size, "multipleOf": card.size_multiple}
    steps = first_of(limits.default_num_inference_steps, own.num_inference_steps)
    guidance = first_of(limits.default_guidance_scale, own.guidance_scale)
    return {
        "prompt": {**text, "title": "Prompt", "minLength": 1, "description": "What is to be seen."},
        "negative_prompt": {
            **text,
            "title": "Negative Prompt",
            "default": "",
            "description": "What is not to be seen.",
        },
        "image": {"type": "string", "format": "uri", "title": "Image", "description": "What to begin with."},
        "strength": {
            "type": "number",
            "title": "Strength",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": f"How much of the image is painted anew; {DEFAULT_STRENGTH} beside one.",
        },
        "width": {
            **sides,
            "title": "Width",
            "maximum": limits.max_width,
            "default": first_of(limits.default_width, own.width),
        },
        "height": {
            **sides,
            "title": "Height",
            "maximum": limits.max_height,
            "default": first_of(limits.default_height, own.height),
        },
        "num_outputs": {
            "type": "integer",
            "title": "Num Outputs",
            "minimum": 1,
            "maximum": MAX_IMAGES,
            "default": 1,
        },
        "num_inference_steps": {
            "type": "integer",
            "title": "Num Inference Steps",
            "minimum": 1,
            "maximum": limits.max_num_inference_steps,
            "default": steps,
        },
        "guidance_scale": {
            "type": "number",
            "title": "Guidance Scale",
            "minimum": 0,
            "maximum": MAX_GUIDANCE_SCALE,
            "default": guidance,
        },
        "scheduler": {
            "type": "string",
            "title": "Scheduler",
            "enum": list(card.solvers),
            "default": card.solvers[0],
            "description": _steps_of(card),
        },
        "seed": {
            "type": "integer",
            "title": "Seed",
            "minimum": 0,
            "maximum": MAX_SEED - MAX_IMAGES,
            "description": "Left out: another each time.",
        },
        "adapters": {
            "type": "array",
            "title": "Adapters",
            "maxItems": MAX_ADAPTERS,
            "items": {"type": ["string", "object"]},
            "default": [],
            "description": f"Names, or {{name, scale}}. Here are {', '.join(list(card.adapters)[:MOST_NAMED]) or 'none'}.",
        },
        "lora": {"type": "string", "title": "Lora", "description": "One more adapter, by its name."},
        "lora_scale": {"type": "number", "title": "Lora Scale", "description": "1 where it is left out."},
    }


def _steps_of(card: ModelCard) -> str:
    """Which solvers cannot make as many steps as anyone likes."""
    limited = [f"{solver} makes {most} steps at most" for solver, most in card.most_steps.items()]
    return f"The solver (docs/solvers.md). {'; '.join(limited)}".strip()
