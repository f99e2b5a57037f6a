"""A run of any kind: finds the server, lets shifts be worked, looks on meanwhile, compares the sample, and draws up the record.

Run.open → kind's body (shifts, findings, details) → compare the sample → close → record (JSON)
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.alone import Alone, Compared
from bot.choosing import Chooser
from bot.crew import Crew, ManyProcesses, OneProcess, added
from bot.doors.door import Health
from bot.errors import ClientError
from bot.faults import Saboteur, check
from bot.figures import Figures
from bot.ledger import Accounts, Finding
from bot.limits import allow_connections
from bot.profile import Closed, Profile
from bot.sampling import Processes, Sampler
from bot.shift import ShiftPlan
from bot.waiting import pause
from bot.where import Where
from server.errors import AtelierError

READY_TIME = 180.0  # seconds that a server may take to load its model before the bots begin
STRETCHES = 240  # of a run's timeline, at most; none is shorter than a second
SAMPLES = 600  # rows of what the server says, at most
SHORTEST = 1.0  # seconds, of both
VISITS = 10_000_000  # numbers set aside for each shift
DOWNTIME = 1.0  # seconds between looks at a server that loads


class CannotRun(Exception):
    """The run makes no sense as it was asked for, or its server is in no state for it. The text says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line. Seconds; `count` visits at most."""

    kind: str
    where: Where
    profile: Profile
    seconds: float
    count: int = 1_000_000
    drain: float = 120.0
    warm_up: float | None = None  # of a soak, before slopes are judged; None: a share of it
    processes: int = 1
    idle_connections: int = 0
    seed: int | None = None  # instead of the profile's
    pids: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, str] = field(default_factory=dict)
    sample: int = 12
    again: bool = True  # compare the sample with the same requests alone
    tolerance: int = 1  # of 255 levels: what docs/promises.md says for float32
    out: Path = Path("outputs/bots")


Body = Callable[["Run"], Awaitable[dict[str, Any]]]


class Run:
    """What a kind has at hand."""

    def __init__(self, reactor: Any, options: Options, stop: asyncio.Event, say: Callable[[str], None]) -> None:
        self.reactor = reactor
        self.options = options
        self.stop = stop
        self.say = say
        self.name = secrets.token_hex(4)
        self.seed = options.profile.seed if options.seed is None else options.seed
        self.epoch = time.time()
        self._monotonic = time.monotonic()
        self.door = options.where.door(reactor, self._tell)
        self.processes = Processes(options.pids)
        expected = options.seconds + options.drain / 4
        self.stretch = max(SHORTEST, expected / STRETCHES)
        self.sampler = Sampler(
            self.door, self.processes, reactor, self.now, max(SHORTEST, expected / SAMPLES), self._server_gone
        )
        self.saboteur = Saboteur(options.profile.faults, self.processes, options.restarts, reactor, self.now)
        self.crew: Crew = (
            OneProcess(reactor, options.where, self._tell)
            if options.processes == 1
            else ManyProcesses(options.where, options.processes)
        )
        self.figures = Figures(self.stretch)
        self.accounts = Accounts()
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.compared: list[Compared] = []
        self.styles: tuple[str, ...] = ()
        self.doing = ""  # for who looks on
        self.gone = ""  # why the server will not come back
        self.details: list[dict[str, Any]] = []  # what parts have beside figures and accounts
        self.judges_itself = False  # its kind has no visits, and so none of the findings on them
        self._sample: list[dict[str, Any]] = []
        self._next_visit = 0
        self._sabotage: list[asyncio.Task[None]] = []

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._monotonic

    # The run

    def check(self) -> None:
        """Before anything is opened. Raises CannotRun, CannotFault, TooMany."""
        profile = self.options.profile
        arrivals, bots = profile.arrivals, profile.bots
        if self.options.kind == "stress" and self.options.where.kind == "amqp":
            raise CannotRun(
                "stress looks for visitors who are turned away, and a queue turns nobody away: take --door tcp or http, "
                "or load --door amqp --rate N"
            )
        if not bots:
            key = "arrivals.users" if isinstance(arrivals, Closed) else "arrivals.connections"
            raise CannotRun(f"no users: {key} is 0; give --users N, or a profile with 1 or more")
        allow_connections(bots + self.options.idle_connections, self.options.processes)
        check(self.options.profile.faults, self.processes)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """With the server found and ready, and looked at all the while. Raises CannotConnectError, NotWelcomeError, CannotRun."""
        await self.door.open()
        looking = asyncio.ensure_future(self.sampler.run())
        try:
            await self._until_ready()
            self._begin_now()
            self.styles = tuple(await self.door.styles())
            yield
        finally:
            meanwhile = [looking, *self._sabotage]
            for task in meanwhile:
                task.cancel()
            await asyncio.gather(*meanwhile, return_exceptions=True)
            await self.door.close()

    async def shift(self, profile: Profile, seconds: float, **more: Any) -> tuple[Figures, Accounts]:
        """Let a shift be worked. Its figures are given, and added to the run's."""
        plan = self.plan(profile, seconds, **more)
        if not self._sabotage:
            self._sabotage.append(asyncio.ensure_future(self.saboteur.run(plan.begin)))
        parts = await self.crew.work(plan, self.stop)
        figures = Figures.merged(part["figures"] for part in parts)
        accounts = Accounts()
        for part in parts:
            accounts.merge(Accounts(**part["accounts"]))
            self._sample += part["sample"]
            self.details += [part["details"]] if "details" in part else []
            if part["gone"] and not self.gone:
                self._server_gone(part["gone"])
        self.figures.merge(figures.as_json())
        self.accounts.merge(accounts)
        self._next_visit += (
            max(figures.counts()["intended"] + accounts.bad_packets, 1) * 2
        )  # a margin: users are uneven
        return figures, accounts

    def plan(self, profile: Profile, seconds: float, **more: Any) -> ShiftPlan:
        """What the next shift has to do."""
        options = self.options
        return ShiftPlan(
            profile=profile, styles=self.styles, seed=self.seed, run=self.name, epoch=self.epoch,
            begin=self.now() + self.crew.lead, seconds=seconds, count=options.count, first=self._next_visit,
            drain=options.drain, stretch=self.stretch, keep=options.sample, **more,
        )  # fmt: skip

    async def compare(self) -> None:
        """The sample, asked for again alone."""
        if self.gone:
            return
        self.doing = "asking for the sample's pictures again, alone"
        alone = Alone(
            self.door, self.reactor, run=self.name, tolerance=self.options.tolerance, patience=self.options.drain
        )
        sample = sorted(self._sample, key=lambda entry: entry["number"])[: self.options.sample]
        chooser = Chooser(self.options.profile, self.seed, self.styles)
        again = self.options.again and not self.stop.is_set()
        try:
            self.compared = await alone.compare(sample, chooser, again=again)
        except (ClientError, AtelierError) as error:
            self.notes.append(f"the sample was not compared: {error}")

    def ticks(self) -> dict[str, Any]:
        """How the shift under way stands."""
        return added(self.crew.ticks()) if self.crew.ticks() else self._own_tick()

    def _own_tick(self) -> dict[str, Any]:
        """Of a kind that works no shifts."""
        result = self.figures.latencies["result"]
        return {
            "counts": self.figures.counts(), "under_way": 0, "connections": self.health.connections or 0,
            "p50": result.percentile(50), "p99": result.percentile(99),
        }  # fmt: skip

    def judge(self) -> None:
        """The findings that every kind has, before its own."""
        wrong = {one.job_id: one.wrong for one in self.compared if one.wrong}
        common = [] if self.judges_itself else self.accounts.findings()
        if any(one.apart >= 0 for one in self.compared) or wrong:
            worst = max((one.apart for one in self.compared), default=0)
            text = next(iter(wrong.values()), f"{len(self.compared)} pictures, at most {worst} of 255 apart")
            common.append(Finding("the same picture as alone", not wrong, text, tuple(wrong)))
        if self.gone:
            common.insert(0, Finding("the server is there", False, self.gone))
        self.findings = common + self.findings

    # What happens meanwhile

    def _begin_now(self) -> None:
        """The run's time begins when the server is ready for it."""
        self.epoch, self._monotonic = time.time(), time.monotonic()
        self.sampler.rows.clear()

    async def _until_ready(self) -> None:
        until = self.now() + READY_TIME
        while True:
            health = await self.door.health()
            if health.ready:
                return
            if health.problem:
                raise CannotRun(f"the server cannot paint: {health.problem}")
            if self.now() > until or self.stop.is_set():
                raise CannotRun(
                    f"the server at {self.door.address} was not ready within {READY_TIME:g} s; look at its log"
                )
            self.doing = "waiting for the server's model"
            await pause(self.reactor, DOWNTIME)

    def _server_gone(self, reason: str) -> None:
        """It will not come back: there is nothing more to do."""
        self.gone = f"{reason} (at {self.now():.0f} s)"
        self.stop.set()

    def _tell(self, text: str, attempt: int) -> None:
        """One line for the first of many bots that lose their connection at the same moment."""
        now = self.now()
        if attempt <= 1 and now - self._told_at > 1.0:
            self._told_at = now
            self.say(text)

    _told_at = -1e9

    @property
    def health(self) -> Health:
        """As the server said last."""
        return self.sampler.latest


def faults_of(run: Run) -> list[dict[str, Any]]:
    """What was done to processes, for the record."""
    return [
        {"at": done.at, "do": done.do, "what": done.what, "until": done.until, "note": done.note}
        for done in run.saboteur.done
    ]
