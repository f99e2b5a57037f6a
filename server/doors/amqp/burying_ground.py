"""Looking at dead letters, and doing something about them: what an operator's commands do, on a channel of their own.

What is looked at is given back when the channel is closed, in its old order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from server.doors.amqp.broker import Channel, Delivery, Link
from server.doors.amqp.dead_letters import CODE, FIELD, QUEUE, REASON, REFUSED_AT, unburied
from server.doors.amqp.queues import Queues


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A refused message, as far as it can be told. `key` is its task_id, or whatever else names it; `at` seconds since 1970.

    A generation has one end, and when the message of one was refused that end was told: what comes of a replay is not.
    """

    key: str
    generation_id: int | None
    code: str
    field: str
    reason: str
    at: float
    queue: str
    size: int


class BuryingGround:
    """The dead letters of one broker. Raises LinkLost, and NotPublished."""

    def __init__(self, link: Link, queues: Queues) -> None:
        self._link = link
        self._queues = queues

    async def letters(self, most: int) -> list[DeadLetter]:
        """The oldest first."""
        channel = await self._link.channel()
        found = [letter async for letter, _ in self._each(channel, most)]
        channel.close()
        return found

    async def replay(self, *, key: str = "", code: str = "") -> list[DeadLetter]:
        """Publish anew, where they came from, all that were there when it began, or those of one key or code; gives these."""
        reading, writing = await self._link.channel(), await self._link.channel(confirming=True)
        published: list[DeadLetter] = []
        async for letter, delivery in self._each(reading, None):
            if key in ("", letter.key) and code in ("", letter.code):
                await writing.publish("", letter.queue, delivery.body, unburied(delivery.properties))
                reading.ack(delivery.tag)
                published.append(letter)
        reading.close()
        writing.close()
        return published

    async def purge(self) -> int:
        """Throw all of them away; says how many."""
        channel = await self._link.channel()
        count = await channel.purge(self._queues.dead)
        channel.close()
        return count

    async def _each(self, channel: Channel, most: int | None) -> AsyncIterator[tuple[DeadLetter, Delivery]]:
        while most is None or most > 0:
            got = await channel.get(self._queues.dead)
            if got is None:
                return
            delivery, more = got
            most = more if most is None else min(most - 1, more)  # what comes while we are at it is left alone
            yield self._told(delivery), delivery

    def _told(self, delivery: Delivery) -> DeadLetter:
        headers = delivery.properties.headers
        key, generation = _named(delivery)
        return DeadLetter(
            key=key,
            generation_id=generation,
            code=str(headers.get(CODE, "")),
            field=str(headers.get(FIELD, "")),
            reason=str(headers.get(REASON, "")),
            at=_number(headers.get(REFUSED_AT)),
            queue=str(headers.get(QUEUE, "")) or self._queues.jobs,
            size=len(delivery.body),
        )


def _named(delivery: Delivery) -> tuple[str, int | None]:
    """What the message calls itself, and its generation, of whatever form it is."""
    message: Any = None
    if len(delivery.body) <= 1 << 22:  # a larger one was refused for that
        try:
            message = from_json(delivery.body)
        except ValueError:
            message = None
    message = message if isinstance(message, dict) else {}
    data = message.get("data")
    data = data if isinstance(data, dict) else message
    generation = data.get("generation_id")
    generation = generation if isinstance(generation, int) else None
    names = (message.get("task_id"), message.get("idempotency_key"), delivery.properties.message_id, generation)
    return next((str(name) for name in names if name), ""), generation


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
