"""Who works a shift: this process alone, or as many child processes as were asked for. Both give parts that add up.

python -m bot part      reads a line of JSON (where, plan), works, writes a line a second and at last its part; SIGINT stops it
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from bot.errors import ClientError
from bot.live.profile import LiveProfile
from bot.live.shift import LiveShift
from bot.shift import Part, Shift, ShiftPlan
from bot.waiting import pause
from bot.where import Where
from server.clock import Clock

ROOT = Path(__file__).resolve().parent.parent
TICK = 1.0  # seconds
LONGEST_LINE = 1 << 28  # bytes of a part: pictures of the sample, and histograms
LEAD = 1.5  # seconds that child processes get to start before the arrivals begin


class ChildFailed(ClientError):
    """A process of the bots' own ended before its time. The text has its last words."""


class Crew(Protocol):
    """Works shifts."""

    lead: float  # seconds that it needs before a shift can begin

    async def work(self, plan: ShiftPlan, stop: asyncio.Event) -> list[Part]:
        """A shift, to its end. Raises CannotConnectError, NotWelcomeError, ChildFailed."""
        ...

    def ticks(self) -> list[dict[str, Any]]:
        """How the shift that is under way stands, process by process."""
        ...


class OneProcess:
    """This one."""

    lead = 0.0

    def __init__(self, reactor: Any, where: Where, tell: Any) -> None:
        self._reactor = reactor
        self._where = where
        self._tell = tell
        self._shift: Shift | LiveShift | None = None

    async def work(self, plan: ShiftPlan, stop: asyncio.Event) -> list[Part]:
        """Here."""
        door = self._where.door(self._reactor, self._tell)
        await door.open()
        try:
            if isinstance(plan.profile, LiveProfile):
                self._shift = LiveShift(door, plan, self._reactor, stop)
            else:
                self._shift = Shift(door, plan, self._reactor, stop)
            return [await self._shift.work()]
        finally:
            await door.close()

    def ticks(self) -> list[dict[str, Any]]:
        """The shift's own."""
        return [self._shift.tick()] if self._shift is not None else []


class ManyProcesses:
    """`count` children, each with its share."""

    lead = LEAD

    def __init__(self, where: Where, count: int) -> None:
        self._where = where
        self._count = count
        self._ticks: dict[int, dict[str, Any]] = {}

    async def work(self, plan: ShiftPlan, stop: asyncio.Event) -> list[Part]:
        """In all of them. One that fails stops the others."""
        self._ticks.clear()
        shares = [plan.model_copy(update={"index": index, "of": self._count}) for index in range(self._count)]
        work = [asyncio.ensure_future(self._child(share, stop)) for share in shares]
        try:
            return list(await asyncio.gather(*work))
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    def ticks(self) -> list[dict[str, Any]]:
        """The latest of each."""
        return list(self._ticks.values())

    async def _child(self, share: ShiftPlan, stop: asyncio.Event) -> Part:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", "part",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment, limit=LONGEST_LINE, start_new_session=True,
        )  # fmt: skip
        stopping = asyncio.ensure_future(_pass_on(stop, process))
        assert process.stderr is not None
        words = asyncio.ensure_future(process.stderr.read())
        try:
            part = await self._heard(process, share)
            if part is None:
                raise ChildFailed(
                    (await words).decode(errors="replace").strip() or "a bots' process ended without a word"
                )
            return part
        finally:
            stopping.cancel()
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
            await words

    async def _heard(self, process: asyncio.subprocess.Process, share: ShiftPlan) -> Part | None:
        assert process.stdin is not None
        assert process.stdout is not None
        told = {"where": json.loads(self._where.model_dump_json()), "plan": json.loads(share.model_dump_json())}
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(json.dumps(told).encode() + b"\n")
            await process.stdin.drain()
        part: Part | None = None
        async for line in process.stdout:
            said: Mapping[str, Any] = json.loads(line)
            if "part" in said:
                part = said["part"]
                await process.wait()
            else:
                self._ticks[share.index] = said["tick"]
        return part


async def _pass_on(stop: asyncio.Event, process: asyncio.subprocess.Process) -> None:
    await stop.wait()
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)


async def be_a_part(reactor: Any, stop: asyncio.Event) -> int:
    """What a child does."""
    told = json.loads(await asyncio.to_thread(sys.stdin.readline))
    where, plan = Where.model_validate(told["where"]), ShiftPlan.model_validate(told["plan"])
    crew = OneProcess(reactor, where, lambda text, attempt: None)
    ticking = asyncio.ensure_future(_tick(crew, reactor))
    try:
        (part,) = await crew.work(plan, stop)
    finally:
        ticking.cancel()
    _say({"part": part})
    return 0


async def _tick(crew: OneProcess, clock: Clock) -> None:
    while True:
        await pause(clock, TICK)
        for tick in crew.ticks():
            _say({"tick": tick})


def _say(message: Mapping[str, Any]) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201  # the pipe to the parent


def added(ticks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All processes' ticks as one: numbers add up, of percentiles the worst is shown."""
    whole: dict[str, Any] = {"counts": {}, "under_way": 0, "connections": 0, "p50": None, "p99": None}
    for tick in ticks:
        for name, count in tick["counts"].items():
            whole["counts"][name] = whole["counts"].get(name, 0) + count
        whole["under_way"] += tick["under_way"]
        whole["connections"] += tick["connections"]
        for name in ("p50", "p99"):
            whole[name] = max(filter(None, (whole[name], tick[name])), default=None)
    return whole
