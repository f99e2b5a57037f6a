"""Judges the embedded model on the held-out prompts: `python -m models.check`, one JSON line.

Shares of 1, of pictures that the engine paints at the card's steps and guidance; null for what the model does not have.

    colour, background, shape, size, place    plain pictures of the held-out prompts in which it is as told
    style               pictures told right from the other kind, where a style's and plain ones are the two kinds: for each
                        style the mean of both shares, and the mean of the ten. (Which of all eleven kinds a picture is named
                        is harder; that goes to stderr.)
    style_keeps_prompt  pictures in a style in which colour and shape are both as told
    scorer              pairs in which the scorer ranks a plain picture's own prompt above a wrong one: ten for each, five with
                        one aspect changed (each of the five) and five of other held-out prompts

With --drawn the same is asked of drawings, whose truth is known: what the judges themselves score. Details go to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other; before torch is loaded

import numpy as np
from PIL import Image

from ai.adapters.folder import find_adapters
from models import painting
from models.painting import Wish
from models.training.judge import ASPECTS, read_scene, shares_right, to_floats
from models.training.scorer import Scorer, changed
from models.training.style_judge import BASE, NAMES, draw_in, name_style, told_from_plain
from models.training.style_reading import read_styled
from models.training.styles import STYLES
from models.training.world import Scene, held_out, prompt_of

DEMO = Path(__file__).with_name("demo")
_COLUMNS = 10  # of the contact sheet


def contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """All pictures side by side."""
    side = pictures[0].width
    sheet = Image.new("RGB", (side * _COLUMNS, side * -(-len(pictures) // _COLUMNS)))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (side * (number % _COLUMNS), side * (number // _COLUMNS)))
    return sheet


def choose(scenes: tuple[Scene, ...], count: int, start: int = 0) -> list[Scene]:
    """`count` of the held-out scenes, evenly from the (sorted) list turned by `start`."""
    turned = scenes[start:] + scenes[:start]
    return [turned[i] for i in np.linspace(0, len(turned) - 1, min(count, len(turned))).round().astype(int).tolist()]


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture, what it should show, and the style it should be in."""

    scene: Scene
    style: str
    picture: Image.Image


def show(model: Path, wanted: list[tuple[Scene, str]], arguments: argparse.Namespace) -> list[Shown]:
    """A painted picture of each scene in its style, or a drawn one."""
    if arguments.drawn:
        random, generator = Random(0), np.random.default_rng(0)
        drawn = [draw_in(style, scene, random, generator) for scene, style in wanted]
        pictures = [Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8)) for picture in drawn]
    else:
        wishes = [Wish(prompt_of(scene), i, "" if style == BASE else style) for i, (scene, style) in enumerate(wanted)]
        pictures = painting.paint(model, wishes, arguments.steps, arguments.guidance)
    return [Shown(scene, style, picture) for (scene, style), picture in zip(wanted, pictures, strict=True)]


def judge_styles(shown: list[Shown]) -> tuple[float, float]:
    """The figures "style" and "style_keeps_prompt", of pictures in every style and plain ones."""
    of_style = {style: [each for each in shown if each.style == style] for style in NAMES}
    plain = [told_from_plain(to_floats(each.picture)) for each in of_style[BASE]]
    told: list[float] = []
    both: list[bool] = []
    for style in NAMES:
        pictures = [to_floats(each.picture) for each in of_style[style]]
        details = f"named {np.mean([name_style(picture) == style for picture in pictures]):.3f}"
        if style != BASE:
            found = np.mean([told_from_plain(picture)[style] for picture in pictures])
            spared = np.mean([not taken[style] for taken in plain])
            told.append(float(found + spared) / 2)
            readings = [read_styled(picture, style) for picture in pictures]
            kept = [
                (r[0] == e.scene.colour, r[1] == e.scene.shape) for r, e in zip(readings, of_style[style], strict=True)
            ]
            both += [colour and shape for colour, shape in kept]
            details += f", told from plain {found:.3f}, plain from it {spared:.3f}"
            details += ", colour {:.3f}, shape {:.3f}".format(*np.mean(kept, axis=0))
        print(f"{style:12}{len(pictures):4} pictures: {details}", file=sys.stderr, flush=True)
    return float(np.mean(told)), float(np.mean(both))


def wrong_scenes(scene: Scene, others: tuple[Scene, ...], random: Random) -> list[Scene]:
    """What a picture of the scene does not show: one aspect changed, each once, and as many other scenes."""
    alike = [changed(scene, aspect, random) for aspect in ASPECTS]
    return alike + random.sample([other for other in others if other != scene], len(ASPECTS))


def judge_scorer(folder: Path, shown: list[Shown]) -> float:
    """The figure "scorer"."""
    random, others = Random(1), held_out()
    prompts = [[prompt_of(each.scene), *map(prompt_of, wrong_scenes(each.scene, others, random))] for each in shown]
    scores = Scorer(folder).scores([each.picture for each in shown], prompts)
    won = (scores[:, :1] > scores[:, 1:]).float().mean(dim=0).tolist()
    told = [f"{aspect} changed {share:.3f}" for aspect, share in zip(ASPECTS, won, strict=False)]
    print(f"scorer: {', '.join(told)}; other prompts {np.mean(won[len(ASPECTS) :]):.3f}", file=sys.stderr, flush=True)
    return float(np.mean(won))


def judge(arguments: argparse.Namespace) -> dict[str, float | None]:
    """All figures."""
    model, scenes = arguments.model, choose(held_out(), arguments.count)
    folder = model / "adapters"
    missing = (
        set(STYLES) - set(find_adapters(folder) if folder.is_dir() else ()) - set(STYLES if arguments.drawn else ())
    )
    styled = list(STYLES) if arguments.styled and not missing else []
    wanted = [(scene, BASE) for scene in scenes]
    for number, style in enumerate(styled):
        wanted += [(scene, style) for scene in choose(held_out(), arguments.styled, 37 * number)]
    shown = show(model, wanted, arguments)
    plain = shown[: len(scenes)]
    shares = shares_right(scenes, [read_scene(to_floats(each.picture)) for each in plain])
    figures: dict[str, float | None] = {
        "background" if aspect == "ground" else aspect: share for aspect, share in shares.items()
    }
    figures |= dict(zip(("style", "style_keeps_prompt"), judge_styles(shown) if styled else (None, None), strict=True))
    scorer = model / "scorer"
    figures["scorer"] = judge_scorer(scorer, plain) if scorer.is_dir() else None
    if arguments.sheet:
        rows = [[each for each in shown if each.style == style][: 50 if style == BASE else 10] for style in NAMES]
        first = [each for row in rows for each in row]
        contact_sheet([each.picture for each in first]).save(arguments.sheet)
    return {name: None if figure is None else round(figure, 4) for name, figure in figures.items()}


def main(given: list[str] | None = None) -> None:
    """Paint, judge, print."""
    parser = argparse.ArgumentParser(prog="python -m models.check", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--count", type=int, default=500, help="how many of the 500 held-out prompts, plain")
    parser.add_argument("--styled", type=int, default=40, help="how many of them in each style")
    parser.add_argument("--steps", type=int, help="instead of the card's")
    parser.add_argument("--guidance", type=float, help="instead of the card's")
    parser.add_argument("--drawn", action="store_true", help="judge drawings instead of painted pictures")
    parser.add_argument("--sheet", type=Path, help="also write the first fifty pictures here, and ten in each style")
    print(json.dumps(judge(parser.parse_args(given))))


if __name__ == "__main__":
    main()
