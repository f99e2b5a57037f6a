"""The signature that options ask for."""

from __future__ import annotations

from pathlib import Path

import typer

from atelier.choices import MarkPosition, MarkSize, content
from proto import atelier_pb2 as pb

_POSITIONS = {
    MarkPosition.TOP_LEFT: pb.Signature.TOP_LEFT,
    MarkPosition.TOP_CENTER: pb.Signature.TOP_CENTER,
    MarkPosition.TOP_RIGHT: pb.Signature.TOP_RIGHT,
    MarkPosition.BOTTOM_LEFT: pb.Signature.BOTTOM_LEFT,
    MarkPosition.BOTTOM_CENTER: pb.Signature.BOTTOM_CENTER,
    MarkPosition.BOTTOM_RIGHT: pb.Signature.BOTTOM_RIGHT,
}
_SIZES = {
    MarkSize.SMALL: pb.Signature.SMALL,
    MarkSize.MEDIUM: pb.Signature.MEDIUM,
    MarkSize.LARGE: pb.Signature.LARGE,
}


def signature(
    mark: str | None, position: MarkPosition, size: MarkSize, opacity: float | None, artist: str
) -> pb.Signature | None:
    """A text, or the PNG file of that name; None where there is no mark. Raises typer.BadParameter."""
    if mark is None:
        if artist:
            raise typer.BadParameter("goes into the metadata with a mark: give --sign too", param_hint="--artist")
        return None
    signature = pb.Signature(position=_POSITIONS[position], size=_SIZES[size], artist=artist)
    if opacity is not None:
        signature.opacity = opacity
    if mark.lower().endswith(".png"):
        signature.image = content(Path(mark), "--sign")
    else:
        signature.text = mark
    return signature
