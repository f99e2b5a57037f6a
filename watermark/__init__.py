"""Signatures: a mark on a picture, and what the file says of itself. Pure: bytes and pictures in, the same out."""

from watermark.fonts import FontShelf, installed_fonts
from watermark.metadata import MetadataError, encode_png, read_metadata
from watermark.signature import ImageMark, Position, Signature, SignatureError, Size, TextMark
from watermark.signing import sign

__all__ = [
    "FontShelf",
    "ImageMark",
    "MetadataError",
    "Position",
    "Signature",
    "SignatureError",
    "Size",
    "TextMark",
    "encode_png",
    "installed_fonts",
    "read_metadata",
    "sign",
]
