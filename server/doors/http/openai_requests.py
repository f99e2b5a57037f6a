"""What OpenAI's images API may be asked for, as a Submit.

Fields that change nothing here are taken, and the answer's `warnings` name those that were given; what would promise something
that is not done (a transparent background, another format, a mask) is refused. What OpenAI has no word for is asked for in our
own: `seed`, `negative_prompt`, `num_inference_steps`, `guidance_scale`, `solver`, `adapters`, and `strength` for edits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Json

from server.commands import (
    DEFAULT_STRENGTH,
    MAX_ADAPTERS,
    MAX_GUIDANCE_SCALE,
    MAX_IMAGES,
    MAX_SEED,
    AdapterUse,
    Submit,
)
from server.doors.http.schemas import MAX_TEXT, MAX_URL, AdapterChoice, StrictRequest
from server.errors import AtelierError, Refusal

MAX_PARTIAL_IMAGES = 3  # OpenAI's own
AUTO = "auto"
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
UNHEEDED: Mapping[str, str] = {
    "quality": "num_inference_steps says how long is painted",
    "style": "the prompt and adapters say what it looks like",
    "moderation": "nothing is moderated here",
    "input_fidelity": "strength says how much is painted anew",
}
"""Fields that change nothing, with what does."""

OUR_WORDS: Mapping[str, str] = {"width": "size", "height": "size", "num_images": "n", "init_image": "image"}
"""What a Submit calls something else than this API."""


class ImageWishes(StrictRequest):
    """What may be said of a picture to be made, and of one to be edited. Null, or left out: as the model likes."""

    prompt: str = Field(min_length=1, max_length=MAX_TEXT)
    model: str | None = Field(None, max_length=200, description="GET /v1/models has the names; left out: the first.")
    n: int | None = Field(None, ge=1, le=MAX_IMAGES, description="Pictures; picture i has the seed `seed` + i.")
    size: str | None = Field(
        None,
        pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$",
        description="WIDTHxHEIGHT in pixels, within the model's and the server's limits, or auto.",
    )
    response_format: Literal["b64_json", "url"] | None = Field(None, description="b64_json where it is left out.")
    output_format: Literal["png"] | None = None
    output_compression: Annotated[int, Field(ge=100, le=100)] | None = Field(None, description="PNG loses nothing.")
    background: Literal["auto", "opaque"] | None = None
    stream: bool | None = Field(None, description="Answer by server-sent events.")
    partial_images: int | None = Field(
        None, ge=0, le=MAX_PARTIAL_IMAGES, description="With `stream` and one picture: what it looks like on the way."
    )
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = Field(
        None, description=f"Changes nothing: {UNHEEDED['quality']}."
    )
    user: str | None = Field(None, max_length=MAX_URL, description="Changes nothing.")
    safety_identifier: str | None = Field(None, max_length=MAX_URL, description="Changes nothing.")
    seed: int | None = Field(None, ge=0, le=MAX_SEED - MAX_IMAGES)
    negative_prompt: str | None = Field(None, max_length=MAX_TEXT)
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=MAX_GUIDANCE_SCALE)
    solver: str | None = Field(None, max_length=100)

    @property
    def most_partial_images(self) -> int:
        """Partial images that are told. Raises Refusal where none could be."""
        wanted = self.partial_images or 0
        if wanted and not self.stream:
            raise Refusal.invalid("partial_images", "0 without stream", wanted)
        if wanted and (self.n or 1) > 1:
            raise Refusal.invalid("partial_images", "0 where n is more than 1: they could not be told apart", wanted)
        if self.stream and self.response_format == "url":
            raise Refusal.invalid("response_format", "b64_json, or left out, with stream", "url")
        return wanted

    def unheeded(self) -> list[str]:
        """A warning for each field that was given and changes nothing."""
        given = {name: getattr(self, name, None) for name in UNHEEDED}
        return [
            f"{name} changes nothing: {UNHEEDED[name]}" for name, value in given.items() if value not in (None, AUTO)
        ]

    def submit(self, owner: str, idempotency_key: str, uses: list[AdapterChoice] | None, **more: Any) -> Submit:
        """The Submit. Raises Refusal."""
        found = _SIZE.fullmatch(self.size or AUTO)
        width, height = map(int, found.groups()) if found else (None, None)
        return Submit(
            owner=owner,
            prompt=self.prompt,
            model=self.model or "",
            negative_prompt=self.negative_prompt or "",
            width=width,
            height=height,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            num_images=self.n or 1,
            adapters=tuple(AdapterUse(use.name, use.scale) for use in uses or ()),
            solver=self.solver or "",
            idempotency_key=idempotency_key,
            **more,
        )


class GenerateRequest(ImageWishes):
    """A picture from words."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a big green tree on a pink background", "n": 1, "seed": 7}]}
    )
    style: Literal["vivid", "natural"] | None = Field(None, description=f"Changes nothing: {UNHEEDED['style']}.")
    moderation: Literal["auto", "low"] | None = Field(None, description=f"Changes nothing: {UNHEEDED['moderation']}.")
    adapters: list[AdapterChoice] | None = Field(None, max_length=MAX_ADAPTERS)

    def command(self, owner: str, idempotency_key: str, preview_every_steps: int) -> Submit:
        """The Submit. Raises Refusal."""
        return self.submit(owner, idempotency_key, self.adapters, preview_every_steps=preview_every_steps)


class EditRequest(ImageWishes):
    """A picture from words and a picture; the form's texts."""

    input_fidelity: Literal["high", "low"] | None = Field(
        None, description=f"Changes nothing: {UNHEEDED['input_fidelity']}."
    )
    strength: float | None = Field(
        None, gt=0, le=1, description=f"How much is painted anew; {DEFAULT_STRENGTH} where it is left out."
    )
    adapters: Annotated[Json[list[AdapterChoice]] | None, BeforeValidator(lambda text: text or None)] = Field(
        None, description='As JSON: [{"name": "ink", "scale": 1}]'
    )

    def command(self, owner: str, idempotency_key: str, image: bytes, preview_every_steps: int) -> Submit:
        """The Submit. Raises Refusal."""
        if not image:
            raise Refusal.invalid("image", "a PNG, JPEG or WebP file", "an empty one")
        return self.submit(
            owner,
            idempotency_key,
            self.adapters,
            preview_every_steps=preview_every_steps,
            init_image=image,
            strength=self.strength,
        )


def steps_between(total_steps: int, partial_images: int) -> int:
    """After how many steps each to ask for a preview, to have so many before the end; 0: none."""
    return max(1, total_steps // (partial_images + 1)) if partial_images else 0


def renamed(error: AtelierError) -> AtelierError:
    """An error in this API's words."""
    word = OUR_WORDS.get(error.field)
    if word is None:
        return error
    return Refusal(
        error.code,
        f"size: {error.message}" if word == "size" else error.message.replace(error.field, word, 1),
        field=word,
        limit=error.limit,
        retry_after_seconds=error.retry_after_seconds,
    )
