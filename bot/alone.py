"""The sample of a run, asked for again when nobody else is there: the same request alone has to be the same picture.

Where the order asked for a signature, the picture is painted once more with one that cannot be seen, and the two are compared:
the mark, and nothing else, has to make the difference, in its place.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import Any

from bot.checking import apart, mark_wrongs
from bot.choosing import Chooser, Order
from bot.doors.door import Door, Session
from bot.visit import End, Visit
from bot.waiting import within
from server.clock import Clock

UNSEEN = 0.0  # opacity


@dataclass(slots=True)
class Compared:
    """One picture of the sample. `apart` is in levels of 255, -1 where there was nothing to compare with."""

    order: Order
    job_id: str
    seconds: float
    at: float
    picture: bytes
    apart: int = -1
    wrong: str = ""

    def as_json(self) -> dict[str, Any]:
        """For the report's gallery."""
        return {
            **self.order.asked(), "job_id": self.job_id, "number": self.order.number, "seconds": self.seconds, "at": self.at,
            "apart": self.apart, "wrong": self.wrong, "png": base64.b64encode(self.picture).decode("ascii"),
        }  # fmt: skip


class Alone:
    """Asks again, one at a time. `tolerance` is by how many levels a picture may differ (docs/promises.md)."""

    def __init__(self, door: Door, clock: Clock, *, run: str, tolerance: int, patience: float) -> None:
        self._door = door
        self._clock = clock
        self._run = run
        self._tolerance = tolerance
        self._patience = patience

    async def compare(self, sample: list[dict[str, Any]], chooser: Chooser, *, again: bool) -> list[Compared]:
        """The whole sample; if not `again`, only to show it."""
        compared = [self._entry(entry, chooser) for entry in sample if entry["pictures"]]
        if not again or not compared:
            return compared
        session = self._door.session("bot-alone")
        await session.open()
        try:
            for one in compared:
                await self._compare(one, session)
        finally:
            await session.close()
        return compared

    def _entry(self, entry: dict[str, Any], chooser: Chooser) -> Compared:
        picture = base64.b64decode(entry["pictures"][0])
        return Compared(chooser.order(entry["number"]), entry["job_id"], entry["seconds"], entry["at"], picture)

    async def _compare(self, one: Compared, session: Session) -> None:
        order = one.order
        alone = await self._painted(order, session, "alone")
        if not alone:
            one.wrong = "the same request did not succeed when it was alone"
            return
        one.apart = apart(one.picture, alone)
        if one.apart > self._tolerance:
            one.wrong = f"it is {one.apart} of 255 from the same request alone, at most {self._tolerance} is promised"
        elif order.signature:
            bare = await self._painted(replace(order, signature_opacity=UNSEEN), session, "bare")
            one.wrong = mark_wrongs(alone, bare, self._tolerance) if bare else "it did not succeed without its mark"

    async def _painted(self, order: Order, session: Session, how: str) -> bytes:
        """The first picture of an order; b"" if there is none."""
        visit = Visit(order, f"bot-{self._run}-{order.number}-{how}", 0.0, self._clock.seconds)
        session.send(visit)
        try:
            await within(self._clock, self._patience, _over(visit))
        except TimeoutError:
            return b""
        return visit.pictures[0] if visit.end is End.SUCCEEDED and visit.pictures else b""


async def _over(visit: Visit) -> None:
    await visit.over.wait()
