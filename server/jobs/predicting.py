"""May a job exist that paints nothing: its model found, its input checked against the model's own schema, then made durable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable

from ai.cards import ModelCard, PredictingCard
from ai.custom.cards import CustomCard
from ai.text.cards import TextCard
from ai.types import Request
from server.catalogue.catalogue import Catalogue, nothing_new
from server.clock import Clock
from server.commands import Predict, is_file
from server.errors import Code, Refusal
from server.input_schema import checked_input
from server.interfaces import Pool
from server.job import Job
from server.jobs.entering import Entrance
from server.jobs.places import Places
from server.jobs.signatures import Signatures, picture_of
from server.json_schema import Schema, applied
from server.metering.cost import Costs
from server.replies import Admitted
from server.webhook import Webhook

MAX_DATA_URL_HEAD = 200  # characters before a data URL's comma


class PredictAdmission:
    """Turns a Predict into a durable job, or refuses it."""

    def __init__(
        self,
        *,
        entrance: Entrance,
        places: Places,
        catalogue: Catalogue,
        pool: Pool,
        max_file_bytes: int,
        max_signature_bytes: int,
        clock: Clock,
        check_webhook: Callable[[Webhook], None],
        new_id: Callable[[], str],
        new_seed: Callable[[], int],
        hear_news: Callable[[], Awaitable[bool]] = nothing_new,
        costs: Costs = Costs(),  # noqa: B008  # frozen
    ) -> None:
        self._costs = costs
        self._entrance = entrance
        self._places = places
        self._catalogue = catalogue
        self._pool = pool
        self._signatures = Signatures(places, pool, max_signature_bytes)
        self._max_file_bytes = max_file_bytes  # of one input that is a file
        self._clock = clock
        self._check_webhook = check_webhook
        self._new_id = new_id
        self._new_seed = new_seed
        self._hear_news = hear_news

    async def admit(self, command: Predict) -> Admitted:
        """The new job, holding a place; or the one that this idempotency key has already. Raises Refusal."""
        try:
            request, body_hash = await self._taken_in(command)
        except Refusal as refusal:  # it may be of what another node was given a moment ago
            if refusal.code not in (Code.MODEL_NOT_FOUND, Code.UNAVAILABLE) or not await self._hear_news():
                raise
            request, body_hash = await self._taken_in(command)
        if command.webhook is not None:
            self._check_webhook(command.webhook)

        async def prepared() -> Job:
            self._places.take(command.owner)
            try:
                if request.image_bytes:
                    self._places.take_image(request.request_id, request.image_bytes)
                await self._signatures.take(request.request_id, command.signature)
            except BaseException:
                self._places.release(command.owner, request.request_id)
                raise
            return self._job(command, request, body_hash)

        costly = bool(picture_of(command.signature))
        return await self._entrance.enter(command.owner, command.idempotency_key, body_hash, prepared, costly=costly)

    async def _taken_in(self, command: Predict) -> tuple[Request, str]:
        if any(map(is_file, command.input.values())):  # megabytes to decode and to hash
            return await self._pool.run(self._read, command)
        return self._read(command)

    def _read(self, command: Predict) -> tuple[Request, str]:
        """Blocks for as long as the files of the input are large. Raises Refusal."""
        for name, value in command.input.items():
            if is_file(value) and len(value) > self._max_file_bytes * 4 // 3 + MAX_DATA_URL_HEAD:
                limit = f"a file of at most {self._max_file_bytes} bytes"
                raise Refusal.invalid(f"input.{name[:60]}", limit, f"one of about {len(value) * 3 // 4}")
        return self.complete(command), hash_of_input(command)

    def complete(self, command: Predict) -> Request:
        """The request with every default filled in. Raises Refusal."""
        request_id = self._new_id()
        self._signatures.check(command.signature)
        card, schema = self._chosen(command, request_id)
        given = checked_input(
            card.input_schema, applied(schema, command.input, closed=False) if schema else command.input
        )
        request = card.request(request_id, given, seed=self._new_seed(), priority=command.priority)
        return self._costs.put_on(request, card)

    def _job(self, command: Predict, request: Request, body_hash: str) -> Job:
        return Job(
            id=request.request_id,
            owner=command.owner,
            idempotency_key=command.idempotency_key,
            body_hash=body_hash,
            request=request,
            signature=command.signature,
            deadline_seconds=command.deadline_seconds,
            created_at=self._clock.seconds(),
            webhook=command.webhook,
        )

    def _chosen(self, command: Predict, request_id: str) -> tuple[PredictingCard, Schema]:
        ticket = f"{command.owner} {command.idempotency_key}" if command.idempotency_key else request_id
        card, schema = self._catalogue.choose(command.owner, command.model, ticket)
        if isinstance(card, ModelCard):
            limit = "a model that paints nothing; pictures are asked for by Submit"
            raise Refusal.invalid("model", limit, command.model)
        if isinstance(card, TextCard) and command.signature is not None:
            raise Refusal.invalid("signature", f"left out: {command.model} makes no pictures", "a signature")
        if isinstance(card, CustomCard) and card.problem:
            raise Refusal(Code.MODEL_LOAD_FAILED, f"model {command.model}: {card.problem}", field="model")
        return card, schema


def hash_of_input(command: Predict) -> str:
    """A hash of what was asked for, without the key and whom to tell (SHA-256, hex)."""
    asked = {
        "predict": command.model,
        "input": dict(command.input),
        "priority": command.priority,
        "deadline_seconds": command.deadline_seconds,
    }
    if command.signature is not None:
        asked["signature"] = repr(command.signature)
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
