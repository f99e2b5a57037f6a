"""What messages ask for: each form told by its shape, every field read as the contract has it, and every fault a refusal."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proto import atelier_pb2 as pb
from server.commands import AdapterUse, Predict, Submit
from server.doors.amqp import licensing, own
from server.doors.amqp.broker import Properties
from server.doors.amqp.forms import FormRefusal, read_order
from server.doors.amqp.order import Order, SignatureWish
from server.errors import Code, Refusal
from server.webhook import ALL_EVENTS, HookEvent, HookKind, Webhook
from tests.server.pictures import a_png
from watermark import ImageMark, Position, Signature, Size, TextMark

JSON = Properties(content_type="application/json")
MAX_BYTES = 100_000

A1: dict[str, Any] = {
    "task_id": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
    "type": "image_generation",
    "data": {
        "generation_id": 17,
        "style_id": 3,
        "prompt": "a red fox",
        "negative_prompt": "blurry",
        "parameters": {"width": 768, "height": 640, "steps": 30, "cfg_scale": 8, "seed": 7},
    },
    "callback_url": "https://shop.test/api/webhooks/inference/complete",
    "created_at": "2025-01-01T00:00:00.000Z",
}
A2: dict[str, Any] = {
    "generation_id": 18,
    "style_id": 4,
    "lora_model_url": "https://models.test/style-4/lora.safetensors",
    "prompt_tags": ["woman", "red dress"],
    "artist_name": "Ada",
    "webhook_url": "http://backend:8000",
}
A3: dict[str, Any] = {
    "task_id": "t-19",
    "type": "image_generation",
    "data": {
        "generation_id": 19,
        "style_id": 5,
        "lora_path": "models/style_5/lora_weights.safetensors",
        "prompt": "cat, hat",
        "aspect_ratio": "1:2",
        "seed": None,
        "signature_path": "signatures/ada.png",
        "signature_config": {"position": "top-left", "size": "large", "opacity": 0.5},
        "prompt_tags": ["cat", "hat"],
        "num_inference_steps": 20,
    },
    "webhook_url": "http://backend:8000",
}
OWN: dict[str, Any] = {"type": "atelier.submit", "idempotency_key": "order-1", "prompt": "a red fox"}


def order_of(message: Any, properties: Properties = JSON) -> Order:
    """A message's order."""
    return read_order(json.dumps(message).encode(), properties, owner="shop", max_bytes=MAX_BYTES)


def refusal_of(message: Any, properties: Properties = JSON) -> FormRefusal:
    """Why it has none."""
    with pytest.raises(FormRefusal) as caught:
        order_of(message, properties)
    return caught.value


def but(message: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The message with one field changed."""
    changed = deepcopy(message)
    *way, last = path.split(".")
    place = changed
    for step in way:
        place = place.setdefault(step, {})
    place[last] = value
    return changed


def without(message: dict[str, Any], path: str) -> dict[str, Any]:
    """The message with one field left out."""
    changed = deepcopy(message)
    *way, last = path.split(".")
    place = changed
    for step in way:
        place = place[step]
    del place[last]
    return changed


def test_the_documented_form() -> None:
    """A1: parameters as given, the style's LoRA from the storage, the backend's own picture key and webhook."""
    assert order_of(A1).submit == Submit(
        owner="shop",
        prompt="a red fox",
        negative_prompt="blurry",
        width=768,
        height=640,
        num_inference_steps=30,
        guidance_scale=8.0,
        seed=7,
        adapters=(AdapterUse("storage:style:3"),),
        idempotency_key="6f9619ff-8b86-d011-b42d-00cf4fc964ff",
        webhook=Webhook(kind=HookKind.BACKEND, url=A1["callback_url"], generation_id=17),
        object_key="generations/gen-17.png",
    )
    assert order_of(A1).submit.idempotency_key == A1["task_id"]


def test_the_flat_form() -> None:
    """A2: tags are the prompt, the artist's name is the signature at 128 of 255, the generation is the key."""
    submit = order_of(A2).submit
    assert submit == Submit(
        owner="shop",
        prompt="woman, red dress",
        width=512,
        height=512,
        num_inference_steps=50,
        guidance_scale=7.5,
        seed=42,
        adapters=(AdapterUse("https://models.test/style-4/lora.safetensors"),),
        signature=Signature(TextMark("Ada"), opacity=128 / 255, artist="Ada"),
        webhook=Webhook(
            kind=HookKind.BACKEND, url="http://backend:8000", generation_id=18, prompt_tags=("woman", "red dress")
        ),
        object_key="generations/gen-18.png",
    )
    assert submit.idempotency_key == "generation-18"


def test_the_form_of_today() -> None:
    """A3: the LoRA by its key, the size by its ratio, the seed left to chance, the signature's picture still to be fetched."""
    order = order_of(A3)
    assert order.submit == Submit(
        owner="shop",
        prompt="cat, hat",
        width=512,
        height=1024,
        num_inference_steps=20,
        guidance_scale=7.5,
        seed=None,
        adapters=(AdapterUse("storage:models/style_5/lora_weights.safetensors"),),
        webhook=Webhook(kind=HookKind.BACKEND, url="http://backend:8000", generation_id=19, prompt_tags=("cat", "hat")),
        object_key="generations/gen-19.png",
    )
    assert order.signature == SignatureWish(
        key="signatures/ada.png", position=Position.TOP_LEFT, size=Size.LARGE, opacity=0.5, artist=""
    )
    png = a_png()
    assert order.signed(png).signature == Signature(
        ImageMark(png), position=Position.TOP_LEFT, size=Size.LARGE, opacity=0.5
    )
    with pytest.raises(Refusal) as caught:
        order.signed(b"no picture")
    assert order.in_its_words(caught.value).field == "data.signature_path"


def test_a_signature_that_is_empty_is_none() -> None:
    """An empty signature_path, and a message without an artist, leave the picture to the server's own rule."""
    assert order_of(but(A3, "data.signature_path", "")).signature is None
    assert order_of(but(A3, "data.signature_path", "")).pictures.signature is None
    assert order_of(but(A2, "artist_name", " ")).pictures.signature is None


@pytest.mark.parametrize("form", [A1, A2, A3])
def test_what_may_be_left_out(form: dict[str, Any]) -> None:
    """The smallest message of each form has the backend's defaults."""
    envelope = {name: form[name] for name in ("type",) if name in form}
    data = {"generation_id": 1, "style_id": 2}
    smallest = (
        {**envelope, "data": {**data, "prompt": "fox", **({"aspect_ratio": "1:1"} if form is A3 else {})}}
        if envelope
        else {**data, "prompt_tags": ["fox"]}
    )
    submit = order_of(smallest).pictures
    assert (submit.prompt, submit.width, submit.height, submit.num_inference_steps) == ("fox", 512, 512, 50)
    assert (submit.guidance_scale, submit.seed) == (7.5, None if form is A3 else 42)
    assert (submit.adapters, submit.idempotency_key) == ((AdapterUse("storage:style:2"),), "generation-1")
    assert submit.webhook == Webhook(kind=HookKind.BACKEND, generation_id=1, prompt_tags=() if envelope else ("fox",))


@pytest.mark.parametrize(
    ("ratio", "size"), [("1:1", (512, 512)), ("2:2", (1024, 1024)), ("1:2", (512, 1024)), ("2:1", (1024, 512))]
)
def test_aspect_ratios(ratio: str, size: tuple[int, int]) -> None:
    """Each ratio of the contract has its size."""
    submit = order_of(but(A3, "data.aspect_ratio", ratio)).pictures
    assert (submit.width, submit.height) == size


@pytest.mark.parametrize(("given", "share"), [(0, 0.0), (255, 1.0), (51, 0.2), (0.5, 0.5), (1.0, 1.0)])
def test_the_flat_form_s_opacity_is_a_share_or_a_byte(given: float, share: float) -> None:
    """A whole number is 255ths, one with a point is a share."""
    signature = order_of(but(A2, "signature_config.opacity", given)).pictures.signature
    assert signature is not None
    assert signature.opacity == pytest.approx(share)


def test_two_to_four_pictures_may_be_asked_for() -> None:
    """num_images stands where each form has its parameters."""
    assert order_of(but(A1, "data.parameters.num_images", 4)).pictures.num_images == 4
    assert order_of(but(A2, "num_images", 2)).pictures.num_images == 2
    assert order_of(but(A3, "data.num_images", 3)).pictures.num_images == 3


BAD = [
    (A1, "type", "video_generation", "type"),
    (A1, "type", 7, "type"),
    (A1, "data", [], "data"),
    (A1, "data.generation_id", "17", "data.generation_id"),
    (A1, "data.generation_id", True, "data.generation_id"),
    (A1, "data.generation_id", -1, "data.generation_id"),
    (A1, "data.style_id", 1.5, "data.style_id"),
    (A1, "data.style_id", -2, "data.style_id"),
    (A1, "data.prompt", "   ", "data.prompt"),
    (A1, "data.prompt", ["fox"], "data.prompt"),
    (A1, "data.negative_prompt", 1, "data.negative_prompt"),
    (A1, "data.parameters", "big", "data.parameters"),
    (A1, "data.parameters.width", "768", "data.parameters.width"),
    (A1, "data.parameters.cfg_scale", "high", "data.parameters.cfg_scale"),
    (A1, "data.parameters.cfg_scale", 51, "data.parameters.cfg_scale"),
    (A1, "data.parameters.cfg_scale", 10**400, "data.parameters.cfg_scale"),
    (A1, "data.parameters.seed", -1, "data.parameters.seed"),
    (A1, "data.parameters.num_images", 5, "data.parameters.num_images"),
    (A1, "task_id", "x" * 201, "task_id"),
    (A1, "task_id", 5, "task_id"),
    (A1, "callback_url", "ftp://shop.test", "callback_url"),
    (A2, "prompt_tags", "woman", "prompt_tags"),
    (A2, "prompt_tags", [], "prompt_tags"),
    (A2, "prompt_tags", ["a", 1], "prompt_tags"),
    (A2, "lora_model_url", 9, "lora_model_url"),
    (A2, "artist_name", "a\nb", "artist_name"),
    (A2, "signature_config.opacity", 256, "signature_config.opacity"),
    (A2, "signature_config.opacity", 1.5, "signature_config.opacity"),
    (A2, "signature_config.opacity", True, "signature_config.opacity"),
    (A2, "signature_config.position", "middle", "signature_config.position"),
    (A2, "webhook_url", "http://back end", "webhook_url"),
    (A3, "data.aspect_ratio", "16:9", "data.aspect_ratio"),
    (A3, "data.lora_path", {}, "data.lora_path"),
    (A3, "data.signature_config.size", "huge", "data.signature_config.size"),
    (A3, "data.signature_config.opacity", 2, "data.signature_config.opacity"),
    (A3, "data.signature_config", 2, "data.signature_config"),
    (A3, "data.num_inference_steps", 2.5, "data.num_inference_steps"),
    (OWN, "prompt", "", "prompt"),
    (OWN, "promt", "a typing error", "promt"),
    (OWN, "owner", "someone else", "owner"),
    (OWN, "width", "wide", "width"),
    (OWN, "adapters", [{"name": ""}], "adapters[0].name"),
    (OWN, "adapters", [{"name": "a", "weight": 1}], "adapters[0].weight"),
    (OWN, "adapters", [{"name": "a"}] * 9, "adapters"),
    (OWN, "signature", {"text": "Ada", "image": "AAAA"}, "signature"),
    (OWN, "signature", {"text": "Ada", "opacity": 3}, "signature.opacity"),
    (OWN, "signature", {"image_key": "a.png", "opacity": 3}, "signature.opacity"),
    (OWN, "signature", {"image": "AAAA"}, "signature.image"),
    (OWN, "signature", {"image": "not base64!"}, "signature.image"),
    (OWN, "init_image", "not base64!", "init_image"),
    (OWN, "strength", 0.5, "strength"),
    (OWN, "use_refiner", 1, "use_refiner"),
    (OWN, "refiner_strength", 2, "refiner_strength"),
    (OWN, "webhook", {"url": "gopher://x"}, "webhook.url"),
    (OWN, "webhook", {"url": "https://x", "events": ["logs"]}, "webhook.events"),
    (OWN, "idempotency_key", "", "idempotency_key"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "path", "value", "field"), BAD)
def test_every_fault_is_refused_by_the_message_s_own_name(
    form: dict[str, Any], path: str, value: Any, field: str
) -> None:
    """A field of the wrong type or out of range is named as the message has it, with what would have been taken."""
    refusal = refusal_of(but(form, path, value))
    assert (refusal.code, refusal.field) == (Code.INVALID_PARAMETER, field)
    assert refusal.limit
    assert refusal.message.startswith(field)


@pytest.mark.parametrize(
    ("form", "path"),
    [(A1, "data.generation_id"), (A1, "data.style_id"), (A1, "data.prompt"), (A2, "prompt_tags"), (A3, "data.prompt"),
     (A1, "data"), (OWN, "prompt")],
)  # fmt: skip
def test_what_must_be_there_is_asked_for(form: dict[str, Any], path: str) -> None:
    """A message that lacks what no default can be for is refused with the field's name."""
    assert refusal_of(without(form, path)).field == path


def test_a_refusal_says_which_generation_waits_for_it() -> None:
    """Where generation and webhook can be read, they come with the refusal, whatever else is wrong."""
    refusal = refusal_of(but(A3, "data.aspect_ratio", "7:3"))
    assert (refusal.generation_id, refusal.webhook_url) == (19, "http://backend:8000")
    refusal = refusal_of(but(A1, "type", "video"))
    assert (refusal.generation_id, refusal.webhook_url) == (17, A1["callback_url"])
    refusal = refusal_of(but(but(A2, "prompt_tags", 3), "webhook_url", "x"))
    assert (refusal.generation_id, refusal.webhook_url) == (18, "")
    assert refusal_of(OWN | {"width": "x"}).generation_id is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.MALFORMED_MESSAGE),
        (b"{", Code.MALFORMED_MESSAGE),
        (b"[1]", Code.MALFORMED_MESSAGE),
        (b'{"a": NaN}', Code.MALFORMED_MESSAGE),
        (b'{"prompt": "\\ud800"}', Code.MALFORMED_MESSAGE),
        (b'{"prompt": "\xff"}', Code.MALFORMED_MESSAGE),
        (b"[" * 90_000, Code.MALFORMED_MESSAGE),
        (b"{}", Code.INVALID_PARAMETER),
        (b" " * (MAX_BYTES + 1), Code.FRAME_TOO_LARGE),
    ],
)
def test_what_is_no_message_is_refused(body: bytes, code: Code) -> None:
    """Broken JSON, other JSON, JSON nested beyond reason, nothing at all, and more bytes than are taken."""
    with pytest.raises(FormRefusal) as caught:
        read_order(body, JSON, owner="shop", max_bytes=MAX_BYTES)
    assert caught.value.code is code
    assert caught.value.generation_id is None


def test_a_compressed_body_is_refused() -> None:
    """Bodies are taken as they are."""
    assert refusal_of(A1, replace(JSON, content_encoding="gzip")).field == "content_encoding"
    assert order_of(A1, replace(JSON, content_encoding="UTF-8"))


def test_our_own_json() -> None:
    """Every field of a Submit that a caller may say, and a webhook of its own."""
    png = a_png()
    message = {
        **OWN, "model": "demo", "negative_prompt": "n", "width": 128, "height": 64, "num_inference_steps": 5,
        "guidance_scale": 2, "seed": 3, "num_images": 2, "adapters": [{"name": "ink", "scale": 0.5}, {"name": "neon"}],
        "solver": "ddim", "priority": -3, "deadline_seconds": 60, "init_image": base64.b64encode(png).decode(),
        "strength": 0.5, "use_refiner": True, "refiner_strength": 0.25,
        "signature": {"text": "Ada", "position": "top-center", "size": "small", "opacity": 1, "artist": "Ada L."},
        "webhook": {"url": "https://hooks.test/1", "events": ["completed"]},
    }  # fmt: skip
    assert order_of(message).submit == Submit(
        owner="shop", model="demo", prompt="a red fox", negative_prompt="n", width=128, height=64,
        num_inference_steps=5, guidance_scale=2.0, seed=3, num_images=2,
        adapters=(AdapterUse("ink", 0.5), AdapterUse("neon")), solver="ddim", priority=-3, deadline_seconds=60.0,
        init_image=png, strength=0.5, use_refiner=True, refiner_strength=0.25,
        signature=Signature(TextMark("Ada"), position=Position.TOP_CENTER, size=Size.SMALL, opacity=1.0, artist="Ada L."),
        webhook=Webhook(kind=HookKind.GENERIC, url="https://hooks.test/1", events=frozenset({HookEvent.COMPLETED})),
    )  # fmt: skip
    assert order_of({**OWN, "webhook": {"url": "https://hooks.test/1"}}).pictures.webhook == Webhook(
        kind=HookKind.GENERIC, url="https://hooks.test/1", events=ALL_EVENTS
    )


def test_our_own_signatures_of_pictures() -> None:
    """A signature's picture stands in the message, or in the storage."""
    png = a_png()
    inline = order_of({**OWN, "signature": {"image": base64.b64encode(png).decode()}}).pictures.signature
    assert inline == Signature(ImageMark(png))
    order = order_of({**OWN, "signature": {"image_key": "signatures/a.png", "artist": "Ada"}})
    assert order.pictures.signature is None
    assert order.signature == SignatureWish(
        key="signatures/a.png", position=Position.BOTTOM_RIGHT, size=Size.MEDIUM, opacity=0.7, artist="Ada"
    )


def test_a_key_may_be_the_message_id() -> None:
    """The idempotency key stands in the body or is the message's id; the properties' type may say the form."""
    keyless = {"prompt": "a red fox"}
    order = order_of(keyless, replace(JSON, message_id="m-1", type="atelier.submit"))
    assert order.submit.idempotency_key == "m-1"
    assert order_of(OWN, replace(JSON, message_id="m-1")).submit.idempotency_key == "order-1"


def test_protobuf() -> None:
    """A Submit as the TCP door takes it, told by its content type; one without a key or with broken bytes is refused."""
    properties = Properties(content_type="application/x-protobuf; v=1", message_id="m-2")
    message = pb.Submit(prompt="a red fox", width=64, adapters=[pb.AdapterUse(name="ink")], preview_every_steps=3)
    order = read_order(message.SerializeToString(), properties, owner="shop", max_bytes=MAX_BYTES)
    assert order.submit == Submit(owner="shop", prompt="a red fox", width=64, adapters=(AdapterUse("ink"),))
    assert order.submit.idempotency_key == "m-2"
    for body, code in ((b"\xff\xff", Code.MALFORMED_MESSAGE), (b"", Code.INVALID_PARAMETER)):
        with pytest.raises(FormRefusal) as caught:
            read_order(body, properties, owner="shop", max_bytes=MAX_BYTES)
        assert caught.value.code is code
    with pytest.raises(FormRefusal) as caught:
        read_order(message.SerializeToString(), replace(properties, message_id=""), owner="shop", max_bytes=MAX_BYTES)
    assert caught.value.field == "idempotency_key"


@pytest.mark.parametrize("names", [licensing.A1_NAMES, licensing.A2_NAMES, licensing.A3_NAMES, own.NAMES])
def test_every_field_of_a_submit_has_its_name_in_every_form(names: dict[str, str]) -> None:
    """The tables of names are total: each field has one, or an empty one where the form cannot say it."""
    stems = {name for name in names if "." not in name}
    assert stems == {entry.name for entry in fields(Submit)}


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
_CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
_PATHS = {
    id(form): [
        *form,
        *(f"data.{name}" for name in form.get("data", {})),
        *(f"data.parameters.{name}" for name in form.get("data", {}).get("parameters", {})),
    ]
    for form in (A1, A2, A3, OWN)
}


@_CALM
@given(form=st.sampled_from([A1, A2, A3, OWN]), data=st.data())
def test_no_value_in_any_field_is_anything_but_an_order_or_a_refusal(form: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands in a field of any form: an order, or a refusal."""
    message = form
    for path in data.draw(st.lists(st.sampled_from(_PATHS[id(form)]), max_size=3, unique=True)):
        try:
            message = but(message, path, data.draw(_VALUES))
        except (AttributeError, TypeError):  # what the path leads through is no object any more
            continue
    with suppress(FormRefusal):
        assert order_of(message).submit.idempotency_key


@_CALM
@given(body=st.binary(max_size=200), content_type=st.sampled_from(["", "application/json", "application/x-protobuf"]))
def test_no_bytes_are_anything_but_an_order_or_a_refusal(body: bytes, content_type: str) -> None:
    """Whatever bytes come: an order, or a refusal."""
    with suppress(FormRefusal):
        read_order(body, Properties(content_type=content_type, message_id="m"), owner="shop", max_bytes=MAX_BYTES)


def test_a_refusal_of_the_server_is_told_in_the_message_s_words() -> None:
    """What admission refuses by a Submit's field is told by the message's; what has no name there stays as it is."""
    order = order_of(A1)
    width = order.in_its_words(Refusal.invalid("width", "64 to 1280, in steps of 8", 513))
    assert (width.field, width.message[:21]) == ("data.parameters.width", "data.parameters.width")
    adapter = order.in_its_words(Refusal(Code.ADAPTER_NOT_FOUND, "adapters[0].name: none", field="adapters[0].name"))
    assert (adapter.field, adapter.message) == ("data.style_id", "data.style_id: none")
    model = Refusal(Code.MODEL_NOT_FOUND, "no model", field="model")
    assert order.in_its_words(model) is model


def test_a_text_is_asked_for_by_a_message_of_its_own() -> None:
    """The model's input is an object as it stands; its key is asked for as any."""
    given = {"prompt": "once", "stop": ["."], "top_k": 3}
    message = {"type": "atelier.predict", "idempotency_key": "p-1", "model": "words", "input": given, "priority": 2}
    assert order_of(message).submit == Predict(owner="shop", model="words", input=given, priority=2)
    assert order_of(message).submit.idempotency_key == "p-1"
    told = {**message, "webhook": {"url": "https://shop.test/hook", "events": ["completed"]}, "deadline_seconds": 4}
    signed = order_of({**message, "signature": {"text": "Ada"}})
    assert (signed.submit.signature, signed.signature) == (Signature(TextMark("Ada")), None)
    stored = order_of({**message, "signature": {"image_key": "marks/ada.png"}})
    assert stored.signed(a_png()).signature == Signature(ImageMark(a_png()))
    hook = order_of(told).submit.webhook
    assert hook is not None
    assert hook.events == frozenset({HookEvent.COMPLETED})
    for wrong, field in (
        ({"input": "once"}, "input"),
        ({"model": None}, "model"),
        ({"prompt": "once"}, "prompt"),
        ({"idempotency_key": ""}, "idempotency_key"),
    ):
        assert refusal_of({**message, **wrong}).field == field
