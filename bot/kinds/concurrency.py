"""Concurrency: many at the same moment. Each trial says what has to come of it, whoever is first.

logins        every bot connects at once, and is let in
duplicates    many log in under one name, each to have it alone: one has it in the end, the others are told why
same key      many bots send one request under one key: one job, the same end for all
other body    a key again with another request: refused, and the job is not harmed
cancel races  a cancel races the end, from two bots at once: one end, the same for whoever follows
broken off    the connection is lost right after the request was sent: the request is found again, once
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bot.choosing import Conduct, Order
from bot.doors.door import Session
from bot.errors import ClientError
from bot.ledger import Finding, Ledger
from bot.profile import Closed
from bot.run import Run
from bot.shift import order_of
from bot.visit import End, Visit
from bot.waiting import pause, within
from server.errors import AtelierError, Code

RACES = 40  # cancels
RIVALS = 20  # logins under one name
KEYS = 5  # same-key trials
RACE_TIME = 1.0  # seconds after Accepted within which a cancel comes
PROGRESS_SHARE = 0.5  # of the races that cancel at once, without a moment's wait


class Concurrency:
    """The trials, one after the other. `users` bots take part in each."""

    def __init__(self, run: Run, users: int) -> None:
        self._run = run
        self._users = users
        self._chance = random.Random(f"{run.seed}:concurrency")  # noqa: S311  # to be repeated, not to be secret
        self._ledger = Ledger(run.now, run.figures, seed=run.seed, keep=0)
        self._sessions: list[Session] = []
        self._number = 0

    async def all(self) -> dict[str, Any]:
        """Every trial, unless it is stopped."""
        try:
            await self._logins()
            trials = [self._duplicates, self._same_key, self._other_body, self._races, self._broken_off]
            if (
                self._run.options.where.kind == "amqp"
            ):  # events are known by their key: whose the other body was, they do not say
                trials.remove(self._other_body)
                self._run.notes.append("one key, one request: not tried, since it cannot be seen by a queue")
            for trial in trials:
                if not self._run.stop.is_set():
                    await trial()
            await self._ledger.close()
        finally:
            await asyncio.gather(*(session.close() for session in self._sessions))
        self._run.accounts.merge(self._ledger.accounts)
        return {"users": self._users}

    async def _logins(self) -> None:
        run = self._run
        run.doing = f"{self._users} logins at once"
        self._sessions = [run.door.session(f"bot-{number}") for number in range(self._users)]
        began = run.now()
        outcomes = await asyncio.gather(*(session.open() for session in self._sessions), return_exceptions=True)
        failures = [outcome for outcome in outcomes if outcome is not None]
        for failure in failures:
            if not isinstance(failure, (AtelierError, ClientError)):
                raise failure
        text = str(failures[0]) if failures else f"{self._users} in {run.now() - began:.2f} s"
        run.findings.append(Finding("logins at once", not failures, text))
        self._sessions = [session for session in self._sessions if session.alive]

    async def _duplicates(self) -> None:
        """One of them is left."""
        count = max(2, min(RIVALS, self._users))
        self._run.doing = f"{count} logins under one name"
        wrong = await self._run.door.usurp(count)
        if wrong is not None:
            text = wrong or f"{count} wanted one name alone: one has it, the others were told DUPLICATE_LOGIN"
            self._run.findings.append(Finding("one name, one login", not wrong, text))

    async def _same_key(self) -> None:
        """One job, accepted by all, with one end."""
        wrong: list[str] = []
        for number in range(KEYS):
            self._run.doing = f"the same key from {len(self._sessions)} bots, {number + 1} of {KEYS}"
            visits = self._visits(self._order(), len(self._sessions))
            await self._sent(visits)
            ids, ends = {visit.job_id for visit in visits}, {visit.end for visit in visits}
            if len(ids) != 1 or ends != {End.SUCCEEDED}:
                wrong.append(f"{len(ids)} jobs, ends {sorted(str(end) for end in ends)}")
        told = wrong[0] if wrong else f"{KEYS} keys, each from {len(self._sessions)} bots: one job each"
        self._run.findings.append(Finding("one key, one job", not wrong, told))

    async def _other_body(self) -> None:
        """The first job is as if nothing had happened; every other request is refused."""
        self._run.doing = "a key again with other requests"
        order = self._order()
        (first,) = self._visits(order, 1)
        others = [
            self._ledger.enter(replace(order, seed=order.seed + 1 + number), first.key, self._run.now())
            for number in range(min(10, len(self._sessions)))
        ]
        self._sessions[0].send(first)
        await first.has_id.wait()
        for visit, session in zip(others, self._sessions, strict=False):
            session.send(visit)
        await self._over([first, *others])
        codes = {visit.code for visit in others}
        passed = codes == {Code.IDEMPOTENCY_CONFLICT} and first.end is End.SUCCEEDED
        for visit in others:
            self._ledger.accounts.misjudged.pop(visit.key, None)  # it was meant to be refused
        told = ", ".join(sorted(code.name if code else "accepted" for code in codes))
        self._run.findings.append(Finding("one key, one request", passed, f"{len(others)} others: {told}"))

    async def _races(self) -> None:
        """Two bots follow each job, two cancel it."""
        self._run.doing = f"{RACES} cancel races"
        pairs = [self._visits(replace(self._order(), conduct=Conduct.CANCEL), 2) for _ in range(RACES)]
        await asyncio.gather(*map(self._race, pairs))
        ends = [[visit.end for visit in pair] for pair in pairs]
        torn = [pair[0].job_id for pair in pairs if pair[0].end is not pair[1].end]
        canceled = sum(pair == [End.CANCELED] * 2 for pair in ends)
        text = f"{canceled} of {RACES} cancelled, the others were faster; nobody heard anything else than his neighbour"
        if torn:
            text = f"{len(torn)} jobs ended differently for different bots"
        self._run.findings.append(Finding("cancel races", not torn, text, tuple(torn)))

    async def _race(self, pair: Sequence[Visit]) -> None:
        first, second = self._chance.sample(self._sessions, 2) if len(self._sessions) > 1 else self._sessions * 2
        first.send(pair[0])
        await pair[0].has_id.wait()
        second.send(pair[1])
        await pair[1].has_id.wait()
        if self._chance.random() > PROGRESS_SHARE:
            await pause(self._run.reactor, self._chance.random() * RACE_TIME)
        for visit, session in zip(pair, (first, second), strict=True):
            visit.cancel_asked = True
            if visit.job_id:
                await session.cancel(visit.job_id)
        await self._over(pair)

    async def _broken_off(self) -> None:
        """Whether the server had the request or not, it is one job in the end."""
        self._run.doing = "connections that break off as the request leaves"
        visits = [self._visits(self._order(), 1)[0] for _ in self._sessions]
        for visit, session in zip(visits, self._sessions, strict=True):
            session.send(visit)
            if self._chance.random() < PROGRESS_SHARE:
                await asyncio.sleep(0)  # the request leaves, or does not
            session.drop()
        await self._over(visits)
        for_room = sum(visit.end is End.REFUSED and visit.code is Code.RESOURCE_EXHAUSTED for visit in visits)
        taken = [visit for visit in visits if visit.end is not End.REFUSED]
        ids = {visit.job_id for visit in taken}
        passed = all(visit.end is End.SUCCEEDED for visit in taken) and len(ids) == len(taken) == len(visits) - for_room
        ends = sorted({str(visit.end) for visit in visits})
        text = f"{len(visits)} requests, {for_room} of them refused for want of room, {len(ids)} jobs, ends: {', '.join(ends)}"
        self._run.findings.append(Finding("requests that broke off", passed, text))

    def _order(self) -> Order:
        """A request like the scenario's, and no two alike."""
        self._number += 1
        plan = self._run.plan(self._run.options.profile, 0.0)
        return replace(order_of(plan, self._number), conduct=Conduct.POLITE, preview_every_steps=0)

    def _visits(self, order: Order, count: int) -> list[Visit]:
        """So many under one key."""
        key = f"bot-{self._run.name}-concurrency-{self._number}"
        return [self._ledger.enter(order, key, self._run.now()) for _ in range(count)]

    async def _sent(self, visits: Sequence[Visit]) -> None:
        for visit, session in zip(visits, self._sessions, strict=True):
            session.send(visit)
        await self._over(visits)

    async def _over(self, visits: Sequence[Visit]) -> None:
        """Until all have come out, or the patience ends."""

        async def everybody() -> None:
            await asyncio.gather(*(visit.over.wait() for visit in visits))

        try:
            await within(self._run.reactor, self._run.options.drain, everybody())
        except TimeoutError:
            for visit in visits:
                visit.finish(End.LOST, f"no end within {self._run.options.drain:g} s")
        for visit in visits:
            self._ledger.settle(visit)


async def body(run: Run) -> dict[str, Any]:
    """All trials."""
    arrivals = run.options.profile.arrivals
    return await Concurrency(run, arrivals.users if isinstance(arrivals, Closed) else arrivals.connections).all()
