"""What a message asks for: a Submit or a Predict, which may still lack the picture of its signature."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from server.commands import Predict, Submit
from server.errors import Code, Refusal
from watermark import ImageMark, Position, Signature, SignatureError, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureWish:
    """A signature whose picture lies in the storage, under `key`."""

    key: str
    position: Position
    size: Size
    opacity: float
    artist: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`names` says what a field of Submit is called in the message, for refusals."""

    submit: Submit | Predict
    signature: SignatureWish | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def pictures(self) -> Submit:
        """The Submit, of an order for pictures."""
        assert isinstance(self.submit, Submit)
        return self.submit

    def signed(self, png: bytes) -> Submit | Predict:
        """What is asked for, with the picture of its signature. Raises Refusal."""
        wish, submit = self.signature, self.submit
        assert wish is not None
        try:
            mark = ImageMark(png)
            signature = Signature(
                mark, position=wish.position, size=wish.size, opacity=wish.opacity, artist=wish.artist
            )
        except SignatureError as error:
            raise signature_refusal(error) from None
        return replace(submit, signature=signature)

    def in_its_words(self, refusal: Refusal) -> Refusal:
        """A refusal with the message's own name of the field."""
        return renamed(refusal, self.names)


def signature_refusal(error: SignatureError) -> Refusal:
    """What is wrong with a signature, as every door says it."""
    name = f"signature.{error.field}"
    return Refusal(Code.INVALID_PARAMETER, f"{name}: {error.message}", field=name, limit=error.limit)


def renamed(refusal: Refusal, names: Mapping[str, str]) -> Refusal:
    """The same refusal about the same field, by the name that the field has in the message."""
    stem = re.split(r"[.\[]", refusal.field)[0]
    name = names.get(refusal.field) or names.get(stem)
    if not name or name == stem:
        return refusal
    message = refusal.message
    if message.startswith(refusal.field):
        message = name + message[len(refusal.field) :]
    return Refusal(
        refusal.code, message, field=name, limit=refusal.limit, retry_after_seconds=refusal.retry_after_seconds
    )
