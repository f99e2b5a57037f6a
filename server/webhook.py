"""Whom a job's course is told by HTTP, beside whoever watches it: plain data, kept with the job.

A BACKEND is the one that published the job to RabbitMQ and speaks the three calls of docs/webhooks.md (progress, complete,
failed, by its own generation_id). GENERIC is anyone's address, told the whole job, signed by Standard Webhooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class HookKind(StrEnum):
    """Which calls are made."""

    BACKEND = "backend"
    GENERIC = "generic"


class HookEvent(StrEnum):
    """What a GENERIC webhook may ask to hear of."""

    START = "start"
    PROGRESS = "progress"
    COMPLETED = "completed"  # however it ended


ALL_EVENTS = frozenset(HookEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """`url` is where a GENERIC one is called, and a BACKEND's base address ("": the one in the settings).

    `generation_id` and `prompt_tags` are a BACKEND's own, given back to it as they came.
    """

    kind: HookKind
    url: str = ""
    events: frozenset[HookEvent] = ALL_EVENTS
    generation_id: int | None = None
    prompt_tags: tuple[str, ...] = ()


class Channel(StrEnum):
    """Who takes a call from the outbox."""

    WEBHOOK = "webhook"
    DISPATCH = "dispatch"


class CallState(StrEnum):
    """What became of a call. The first two are still to be made."""

    WAITING = "waiting"
    SENDING = "sending"  # its bytes may have gone out
    DELIVERED = "delivered"
    DROPPED = "dropped"  # overtaken by a later one
    UNKNOWN = "unknown"  # it may have arrived, and must not be made twice: a person decides
    DEAD = "dead"  # refused for good, or for too long


class Care(StrEnum):
    """What is owed to a call."""

    FLEETING = "fleeting"  # news: dropped once it is stale, and a later call of the job there; never made twice
    REPEATED = "repeated"  # made until it has arrived, perhaps more than once, under its one id
    ONCE = "once"  # never made twice: where it may have arrived, a person decides


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxCall:
    """Something to be told elsewhere, recorded in the transaction that makes it true, and told from there.

    `id` is what a receiver tells a repetition by: there is one call of it, ever. A job has one call of each `name` ("start",
    "progress-25", "end", "dispatch"), told in the order of their `position`; `payload` is JSON, and the `channel`'s own. What
    is told to one `target` does not wait for another.
    """

    id: str
    job_id: str | None  # None: of a message that never became a job
    name: str
    channel: Channel
    payload: str
    position: int
    target: str = ""
    care: Care = Care.REPEATED


@dataclass(frozen=True, slots=True)
class Claimed:
    """A call that is this node's to make now: its `attempts`-th time. It is to be told since `since` (seconds since 1970)."""

    call: OutboxCall
    attempts: int
    since: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a call stands after an attempt; `next_at` is when it is tried again if it is WAITING.

    `ends_job`: nothing more is told of its job, neither what waits nor what is yet to come. `forget_news`: what there was of
    FLEETING calls of its job need not be remembered.
    """

    claimed: Claimed
    state: CallState
    error: str = ""
    next_at: float | None = None
    ends_job: bool = False
    forget_news: bool = False
