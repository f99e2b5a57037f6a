"""What may be asked for with a Submit or a Predict, as plain Python values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from ai.types import Json
from proto import atelier_pb2 as pb


class SubmitFields(TypedDict, total=False):
    """The fields of Submit in proto/atelier.proto, which says what they mean; None is the same as not given.

    `adapters` are names, or (name, scale). Progress and the pictures themselves are asked for unless declined.
    """

    idempotency_key: str
    model: str
    negative_prompt: str
    width: int | None
    height: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    seed: int | None
    num_images: int | None
    adapters: Sequence[str | tuple[str, float]]
    solver: str
    priority: int
    deadline_seconds: float | None
    signature: pb.Signature | None
    init_image: bytes
    strength: float | None
    use_refiner: bool | None
    refiner_strength: float | None
    webhook: pb.Webhook | None
    traceparent: str
    progress: bool
    preview_every_steps: int
    inline_pictures: bool
    cancel_on_disconnect: bool


class PredictFields(TypedDict, total=False):
    """Those of Predict, beside the model and its input. Progress and the text as it is written are asked for unless declined."""

    idempotency_key: str
    priority: int
    deadline_seconds: float | None
    webhook: pb.Webhook | None
    progress: bool
    output: bool
    cancel_on_disconnect: bool


def predict_message(model: str, given: Mapping[str, Json], fields: PredictFields) -> pb.Predict:
    """The Predict. Raises ValueError or TypeError for what is no JSON."""
    text = json.dumps(dict(given), allow_nan=False)
    wishes: dict[str, Any] = {"progress": True, "output": True, **fields}
    return pb.Predict(model=model, input=text, **wishes)


def submit_message(prompt: str, fields: SubmitFields) -> pb.Submit:
    """The Submit. Raises ValueError or TypeError for what no number of the wire can hold."""
    given: dict[str, Any] = {"progress": True, "inline_pictures": True, **fields}
    adapters = given.pop("adapters", ())
    message = pb.Submit(prompt=prompt, **given)
    message.adapters.extend(_adapter(use) for use in adapters)
    return message


def _adapter(use: str | tuple[str, float]) -> pb.AdapterUse:
    if isinstance(use, str):
        return pb.AdapterUse(name=use)
    name, scale = use
    return pb.AdapterUse(name=name, scale=scale)
