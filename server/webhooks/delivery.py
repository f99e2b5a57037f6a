"""Takes calls from the outbox and makes them: many at once, those of one job one after the other.

Before a call's bytes go out it is recorded that they do; after a crash nobody has to guess which calls may have arrived. The
backend of the settings has places of its own, so that nobody else's receivers can keep it waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from server.clock import Clock, Pauses
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.interfaces import Outbox
from server.webhook import CallState, Care, Claimed, OutboxCall, Settlement
from server.webhooks.breaker import Targets
from server.webhooks.calls import TRUSTED
from server.webhooks.outcomes import Retrying, settlement
from server.webhooks.sending import Answered, Forbidden, Outcome, Unsure

log = structlog.get_logger("atelier.webhooks")

LOOK_EVERY = 1.0  # seconds between looks for calls whose time has come, or that another node has left
SETTLE_AGAIN = 1.0  # seconds until what became of a call is recorded once more, where the database was away
HOUSEKEEPING = 60.0  # seconds between looks for what is old


class Sender(Protocol):
    """Makes one call."""

    async def send(self, call: OutboxCall, *, news: bool) -> Outcome:
        """What became of it, in bounded time. Never raises."""
        ...


class Delivery:
    """At most `most` calls at once, `each` to one target. `keep` is how long what was settled is remembered, in seconds."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        sender: Sender,
        clock: Clock,
        random: Callable[[], float],
        retrying: Retrying,
        most: int,
        each: int,
        claim: float,
        keep: float,
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._clock = clock
        self._random = random
        self._retrying = retrying
        self._most = most
        self._claim = claim
        self._keep = keep
        self._targets = Targets(each)
        self._pauses = Pauses(clock)
        self._tasks = Tasks()
        self._under_way: set[asyncio.Task[None]] = set()
        self._ready = False  # not before the earlier life's claims were told from this one's
        self._woken = False
        self._looking = False
        self._stopped = False
        self._away = False
        self._idle: asyncio.Future[None] | None = None
        self.made: Counter[CallState] = Counter()

    def begin(self) -> None:
        """Make calls from now on; first those that an earlier life was at."""
        self._tasks.start(self._look_for_ever())
        self._tasks.start(self._keep_house())

    def wake(self) -> None:
        """There may be something to do now."""
        self._woken = True
        if self._ready and not self._looking and not self._stopped:
            self._looking = True
            self._tasks.start(self._look())

    async def stop(self, seconds: float) -> None:
        """Make the calls whose time has come, as far as `seconds` suffice; then no more."""
        self.wake()
        timer = self._clock.callLater(seconds, self._cut) if seconds > 0 else None
        while timer and not self._stopped and (self._looking or self._under_way):
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        if timer and timer.active():
            timer.cancel()
        self._cut()
        if self._under_way:
            await asyncio.wait(self._under_way)

    @property
    def under_way(self) -> int:
        """Calls being made now."""
        return self._targets.under_way

    @property
    def resting(self) -> int:
        """Receivers that are left alone now, since they did not answer."""
        return self._targets.resting(self._clock.seconds())

    def _cut(self) -> None:
        """What is under way ends, and whether it arrived is not known."""
        self._stopped = True
        self._pauses.stop()
        for task in self._under_way:
            task.cancel()
        self._note_idle()

    # Looking

    async def _look_for_ever(self) -> None:
        try:
            await self._outbox.begin(at=self._clock.seconds())
        except RecordsUnavailable as error:  # then what was claimed expires
            self._note_away(error.reason)
        self._ready = True
        self.wake()
        while await self._pauses.take(LOOK_EVERY):
            self.wake()

    async def _look(self) -> None:
        try:
            while self._woken and not self._stopped:
                self._woken = False
                await self._look_once()
        except RecordsUnavailable as error:
            self._note_away(error.reason)
        finally:
            self._looking = False
            self._note_idle()

    async def _look_once(self) -> None:
        now = self._clock.seconds()
        room = self._targets.room(now)
        ours = room.setdefault(TRUSTED, self._targets.each)
        free = max(0, self._most - (self._targets.under_way - self._targets.under_way_to(TRUSTED)))
        if not free:
            room = {TRUSTED: ours}
        if not ours + free:
            return  # whatever ends looks again
        claimed = await self._outbox.claim(
            at=now, until=now + self._claim, most=ours + free, room=room, others=self._targets.each if free else 0
        )
        self._note_away("")
        for one in claimed:
            self._targets.begin(one.call.target, now)
            self._start(one)
        self._woken = self._woken or bool(claimed)  # there may be more

    def _start(self, claimed: Claimed) -> None:
        task = asyncio.ensure_future(self._make(claimed))
        self._under_way.add(task)
        task.add_done_callback(self._made)

    def _made(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("task.broken", exc_info=task.exception())
        self.wake()
        self._note_idle()

    # One call

    async def _make(self, claimed: Claimed) -> None:
        call = claimed.call
        try:
            outcome = await self._sender.send(call, news=call.care is Care.FLEETING)
        except asyncio.CancelledError:
            outcome = Unsure("the server stopped while it was being made")
        except Exception as error:
            log.exception("webhook.broken", id=call.id)
            outcome = Unsure(f"the server erred: {type(error).__name__}")
        now = self._clock.seconds()
        settled = settlement(claimed, outcome, at=now, retrying=self._retrying, random=self._random)
        self._note(settled)
        await self._settle(settled)
        await self._note_target(call.target, outcome)

    async def _settle(self, settled: Settlement) -> None:
        while True:
            try:
                await self._outbox.settle(settled, at=self._clock.seconds())
            except RecordsUnavailable as error:
                self._note_away(error.reason)
                if not await self._pauses.take(SETTLE_AGAIN):  # the claim expires: the next life takes it for unknown
                    return
            else:
                return

    async def _note_target(self, target: str, outcome: Outcome) -> None:
        """One that answers has its places; one that does not is left alone, and all its calls wait with it."""
        if isinstance(outcome, (Answered, Forbidden)):
            if self._targets.answered(target):
                log.info("receiver.back", receiver=target or "backend")
            return
        until = self._targets.silent(target, self._clock.seconds(), self._random)
        if until is not None:
            rest = round(until - self._clock.seconds(), 1)
            log.warning("receiver.silent", receiver=target or "backend", seconds=rest, reason=outcome.reason)
            with suppress(RecordsUnavailable):  # then each of them is found to wait, one look after the other
                await self._outbox.postpone(target, until=until)

    def _note(self, settled: Settlement) -> None:
        call = settled.claimed.call
        known = {"id": call.id, "job_id": call.job_id, "receiver": call.target or "backend"}
        self.made[settled.state] += 1
        if settled.state is CallState.DELIVERED:
            log.debug("webhook.delivered", **known)
        elif settled.state is CallState.WAITING:
            again = round((settled.next_at or 0.0) - self._clock.seconds(), 1)
            log.warning(
                "webhook.refused", **known, reason=settled.error, attempts=settled.claimed.attempts, again=again
            )
        elif settled.state is not CallState.DROPPED:
            log.error(f"webhook.{settled.state}", **known, reason=settled.error, attempts=settled.claimed.attempts)

    # Beside it

    async def _keep_house(self) -> None:
        while await self._pauses.take(HOUSEKEEPING):
            try:
                await self._outbox.forget(settled_before=self._clock.seconds() - self._keep)
            except RecordsUnavailable as error:
                self._note_away(error.reason)

    def _note_away(self, reason: str) -> None:
        if reason and not self._away:
            log.warning("outbox.away", reason=reason)
        self._away = bool(reason)

    def _note_idle(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
