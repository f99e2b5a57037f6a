"""The queues and exchanges of the door, and how they are declared: so that nothing clashes with what stands.

image_generation             the backend's own: durable, classic, without arguments
image_generation.dead        messages that were refused, with the reason in their headers
image_generation.delay.30000 handles of jobs that are retried, for so many milliseconds; then back to image_generation
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from server.doors.amqp.broker import Clash, Link

log = structlog.get_logger("atelier.amqp")

EVENTS = "atelier.events"
CONTROL = "atelier.control"
WORK = "atelier.jobs"
WORKING: Mapping[str, Any] = {
    "x-queue-type": "quorum",
    # From RabbitMQ 4 on a message is dropped when it was delivered 20 times; how often a job may end its worker is another count.
    "x-delivery-limit": 1_000_000,
}


@dataclass(frozen=True, slots=True)
class Queues:
    """Their names, from that of the backend's."""

    jobs: str

    @property
    def dead(self) -> str:
        """Where refused messages go."""
        return f"{self.jobs}.dead"

    def delay(self, seconds: float) -> str:
        """Where a handle waits for so long."""
        return f"{self.jobs}.delay.{_milliseconds(seconds)}"

    def delaying(self, seconds: float) -> Mapping[str, Any]:
        """The arguments of that queue: what has waited goes to the jobs' queue, by the default exchange."""
        return {
            "x-message-ttl": _milliseconds(seconds),
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.jobs,
        }


async def stands(link: Link, name: str, arguments: Mapping[str, Any] | None = None) -> bool:
    """Declare a durable queue; whether it is as wanted. One that stands with other arguments is left as it is, and so is one that
    lies on a node of the broker's that is down.

    On a channel of its own, which such a refusal closes. Raises LinkLost.
    """
    channel = await link.channel()
    try:
        await channel.declare_queue(name, arguments)
    except Clash as clash:
        log.warning("amqp.queue_stands", queue=name, reason=str(clash))
        return False
    channel.close()
    return True


async def exchange_stands(link: Link, name: str, kind: str) -> bool:
    """The same of a durable exchange. Raises LinkLost."""
    channel = await link.channel()
    try:
        await channel.declare_exchange(name, kind)
    except Clash as clash:
        log.warning("amqp.exchange_stands", exchange=name, reason=str(clash))
        return False
    channel.close()
    return True


async def exchanges(link: Link) -> None:
    """Those that this door publishes to. Raises LinkLost."""
    await exchange_stands(link, EVENTS, "topic")
    await exchange_stands(link, CONTROL, "fanout")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
