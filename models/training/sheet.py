"""Paints models/demo/styles.png, six prompts in each of the ten styles: `python -m models.training.sheet`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other; before torch is loaded

from PIL import Image, ImageDraw, ImageFont

from models.painting import Wish, paint
from models.training.shapes import SIZE
from models.training.styles import STYLES

DEMO = Path(__file__).parents[1] / "demo"
PROMPTS = (
    "a big red star on a white background",
    "a yellow heart on a purple background",
    "a big cyan flower on a black background",
    "a green house on an orange background",
    "a big white moon on a blue background",
    "a small black tree on a pink background at the bottom",
)
_HEAD = 20  # pixels above the pictures for a style's name


def paint_sheet(model: Path, seed: int) -> Image.Image:
    """A column for each style under its name, a row for each prompt."""
    wishes = [Wish(prompt, seed + row, style) for style in STYLES for row, prompt in enumerate(PROMPTS)]
    sheet = Image.new("RGB", (SIZE * len(STYLES), _HEAD + SIZE * len(PROMPTS)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, style in enumerate(STYLES):
        pen.text(((column + 0.5) * SIZE, _HEAD / 2), style, fill="black", font=font, anchor="mm")
    for number, picture in enumerate(paint(model, wishes)):
        column, row = divmod(number, len(PROMPTS))
        sheet.paste(picture, (column * SIZE, _HEAD + row * SIZE))
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m models.training.sheet", description=__doc__)
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--out", type=Path, default=DEMO / "styles.png")
    parser.add_argument("--seed", type=int, default=0, help="of the first row's pictures; the next row has the next")
    arguments = parser.parse_args()
    paint_sheet(arguments.model, arguments.seed).save(arguments.out, optimize=True)
