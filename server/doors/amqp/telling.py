"""Telling everyone what the jobs of this node say, by the exchange `atelier.events`: as fast as the broker takes it.

A job's latest progress takes the place of one that was not told yet, all of its text so far that of what it was, and its end the
place of all of it; progress is gathered for
a moment, since half of what jobs say is overtaken by then. When the broker was away for long the oldest are left out: whoever
waits for an end finds it in the records.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from server.clock import Clock, Pauses, Timer
from server.doors.amqp.broker import NotPublished, Properties, Publication, Publishes
from server.doors.amqp.events import TOLD, message_of
from server.doors.amqp.queues import EVENTS
from server.events import Event, Output, Progress, Succeeded, joined

log = structlog.get_logger("atelier.amqp")

MOST_UNTOLD = 10_000  # events, one of each job and the ends; about 5 MB
AT_ONCE = 50  # not yet confirmed
GATHERED = 0.05  # seconds; nobody sees progress move more often than 20 times a second
GATHERED_UNHEARD = 0.25  # seconds, while nobody listened to what was told last: most short jobs have ended by then
QUIET = 1.0  # seconds in which a job's progress is not told again, when nobody listened
TRY_AGAIN = 1.0  # seconds

Fleeting = Progress | Output
"""What is overtaken: by the next of its kind, and by the end."""

_PROGRESS = Properties(content_type="application/json", type="atelier.event")
_END = replace(_PROGRESS, mandatory=False)  # each job has one, and nothing follows from there being no listener


class Teller:
    """A `Watcher` of all jobs. `is_elsewhere` says of which jobs other nodes tell, `key_of` under which key a live job came."""

    def __init__(
        self, publisher: Publishes, is_elsewhere: Callable[[str], bool], key_of: Callable[[str], str], clock: Clock
    ) -> None:
        self._publisher = publisher
        self._is_elsewhere = is_elsewhere
        self._key_of = key_of
        self._clock = clock
        self._pauses = Pauses(clock)
        # By job, and what it is (ends are alike): the event, and the job's key.
        self._untold: OrderedDict[tuple[str, type[Event]], tuple[Event, str]] = OrderedDict()
        self._gathering: dict[tuple[str, type[Event]], Fleeting] = {}
        self._texts: dict[
            str, Output
        ] = {}  # what each job has said: who comes late, or missed a message, has all of it
        self._gathered: Timer | None = None
        self._heard = True  # whether somebody listened to progress when it was told last
        self._unheard: dict[str, float] = {}  # when each job's progress was told to nobody
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.ensure_future(self._tell())

    async def stop(self) -> None:
        """Tell no more."""
        self._pauses.stop()
        if self._gathered is not None:
            self._gathered.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def job_event(self, event: Event) -> None:
        """Something has happened."""
        if type(event) not in TOLD or self._is_elsewhere(event.job_id) or self._pauses.stopped:
            return
        if isinstance(event, Output):
            event = self._texts[event.job_id] = joined(self._texts.get(event.job_id), event)
        if not isinstance(event, Fleeting):
            for kind in (Progress, Output):
                self._gathering.pop((event.job_id, kind), None)
                self._untold.pop((event.job_id, kind), None)
            self._texts.pop(event.job_id, None)
            self._unheard.pop(event.job_id, None)
            self._add(event)
        elif self._clock.seconds() - self._unheard.get(event.job_id, 0.0) >= QUIET:
            self._gathering[event.job_id, type(event)] = event
            if self._gathered is None:
                wait = GATHERED if self._heard else GATHERED_UNHEARD
                self._gathered = self._clock.callLater(wait, self._tell_gathered)

    def _tell_gathered(self) -> None:
        self._gathered = None
        for event in sorted(self._gathering.values(), key=lambda event: event.number):
            self._add(event)
        self._gathering.clear()

    def _add(self, event: Event) -> None:
        kind = type(event) if isinstance(event, Fleeting) else Succeeded
        self._untold[event.job_id, kind] = (event, self._key_of(event.job_id))
        while len(self._untold) > MOST_UNTOLD:
            self._untold.popitem(last=False)
        self._news.set()

    @property
    def untold(self) -> int:
        """Events that the broker has not taken yet."""
        return len(self._untold) + len(self._gathering)

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._untold:
                await self._publish(
                    [self._untold.popitem(last=False)[1] for _ in range(min(AT_ONCE, len(self._untold)))]
                )

    async def _publish(self, some: Sequence[tuple[Event, str]]) -> None:
        messages = [_message(event, key) for event, key in some]
        try:
            unheard = await self._publisher.publish_all(messages)
        except NotPublished as error:
            log.debug("amqp.untold", job_ids=[event.job_id for event, _ in some], reason=str(error))
            await self._pauses.take(TRY_AGAIN)
            return
        fleeting = {place for place, (event, _) in enumerate(some) if isinstance(event, Fleeting)}
        if fleeting:
            self._heard = not fleeting <= unheard
        for place in fleeting & unheard:
            self._unheard[some[place][0].job_id] = self._clock.seconds()
        while len(self._unheard) > MOST_UNTOLD:  # of jobs that ended before the broker's answer came
            self._unheard.pop(next(iter(self._unheard)))


def _message(event: Event, job_key: str) -> Publication:
    key, body = message_of(event, job_key)
    return Publication(EVENTS, key, body, _PROGRESS if isinstance(event, Fleeting) else _END)
