"""Small PNGs for signatures."""

from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO

from PIL import Image

from watermark import png as png_file


def a_png(width: int = 8, height: int = 8) -> bytes:
    """A sound one of noise, so that its size grows with its area."""
    file = BytesIO()
    Image.frombytes("RGBA", (width, height), random.Random(1).randbytes(width * height * 4)).save(file, "PNG")
    return file.getvalue()


def a_hollow_png() -> bytes:
    """One whose structure and checksums are right and whose pixels are no zlib stream: only decoding finds that."""
    header = struct.pack(">IIBBBBB", 8, 8, 8, 6, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", b"not a zlib stream at all"), (b"IEND", b"")]
    return png_file.MAGIC + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
