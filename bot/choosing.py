"""What each visitor wants and does: a function of the profile, its seed and the visit's number, and of nothing else.

Whoever makes visit 17, in whichever process and after whatever, asks for the same picture and behaves the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bot.orders import SubmitFields
from bot.profile import ANY_STYLE, DEFAULT_SIZE, Behaviour, Mix, Profile
from proto import atelier_pb2 as pb

MAX_SEED = 2**31


class Conduct(StrEnum):
    """How a visitor behaves."""

    POLITE = "polite"
    CANCEL = "cancel"
    DISCONNECT = "disconnect"
    SLOW_READER = "slow_reader"
    BAD_PACKET = "bad_packet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One picture to ask for, and the manner of asking. None is the model's default; `moment` (0 to 1) says when, within what
    the profile allows, a mind is changed or a connection lost."""

    number: int
    mix: str
    conduct: Conduct
    moment: float
    prompt: str
    negative_prompt: str
    width: int | None
    height: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    styles: tuple[str, ...]
    solver: str
    priority: int
    num_images: int
    signature: str
    signature_opacity: float | None = None
    preview_every_steps: int
    seed: int

    def fields(self, key: str = "") -> SubmitFields:
        """For a Submit."""
        fields = SubmitFields(
            idempotency_key=key, negative_prompt=self.negative_prompt, width=self.width, height=self.height,
            num_inference_steps=self.num_inference_steps, guidance_scale=self.guidance_scale, seed=self.seed,
            num_images=self.num_images, adapters=self.styles, solver=self.solver, priority=self.priority,
            preview_every_steps=self.preview_every_steps,
        )  # fmt: skip
        if self.signature:
            fields["signature"] = pb.Signature(
                text=self.signature, artist=self.signature, opacity=self.signature_opacity
            )
        return fields

    def asked(self) -> dict[str, object]:
        """The same in a few words, for a report."""
        size = f"{self.width}x{self.height}" if self.width else "default"
        return {
            "prompt": self.prompt, "seed": self.seed, "size": size, "steps": self.num_inference_steps or "default",
            "styles": " + ".join(self.styles), "signature": self.signature,
        }  # fmt: skip


class Chooser:
    """Draws orders. `styles` are the default model's adapters, which "*" stands for."""

    def __init__(self, profile: Profile, seed: int, styles: Sequence[str]) -> None:
        self._profile = profile
        self._seed = seed
        self._styles = sorted(styles)
        self._weights = [mix.weight for mix in profile.orders]

    def order(self, number: int) -> Order:
        """What visitor `number` wants."""
        chance = random.Random(f"{self._seed}:{number}")  # noqa: S311  # to be repeated, not to be secret
        (mix,) = chance.choices(self._profile.orders, self._weights)
        conduct = _conduct(self._profile.behaviour, chance.random())
        moment = chance.random()
        width, height = _sides(chance.choice(mix.sizes))
        return Order(
            number=number,
            mix=mix.name,
            conduct=conduct,
            moment=moment,
            prompt=chance.choice(mix.prompts),
            negative_prompt=chance.choice(mix.negative_prompts),
            width=width,
            height=height,
            num_inference_steps=chance.choice(mix.steps) if mix.steps else None,
            guidance_scale=chance.choice(mix.guidance) if mix.guidance else None,
            styles=self._worn(chance, mix),
            solver=chance.choice(mix.solvers),
            priority=chance.choice(mix.priorities),
            num_images=chance.choice(mix.images),
            signature=chance.choice(mix.signatures),
            preview_every_steps=mix.preview_every_steps,
            seed=chance.randrange(MAX_SEED),
        )

    def pause(self, number: int, between: tuple[float, float]) -> float:
        """How long a visitor thinks before visit `number`."""
        return random.Random(f"{self._seed}:{number}:pause").uniform(*between)  # noqa: S311

    def _worn(self, chance: random.Random, mix: Mix) -> tuple[str, ...]:
        names = list(filter(None, chance.choice(mix.styles).split("+")))
        drawn = [chance.choice(self._styles) if name == ANY_STYLE and self._styles else name for name in names]
        return tuple(dict.fromkeys(name for name in drawn if name != ANY_STYLE))


def _conduct(behaviour: Behaviour, drawn: float) -> Conduct:
    """Where `drawn` (0 to 1) falls among the shares."""
    for conduct in (Conduct.CANCEL, Conduct.DISCONNECT, Conduct.SLOW_READER, Conduct.BAD_PACKET):
        share: float = getattr(behaviour, conduct.value)
        if drawn < share:
            return conduct
        drawn -= share
    return Conduct.POLITE


def _sides(size: str) -> tuple[int | None, int | None]:
    if size == DEFAULT_SIZE:
        return None, None
    width, _, height = size.partition("x")
    return int(width), int(height)
