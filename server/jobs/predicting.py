"""May a job exist that paints nothing: its model found, its input checked against the model's own schema, then made durable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from ai.cards import Card, ModelCard, PredictingCard
from ai.types import Request
from server.clock import Clock
from server.commands import Predict
from server.errors import Code, Refusal
from server.input_schema import checked_input
from server.job import Job
from server.jobs.entering import Entrance
from server.jobs.places import Places
from server.replies import Admitted
from server.webhook import Webhook


class PredictAdmission:
    """Turns a Predict into a durable job, or refuses it."""

    def __init__(
        self,
        *,
        entrance: Entrance,
        places: Places,
        cards: Sequence[Card],
        clock: Clock,
        check_webhook: Callable[[Webhook], None],
        new_id: Callable[[], str],
        new_seed: Callable[[], int],
    ) -> None:
        self._entrance = entrance
        self._places = places
        self._cards = cards
        self._clock = clock
        self._check_webhook = check_webhook
        self._new_id = new_id
        self._new_seed = new_seed

    async def admit(self, command: Predict) -> Admitted:
        """The new job, holding a place; or the one that this idempotency key has already. Raises Refusal."""
        request = self.complete(command)
        if command.webhook is not None:
            self._check_webhook(command.webhook)
        body_hash = hash_of_input(command)

        async def prepared() -> Job:
            self._places.take(command.owner)
            return self._job(command, request, body_hash)

        return await self._entrance.enter(command.owner, command.idempotency_key, body_hash, prepared)

    def complete(self, command: Predict) -> Request:
        """The request with every default filled in. Raises Refusal."""
        card = self._card(command.model)
        given = checked_input(card.input_schema, command.input)
        return card.request(self._new_id(), given, seed=self._new_seed(), priority=command.priority)

    def _job(self, command: Predict, request: Request, body_hash: str) -> Job:
        return Job(
            id=request.request_id,
            owner=command.owner,
            idempotency_key=command.idempotency_key,
            body_hash=body_hash,
            request=request,
            signature=None,
            deadline_seconds=command.deadline_seconds,
            created_at=self._clock.seconds(),
            webhook=command.webhook,
        )

    def _card(self, name: str) -> PredictingCard:
        found = next((card for card in self._cards if card.name == name), None)
        if isinstance(found, ModelCard):
            limit = "a model that paints nothing; pictures are asked for by Submit"
            raise Refusal.invalid("model", limit, name)
        if found is None:
            limit = f"one of {', '.join(card.name for card in self._cards)}"
            shown = name if len(name) <= 60 else f"{name[:57]}..."
            text = f"model {shown!r} is not here; model must be {limit}"
            raise Refusal(Code.MODEL_NOT_FOUND, text, field="model", limit=limit)
        return found


def hash_of_input(command: Predict) -> str:
    """A hash of what was asked for, without the key and whom to tell (SHA-256, hex)."""
    asked = {
        "predict": command.model,
        "input": dict(command.input),
        "priority": command.priority,
        "deadline_seconds": command.deadline_seconds,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
