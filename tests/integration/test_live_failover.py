"""One of two processes is killed while live sessions and jobs are under way."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bot.client import Client
from server.events import Succeeded, TerminalEvent
from tests.bot.asked import finding, run
from tests.bot.live.asked import options
from tests.integration.cores import WaitsByTime, stream_processes, worst
from tests.integration.eventually import until
from tests.integration.nodes import events_of, submitted
from tests.integration.test_processes import several

SESSIONS = 12
JOBS = 24
LONGEST = 1.0  # seconds without a result, but for those in which who works on it was ready to run and had no core


async def test_sessions_are_opened_again_and_no_job_is_lost(
    reactor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each session of the process that is gone goes on within a second at the one that is left, by the bots' own client."""
    async with several(tmp_path, ATELIER_STREAM_READY="true") as server:
        await until(lambda: {"1a", "2a"} <= set(re.findall(r"live\.loaded.*process=(\w+)", server.log)))
        clients = [Client(reactor, server.address, tell=lambda text, attempt: None) for _ in range(4)]
        for client in clients:
            await client.connect()
        asked = options(
            server.address, tmp_path / "out", seconds=8.0,
            live={"sessions": SESSIONS, "connections": SESSIONS, "rate": 30.0, "outage_seconds": 10.0},
        )  # fmt: skip
        running = asyncio.ensure_future(run(reactor, asked))
        await until(lambda: server.log.count("live.opened") >= SESSIONS)
        homes = Counter(re.findall(r"live\.opened.*process=(\w+)", server.log))
        handles = [await submitted(client, number) for number, client in enumerate(clients * (JOBS // 4))]
        following = [asyncio.ensure_future(events_of(handle)) for handle in handles]
        await asyncio.sleep(1.0)  # frames flow
        ((home, there),) = homes.most_common(1)
        others = [number for name, number in server.ids().items() if name != home]
        waits = WaitsByTime(
            [os.getpid(), *others, *(stream.pid for other in others for stream in stream_processes(other))]
        )
        looking = asyncio.ensure_future(waits.look())
        os.kill(server.ids()[home], signal.SIGKILL)
        await until(lambda: server.log.count("live.opened") >= SESSIONS + there)
        await asyncio.sleep(0.1)  # three ticks: the first results are heard
        looking.cancel()
        status, record = await running
        for events in await asyncio.gather(*following):
            assert isinstance(events[-1], Succeeded), events[-1]
            assert [event for event in events if isinstance(event, TerminalEvent)] == events[-1:]
        for client in clients:
            await client.close()
    assert status == 0, record["verdict"]
    live = record["details"]["live"]
    assert [session["openings"] for session in live["sessions"]].count(2) == there > 0
    assert live["outages"] == there
    outages = [  # all begin as the process dies
        seconds for session in live["sessions"] for seconds in session["outages"]
    ]
    longest, waited = worst((seconds, waits.within(seconds)) for seconds in outages)
    told = f"{there} sessions were away, the worst for {longest:.2f} s, of which one at work waited {waited:.2f} s for a core"
    with capsys.disabled():
        print(f"\nfailover: {told}")  # noqa: T201
    assert longest - waited < LONGEST, told
    assert finding(record, "sessions opened again in time")["passed"]
    assert all(session["results"] > 60 for session in live["sessions"])
