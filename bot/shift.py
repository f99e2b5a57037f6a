"""One process's share of the traffic of a run: it opens its bots, lets them visit, waits until all have come out, and tells.

    plan → Shift.work → Part          (a part is JSON: the figures, the accounts, and a sample of pictures)

Of N processes, process i makes the visits whose number is i modulo N, so that together they make all of them once.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict

from bot.arrivals import moments
from bot.choosing import Chooser, Conduct, Order
from bot.doors.door import Door, Session
from bot.errors import ClientError
from bot.figures import Figures
from bot.guest import Guest
from bot.ledger import Ledger
from bot.live.profile import LiveProfile
from bot.profile import Closed, Profile
from bot.visit import End, Visit
from bot.waiting import pause, within
from server.clock import Clock
from server.errors import AtelierError

OPENED_AT_ONCE = 50  # connections: as many as a listening socket of Twisted's keeps waiting
ASKED_AT_ONCE = 20  # states of jobs that did not end
SHORT_DRAIN = 10.0  # seconds, after Ctrl-C
STATE_TIME = 5.0  # seconds for the server to say what became of a job
LIVE = frozenset({"queued", "starting", "processing", "retrying"})
LONGEST_RETRY = 5.0  # seconds that somebody in a closed loop waits, however late the server says to come again


class ShiftPlan(BaseModel):
    """What one process has to do. `run` is in every key; times are seconds of the run, which began at `epoch` (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: LiveProfile | Profile
    styles: tuple[str, ...]
    seed: int
    run: str
    epoch: float
    begin: float = 0.0  # of the arrivals
    seconds: float
    count: int  # visits, at most, of all processes together
    first: int = 0  # number of the first visit
    index: int = 0
    of: int = 1
    drain: float = 60.0
    stretch: float = 1.0  # seconds
    keep: int = 12  # visits in the sample
    idle_connections: int = 0  # held, and never used
    cancel_rest: bool = False  # cancel what has not ended when the arrivals are over


Part = dict[str, Any]


class Shift:
    """Sessions, visits and their books. `stop` ends the arrivals early; what is under way is then waited for briefly."""

    def __init__(self, door: Door, plan: ShiftPlan, clock: Clock, stop: asyncio.Event) -> None:
        self._door = door
        self._plan = plan
        self._clock = clock
        self._stop = stop
        self._started = time.monotonic() - (time.time() - plan.epoch)
        self.figures = Figures(plan.stretch)
        self._ledger = Ledger(self.now, self.figures, seed=plan.seed, keep=plan.keep)
        self._chooser = Chooser(plan.profile, plan.seed, plan.styles)
        self._sessions: list[Session] = []
        self._idle: list[Session] = []
        self._visits: set[asyncio.Task[float]] = set()
        self._empty = asyncio.Event()
        self._begin = plan.begin
        self._stopping = asyncio.ensure_future(stop.wait())

    def now(self) -> float:
        """Seconds of the run."""
        return time.monotonic() - self._started

    def tick(self) -> dict[str, Any]:
        """How it stands, for who looks on."""
        result = self.figures.latencies["result"]
        return {
            "counts": self.figures.counts(),
            "under_way": len(self._ledger.under_way),
            "connections": len(self._sessions) + len(self._idle),
            "p50": result.percentile(50),
            "p99": result.percentile(99),
        }

    async def work(self) -> Part:
        """All of it. Raises CannotConnectError, NotWelcomeError where a bot cannot come in at all."""
        try:
            await self._open()
            self._begin = max(self._plan.begin, self.now())  # thousands take a while to come in
            await self._arrivals()
            await self._drain()
            gone = self._all_gave_up and not self._stop.is_set()
            await self._ledger.close()
            return self._part(gone)
        finally:
            self._stopping.cancel()
            for task in self._visits:
                task.cancel()
            await asyncio.gather(*(session.close() for session in [*self._sessions, *self._idle]))

    # Coming in

    async def _open(self) -> None:
        arrivals = self._plan.profile.arrivals
        if isinstance(arrivals, Closed):
            wanted = len(self._mine(arrivals.users))
        else:
            wanted = max(1, len(self._mine(arrivals.connections)))  # whoever's turn it is has to come in somewhere
        await self._open_some(self._sessions, wanted, "bot")
        await self._open_some(self._idle, len(self._mine(self._plan.idle_connections)), "bot-idle")

    async def _open_some(self, into: list[Session], count: int, name: str) -> None:
        for begin in range(0, count, OPENED_AT_ONCE):
            some = [
                self._door.session(f"{name}-{self._plan.index}-{number}")
                for number in range(begin, min(begin + OPENED_AT_ONCE, count))
            ]
            into += some
            await asyncio.gather(*(session.open() for session in some))
            if self._stop.is_set():
                return

    def _mine(self, count: int) -> range:
        return range(self._plan.index, count, self._plan.of)

    # Visiting

    async def _arrivals(self) -> None:
        if await self._until(self._begin):
            storms = asyncio.ensure_future(self._storms(self._plan.profile.behaviour.abort_all_every))
            try:
                if isinstance(self._plan.profile.arrivals, Closed):
                    await self._closed_loop(self._plan.profile.arrivals)
                else:
                    await self._open_loop()
            finally:
                storms.cancel()
                await asyncio.wait([storms])

    async def _storms(self, every: float) -> None:
        """Everybody changes their mind at the same moment, every so often."""
        while every:
            await pause(self._clock, every)
            await self._cancel_all()

    async def _open_loop(self) -> None:
        """Visitors come at their moments, whatever became of those before."""
        plan = self._plan
        seed = plan.seed + plan.first  # another step of a run has other moments
        mine: Iterator[tuple[int, float]] = (
            (number, at)
            for number, at in enumerate(moments(plan.profile.arrivals, seed, plan.seconds))
            if number % plan.of == plan.index
        )
        for turn, (number, at) in enumerate(mine):
            if number >= plan.count or not await self._until(self._begin + at):
                return
            session = self._sessions[turn % len(self._sessions)]
            if not session.alive and self._all_gave_up:
                return
            self._start(self._visit(plan.first + number, self._begin + at, session))
        await self._until(self._begin + plan.seconds)

    async def _closed_loop(self, arrivals: Closed) -> None:
        """Each user comes again when the last visit is over and some thinking is done."""
        sessions = zip(self._mine(arrivals.users), self._sessions, strict=False)  # fewer, if it was stopped
        users = [self._user(user, arrivals, session) for user, session in sessions]
        everybody = asyncio.ensure_future(_all(users))
        try:
            await self._until(self._begin + self._plan.seconds, everybody)
            if everybody.done():
                everybody.result()
        finally:
            everybody.cancel()
            await asyncio.wait([everybody])

    async def _user(self, user: int, arrivals: Closed, session: Session) -> None:
        for number in range(user, self._plan.count, arrivals.users):
            await pause(self._clock, self._chooser.pause(number, arrivals.think_seconds))
            if not session.alive:
                return
            visit = self._start(self._visit(self._plan.first + number, self.now(), session))
            refused = await asyncio.shield(visit)
            if refused:
                await pause(self._clock, min(refused, LONGEST_RETRY))

    def _start(self, visit: Any) -> asyncio.Task[float]:
        task: asyncio.Task[float] = asyncio.ensure_future(visit)
        self._visits.add(task)
        self._empty.clear()
        task.add_done_callback(self._gone)
        return task

    def _gone(self, task: asyncio.Task[float]) -> None:
        self._visits.discard(task)
        if not self._visits:
            self._empty.set()

    async def _visit(self, number: int, intended: float, session: Session) -> float:
        """One visit, from coming to going; gives the seconds after which to come again, if it was refused."""
        order = self._chooser.order(number)
        if order.conduct is Conduct.BAD_PACKET:
            await self._babble(number)
            return 0.0
        visit = self._ledger.enter(order, f"bot-{self._plan.run}-{number}", intended)
        try:
            await CONDUCTS[order.conduct](self, visit, session)
        except (ClientError, AtelierError, ValueError, TypeError) as error:  # the last two: the wire cannot say it
            visit.finish(End.LOST if visit.sent is not None else End.UNSENT, str(error))
        if self._ledger.open_still(visit):
            self._ledger.settle(visit)
        return visit.retry_after if visit.end is End.REFUSED else 0.0

    async def _babble(self, number: int) -> None:
        accounts = self._ledger.accounts
        self.figures.conducts[Conduct.BAD_PACKET.value] += 1
        try:
            finding = await self._door.babble(number)
        except (ClientError, AtelierError):  # the server is away
            finding = None
        if finding is None:
            return
        accounts.bad_packets += 1
        if finding:
            accounts.babbled.append(finding)

    async def _politely(self, visit: Visit, session: Session) -> None:
        session.send(visit)
        await visit.over.wait()

    async def _cancelling(self, visit: Visit, session: Session) -> None:
        session.send(visit)
        await visit.has_id.wait()
        await self._moment(visit)
        if not visit.over.is_set():
            visit.cancel_asked = True
            await _cancel(session, visit)
        await visit.over.wait()

    async def _disconnecting(self, visit: Visit, session: Session) -> None:
        async with self._guest() as guest:
            guest.send(visit)
            await visit.has_id.wait()
            await self._moment(visit)
            guest.drop()
            await visit.over.wait()

    async def _reading_slowly(self, visit: Visit, session: Session) -> None:
        async with self._guest() as guest:
            guest.send(visit)
            await visit.has_id.wait()
            guest.hold(True)
            await pause(self._clock, self._plan.profile.behaviour.slow_seconds)
            guest.hold(False)
            await visit.over.wait()

    async def _moment(self, visit: Visit) -> None:
        await pause(self._clock, visit.order.moment * self._plan.profile.behaviour.within_seconds)

    def _guest(self) -> Guest:
        return Guest(self._door.session("bot-guest"), self._clock, self._stop)

    # Going

    async def _drain(self) -> None:
        """Until all have come out, or not."""
        if self._plan.cancel_rest:
            await self._cancel_all()
        limit = min(self._plan.drain, SHORT_DRAIN) if self._stop.is_set() else self._plan.drain
        until = self.now() + limit
        empty = asyncio.ensure_future(self._empty.wait())
        while self._visits and (left := until - self.now()) > 0:
            stopped_before = self._stop.is_set()
            await self._wait(left, empty)
            if self._stop.is_set() and not stopped_before:
                until = min(until, self.now() + SHORT_DRAIN)
        empty.cancel()
        left_over = self._ledger.under_way
        for begin in range(0, len(left_over), ASKED_AT_ONCE):
            await asyncio.gather(*map(self._give_up, left_over[begin : begin + ASKED_AT_ONCE]))
        await asyncio.sleep(0)  # those that ended meanwhile settle themselves

    async def _cancel_all(self) -> None:
        visits = [visit for visit in self._ledger.under_way if visit.job_id and not visit.over.is_set()]
        for visit in visits:
            visit.cancel_asked = True
        await asyncio.gather(*(self._sessions[0].cancel(visit.job_id) for visit in visits), return_exceptions=True)

    async def _give_up(self, visit: Visit) -> None:
        """Nothing was heard of its end: say what the server makes of it."""
        state = await self._state_of(visit)
        if self._stop.is_set() and state in LIVE:
            self._ledger.leave(visit, state)
            visit.finish(End.LOST, "the run was stopped")
        elif not visit.over.is_set():
            visit.finish(End.LOST, f"no end within {self._plan.drain:g} s of drain; the server says: {state}")
            self._ledger.settle(visit)

    async def _state_of(self, visit: Visit) -> str:
        if not visit.job_id:
            return "it was never answered"
        try:
            return await within(self._clock, STATE_TIME, self._door.state_of(visit.job_id))
        except (TimeoutError, ClientError, AtelierError) as error:
            return f"nothing ({error})"

    @property
    def _all_gave_up(self) -> bool:
        """Whether nobody is there any more who could ask."""
        return bool(self._sessions) and not any(session.alive for session in self._sessions)

    def _part(self, gone: bool) -> Part:
        return {
            "gone": f"every bot gave up on {self._door.address}" if gone else "",
            "figures": self.figures.as_json(),
            "accounts": asdict(self._ledger.accounts),
            "sample": [_sampled(visit) for visit in self._ledger.sample],
        }

    # Time

    async def _until(self, moment: float, *work: asyncio.Future[Any]) -> bool:
        """Wait for a moment of the run, or for `work`; False if it is stopped before."""
        while (left := moment - self.now()) > 0 and not self._stop.is_set():
            if any(one.done() for one in work):
                return True
            await self._wait(left, *work)
        return not self._stop.is_set()

    async def _wait(self, seconds: float, *work: asyncio.Future[Any]) -> None:
        """Until `work` is done, or the run is stopped, or so long."""
        timer = asyncio.ensure_future(pause(self._clock, seconds))
        waiting = {timer, *work} if self._stop.is_set() else {timer, self._stopping, *work}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()


CONDUCTS: dict[Conduct, Callable[[Shift, Visit, Session], Any]] = {
    Conduct.POLITE: Shift._politely,
    Conduct.CANCEL: Shift._cancelling,
    Conduct.DISCONNECT: Shift._disconnecting,
    Conduct.SLOW_READER: Shift._reading_slowly,
}


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*work)


async def _cancel(session: Session, visit: Visit) -> None:
    """Ask; a refusal is a finding. A connection that is lost for good is told by the visit itself."""
    try:
        await session.cancel(visit.job_id)
    except AtelierError as refusal:
        visit.wrong(f"its cancel was refused: {refusal}")
    except ClientError:
        return


def _sampled(visit: Visit) -> dict[str, Any]:
    return {
        "number": visit.order.number,
        "job_id": visit.job_id,
        "seconds": (visit.ended or 0.0) - visit.intended,
        "at": visit.ended,
        "pictures": [base64.b64encode(png).decode("ascii") for png in visit.pictures],
    }


def order_of(plan: ShiftPlan, number: int) -> Order:
    """What visit `number` asked for."""
    return Chooser(plan.profile, plan.seed, plan.styles).order(number)
