"""The artists of adapters: `NAME.artist.toml` beside the adapter NAME, and perhaps `NAME.artist.png`.

    name = "Ines Linhart"      # goes into the metadata; without a PNG and a text it is also the mark
    text = "Ines L."           # the mark, where there is no PNG
    position = "bottom-right"  # these three as in any signature, and with the same defaults
    size = "medium"
    opacity = 0.7

The files are read once, when the server starts. One that is wrong harms its own adapter only: the log says so, and so does
the refusal of every request that it was to sign.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog

from ai.adapters.folder import SUFFIX, lies_inside
from ai.cards import ModelCard
from server.jobs.artists import Artists
from watermark import ImageMark, Position, Signature, SignatureError, Size, TextMark
from watermark.signature import DEFAULT_OPACITY, MAX_IMAGE_BYTES
from watermark.signing import decoded

log = structlog.get_logger("atelier")

_KEYS = ("name", "text", "position", "size", "opacity")


def read_artists(
    cards: Iterable[ModelCard], uploaded: Callable[[str], Signature | None] = lambda name: None
) -> Artists:
    """The artists of all adapters of all models, and of those that were `uploaded`."""
    found: dict[tuple[str, str], Signature | str] = {}
    for card in cards:
        for adapter, path in card.adapters.items():
            document = path.with_name(f"{path.name.removesuffix(SUFFIX)}.artist.toml")
            if not document.is_file():
                continue
            try:
                found[card.name, adapter] = _read(document)
            except (OSError, ValueError) as error:
                found[card.name, adapter] = f"{document.name}: {_told(error)}"
                log.warning("an artist's signature cannot be used", file=str(document), reason=_told(error))
    return Artists(found, uploaded)


def _told(error: OSError | ValueError) -> str:
    return error.strerror or "cannot be read" if isinstance(error, OSError) else str(error)


def _read(document: Path) -> Signature:
    """Raises OSError, or ValueError with what is wrong (SignatureError is one)."""
    given = tomllib.loads(_bytes_of(document, 1 << 16).decode("utf-8"))
    unknown = sorted(set(given) - set(_KEYS))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no such entry; there are {', '.join(_KEYS)}")
    name = _text(given, "name", "")
    if not name:
        raise ValueError("name: missing")
    opacity = given.get("opacity", DEFAULT_OPACITY)
    return Signature(
        mark=_mark(document.with_suffix(".png"), _text(given, "text", name)),
        position=Position.named(_text(given, "position", Position.BOTTOM_RIGHT)),
        size=Size.named(_text(given, "size", Size.MEDIUM)),
        opacity=opacity,
        artist=name,
    )


def _mark(picture: Path, text: str) -> ImageMark | TextMark:
    if not picture.is_file():
        return TextMark(text)
    mark = ImageMark(_bytes_of(picture, MAX_IMAGE_BYTES))
    try:
        decoded(mark)
    except SignatureError as error:
        raise ValueError(f"{picture.name}: {error}") from error
    return mark


def _bytes_of(path: Path, limit: int) -> bytes:
    if not lies_inside(path, path.parent):
        raise ValueError(f"{path.name}: a link that leaves the folder of adapters is not followed")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path.name}: too large; at most {limit:,} bytes are read")
    return content


def _text(given: Mapping[str, Any], key: str, otherwise: str) -> str:
    value = given.get(key, otherwise)
    if not isinstance(value, str):
        raise ValueError(f"{key}: must be a text, not {value!r}")
    return value
