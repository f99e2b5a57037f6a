"""What a request costs, as limits count it: a number that grows with the work, known before anything is done."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ai.cards import PredictingCard
from ai.custom.cards import CustomCard
from ai.types import CustomRequest, GenerationRequest, InputError, Request, TextRequest
from server.errors import Code, Refusal

PIXELS = 1_000_000  # a megapixel, as photographers have it
TOKENS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Of what paints nothing: a thousand tokens that a text may have, a call of a custom model whose class names none."""

    thousand_tokens: float = 1.0
    custom: float = 1.0

    def put_on(self, request: TextRequest | CustomRequest, card: PredictingCard) -> TextRequest | CustomRequest:
        """The request, with what it costs: it is recorded so, and later settings do not change it. Raises Refusal where that
        is beyond all measure."""
        if isinstance(request, TextRequest):
            return replace(request, cost=request.max_length / TOKENS * self.thousand_tokens)
        try:
            cost = card.cost_of(request.input, self.custom) if isinstance(card, CustomCard) else self.custom
        except InputError as error:
            raise Refusal(Code.INVALID_PARAMETER, str(error), field=error.field, limit=error.limit) from None
        return replace(request, cost=cost)


def cost_of(request: Request) -> float:
    """Megapixels × steps made × images: 20 steps of one 512 × 512 picture cost 5.24. Of anything else what it is said to."""
    if isinstance(request, GenerationRequest):
        return request.width * request.height / PIXELS * request.steps * request.num_images
    if isinstance(request, TextRequest) and request.cost is None:  # recorded by an older version
        return request.max_length / TOKENS
    return request.cost or 0.0


def pictures_of(request: Request) -> int:
    """How many pictures are asked for."""
    return request.num_images if isinstance(request, GenerationRequest) else 0
