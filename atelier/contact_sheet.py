"""All pictures of a run on one sheet, each over its caption."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 5
CELL = 224  # pixels; the embedded model's 128 fit with room for a caption that can be read
EDGE = 16
CAPTION_LINES = 3
CAPTION_WIDTH = 36  # characters of the small font in a cell
LINE_HEIGHT = 17
PAPER, INK = "#fafaf7", "#303030"


def write_contact_sheet(out: Path, pictures: Sequence[tuple[Path, str]]) -> Path:
    """Write <out>/contact-sheet.png of (file, caption) pairs. Blocking; raises OSError."""
    rows = -(-len(pictures) // COLUMNS)
    columns = min(COLUMNS, len(pictures))
    step_x, step_y = CELL + EDGE, CELL + CAPTION_LINES * LINE_HEIGHT + EDGE
    sheet = Image.new("RGB", (EDGE + columns * step_x, EDGE + rows * step_y), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for index, (path, told) in enumerate(pictures):
        left, top = EDGE + index % COLUMNS * step_x, EDGE + index // COLUMNS * step_y
        sheet.paste(_picture(path), (left, top))
        caption = "\n".join(textwrap.wrap(told, CAPTION_WIDTH)[:CAPTION_LINES])
        draw.multiline_text((left, top + CELL + 4), caption, fill=INK, font=font, spacing=3)
    target = out / "contact-sheet.png"
    sheet.save(target)
    return target


def _picture(path: Path) -> Image.Image:
    """The picture on a square cell, whatever its proportions."""
    with Image.open(path, formats=["PNG"]) as opened:
        picture = opened.convert("RGB")
    scale = CELL / max(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    cell = Image.new("RGB", (CELL, CELL), PAPER)
    cell.paste(picture, ((CELL - picture.width) // 2, (CELL - picture.height) // 2))
    return cell
