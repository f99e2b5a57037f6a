"""Stream models that are loaded before anybody asks, and kept (ATELIER_STREAM_READY)."""

from __future__ import annotations

import asyncio
from typing import Any

from server.live.sessions import READY_TIME
from tests.server.fakes import settle
from tests.server.live.acting import FACE, LIMITS, Theatre


async def test_the_first_session_finds_its_model_loaded() -> None:
    """And when the last has gone, its process stays."""
    theatre = Theatre(FACE)
    ready = asyncio.ensure_future(theatre.sessions.keep_ready())
    await settle()
    assert not ready.done()
    theatre.processes[0].begin()
    await settle()
    assert ready.done()
    opened, _ = await theatre.opened()  # waits for no other process
    assert len(theatre.processes) == 1
    theatre.sessions.close("ada", opened.live_id)
    theatre.clock.advance(LIMITS.idle_timeout + 1)
    await settle()
    assert not any(process.killed for process in theatre.processes)
    await theatre.sessions.stop()
    assert all(process.gone for process in theatre.processes)


async def test_a_model_that_is_none_is_told_and_asked_again(logs: list[Any]) -> None:
    """By whoever opens a session on it; the server starts all the same."""
    theatre = Theatre(FACE)
    ready = asyncio.ensure_future(theatre.sessions.keep_ready())
    await settle()
    theatre.processes[0].refuse("it gives no numbers")
    await ready
    assert "live.not_ready" in [line["event"] for line in logs]
    opened, _ = await theatre.opened()
    assert opened.model.name == "face"


async def test_a_model_that_takes_long_holds_nobody_up_for_ever() -> None:
    """The server starts without it, and it goes on loading."""
    theatre = Theatre(FACE)
    ready = asyncio.ensure_future(theatre.sessions.keep_ready())
    await settle()
    theatre.clock.advance(READY_TIME)
    await ready
    opened, _ = await theatre.opened()
    assert opened.model.name == "face"
    await theatre.sessions.stop()


async def test_a_stop_waits_for_no_model(logs: list[Any]) -> None:
    """Those that load are ended; nothing is told to be wrong with them."""
    theatre = Theatre(FACE)
    ready = asyncio.ensure_future(theatre.sessions.keep_ready())
    await settle()
    await theatre.sessions.stop()
    await settle()
    assert ready.done()
    assert theatre.processes[0].gone
    assert "live.not_ready" not in [line["event"] for line in logs]
