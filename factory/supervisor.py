"""Keeps the processes of a plan running: starts them, starts again what ends, replaces them one by one, ends them all.

    absent → starting → up → ended ─┐
       ↑                            │ at once the first time, then after 1, 2, 4 … 30 s
       └────────────────────────────┘

A place is one process of the plan; a life is one run of it, named by the place and a letter that changes when the place is
replaced (both run for a while then, and each needs a name that the other has not). One that is started again after its end has
the same name, and so takes up at once what the life before it was doing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from config.processes import ProcessPlan
from server.clock import Clock, Pauses, within
from server.futures import Tasks

log = structlog.get_logger("atelier.supervisor")

START_TIME = 120.0  # seconds until a process says that it is up; it may bring a database up to date first
LONGEST_PAUSE = 30.0
LIVED_WELL = 60.0  # seconds; who ended later than that is started again at once
LIVES = "ab"


class Life(Protocol):
    """One run of one process."""

    up: asyncio.Future[None]
    ended: asyncio.Future[str]  # how, as text for people

    def end(self) -> None:
        """Ask it to finish what it does, and end."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...


Launch = Callable[[ProcessPlan, str], Life]
"""Starts a process of a plan, under the name of this life. Raises OSError."""


class NotStarted(Exception):
    """A process did not come up."""


class Place:
    """One process of the plan, and who fills it."""

    def __init__(self, plan: ProcessPlan) -> None:
        self.plan = plan
        self.lives: list[Life] = []  # that have not ended; two while one takes over from the other
        self.letter = LIVES[0]
        self.soon = 0  # ends that came soon, one after the other
        self.asking: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # done: it is to be replaced
        self._answer: asyncio.Future[bool] | None = None

    @property
    def name(self) -> str:
        """Of the life that is there, or comes next."""
        return f"{self.plan.name}{self.letter}"

    async def replaced(self) -> bool:
        """Have it replaced; whether that went well."""
        self._answer = asyncio.get_running_loop().create_future()
        self.asking.set_result(None)
        return await self._answer

    def answer(self, well: bool) -> None:
        """To whoever asked, if anyone did."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(well)
            self.asking = asyncio.get_running_loop().create_future()

    def change_letter(self) -> None:
        """Whoever comes next has the other name."""
        self.letter = LIVES[(LIVES.index(self.letter) + 1) % len(LIVES)]


class Supervisor:
    """`patience` is how many seconds a process has to end before it is killed, `pause` the first before one is started again."""

    def __init__(
        self, plans: Sequence[ProcessPlan], launch: Launch, clock: Clock, *, patience: float, pause: float
    ) -> None:
        self._plans = plans
        self._places: list[Place] = []
        self._launch = launch
        self._clock = clock
        self._patience = patience
        self._pause = pause
        self._pauses = Pauses(clock)
        self._tasks = Tasks()
        self._rolling = False
        self._stopping = False
        self.restarts = 0

    @property
    def up(self) -> list[str]:
        """The names of those that are up."""
        return [place.name for place in self._places if any(life.up.done() for life in place.lives)]

    @property
    def count(self) -> int:
        """How many there should be."""
        return len(self._plans)

    async def start(self) -> None:
        """Start all; returns when all are up. Raises NotStarted, after whatever did start was ended.

        The first comes up before the others begin: it brings the database up to date.
        """
        self._places = [Place(plan) for plan in self._plans]
        first, *others = self._places
        try:
            lives = [await self._born(first), *await asyncio.gather(*(self._born(place) for place in others))]
        except NotStarted:
            await self.stop()
            raise
        for place, life in zip(self._places, lives, strict=True):
            self._tasks.start(self._keep(place, life))

    async def stop(self) -> None:
        """End all; those that do not end in time are killed."""
        self._stopping = True
        self._pauses.stop()
        await asyncio.gather(*(self._end(life) for place in self._places for life in tuple(place.lives)))

    def roll(self) -> None:
        """Replace all, one after the other: the new one is up before the old one is asked to end."""
        if self._rolling or self._stopping:
            log.warning("processes.rolling_already")
            return
        self._rolling = True
        self._tasks.start(self._roll())

    async def _roll(self) -> None:
        try:
            for place in self._places:
                if not await place.replaced():
                    return
            log.info("processes.rolled", processes=self.up)
        finally:
            self._rolling = False

    # One place

    async def _keep(self, place: Place, life: Life) -> None:
        """Whoever ends is started again, whoever is to be replaced is, until all end."""
        while True:
            began = self._clock.seconds()
            await _first(life.ended, place.asking)
            if self._stopping:
                break
            if not life.ended.done():
                life = await self._replaced(place, life)
                continue
            log.error("process.ended", process=place.name, how=life.ended.result())
            place.soon = 1 if self._clock.seconds() - began > LIVED_WELL else place.soon + 1
            again = await self._again(place)
            if again is None:
                break
            life = again
        place.answer(False)

    async def _replaced(self, place: Place, old: Life) -> Life:
        """Whoever is there afterwards."""
        place.change_letter()
        try:
            new = await self._born(place)
        except NotStarted as error:
            place.change_letter()
            log.error("process.not_replaced", process=place.name, reason=str(error))
            place.answer(False)
            return old
        await self._end(old)
        place.soon = 0
        place.answer(True)
        return new

    async def _again(self, place: Place) -> Life | None:
        """A new life after an end; None where all end."""
        while not self._stopping:
            if place.soon > 1 and not await self._pauses.take(self._pause_of(place)):
                return None
            self.restarts += 1
            try:
                life = await self._born(place)
            except NotStarted as error:
                place.soon += 1
                log.error("process.not_started", process=place.name, reason=str(error))
            else:
                place.answer(True)  # where it was to be replaced: it is
                return life
        return None

    async def _born(self, place: Place) -> Life:
        """A new life that is up. Raises NotStarted, with nothing left running."""
        name = place.name
        try:
            life = self._launch(place.plan, name)
        except OSError as error:
            raise NotStarted(f"{name}: {error.strerror or error}") from None
        place.lives.append(life)
        life.ended.add_done_callback(lambda _: place.lives.remove(life))
        log.info("process.starting", process=name)
        try:
            await within(self._clock, START_TIME, _first(life.up, life.ended))
        except TimeoutError:
            life.kill()
            raise NotStarted(f"{name} was not up after {START_TIME:g} s") from None
        if life.ended.done():
            raise NotStarted(f"{name} {life.ended.result()}")
        log.info("process.up", process=name)
        return life

    def _pause_of(self, place: Place) -> float:
        return float(min(LONGEST_PAUSE, self._pause * 2 ** min(place.soon - 2, 16)))

    async def _end(self, life: Life) -> None:
        life.end()
        try:
            await within(self._clock, self._patience, _first(life.ended))
        except TimeoutError:
            log.error("process.killed", seconds=self._patience)
            life.kill()
            await _first(life.ended)


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Until one of them is done; none of them is cancelled with the waiting."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
