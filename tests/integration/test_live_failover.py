"""One of two processes is killed while live sessions and jobs are under way."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from bot.client import Client
from server.events import Succeeded, TerminalEvent
from tests.bot.asked import finding, run
from tests.bot.live.asked import options
from tests.integration.eventually import until
from tests.integration.nodes import events_of, submitted
from tests.integration.test_processes import several

SESSIONS = 12
JOBS = 24
LONGEST = 3.0  # seconds; it is a fraction of one where nothing else runs (docs/benchmarks.md)


async def test_sessions_are_opened_again_and_no_job_is_lost(reactor: Any, tmp_path: Path) -> None:
    """Each session of the process that is gone goes on at the one that is left, by the bots' own client."""
    async with several(tmp_path, ATELIER_STREAM_READY="true") as server:
        await until(lambda: {"1a", "2a"} <= set(re.findall(r"live\.loaded.*process=(\w+)", server.log)))
        clients = [Client(reactor, server.address, tell=lambda text, attempt: None) for _ in range(4)]
        for client in clients:
            await client.connect()
        asked = options(
            server.address, tmp_path / "out", seconds=8.0,
            live={"sessions": SESSIONS, "connections": SESSIONS, "rate": 30.0, "outage_seconds": LONGEST},
        )  # fmt: skip
        running = asyncio.ensure_future(run(reactor, asked))
        await until(lambda: server.log.count("live.opened") >= SESSIONS)
        homes = Counter(re.findall(r"live\.opened.*process=(\w+)", server.log))
        handles = [await submitted(client, number) for number, client in enumerate(clients * (JOBS // 4))]
        following = [asyncio.ensure_future(events_of(handle)) for handle in handles]
        await asyncio.sleep(1.0)  # frames flow
        ((home, there),) = homes.most_common(1)
        os.kill(server.ids()[home], signal.SIGKILL)
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
    assert finding(record, "sessions opened again in time")["passed"]
    assert all(session["results"] > 60 for session in live["sessions"])
