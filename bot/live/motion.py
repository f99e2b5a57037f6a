"""What bots send: values that move as a face does, or pictures that change; the same again and again after CYCLE frames. Pure."""

from __future__ import annotations

import math
import random

CYCLE = 90  # frames: three seconds at 30 a second


def values_of(session: int, inputs: int, seed: int) -> list[tuple[float, ...]]:
    """CYCLE frames of `inputs` values from 0 to 1: each swings at a pace of its own, with a little noise as sensors have it."""
    chance = random.Random(f"{seed}:{session}:motion")  # noqa: S311  # to be repeated, not to be secret
    swings = [(chance.randint(1, 4), chance.random() * math.tau) for _ in range(inputs)]
    return [
        tuple(
            min(1.0, max(0.0, 0.5 + 0.4 * math.sin(math.tau * turns * at / CYCLE + begin) + chance.gauss(0, 0.02)))
            for turns, begin in swings
        )
        for at in range(CYCLE)
    ]


def images_of(session: int, height: int, width: int, seed: int, count: int = 8) -> list[bytes]:
    """So many pictures of noise, red, green and blue, as a live frame has them."""
    chance = random.Random(f"{seed}:{session}:image")  # noqa: S311  # likewise
    return [chance.randbytes(3 * height * width) for _ in range(count)]
