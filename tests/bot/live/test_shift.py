"""Whole runs of `python -m bot live` against a server that ticks, and one that does it badly."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bot.live.shift import NoStreamModel
from bot.report.page import comparison_page
from bot.run import CannotRun
from server.live.sources.reading import Shape
from server.live.sources.recording import RecordingReader
from tests.bot.asked import finding, run
from tests.bot.live.asked import options
from tests.bot.live.ticking_server import HZ, TickingServer


async def test_sessions_have_their_results(reactor: Any, tmp_path: Path) -> None:
    """Each sends at its rate and hears of every frame; the record has latencies, a timeline and each session's books."""
    async with TickingServer(reactor) as server:
        status, record = await run(reactor, options(server.address, tmp_path))
    assert status == 0, record["verdict"]
    live = record["details"]["live"]
    assert len(live["sessions"]) == 6
    assert {asked.model for asked in server.asked} == {"face"}
    assert live["sent"] == record["counts"]["intended"]
    assert 0 < record["counts"]["succeeded"] <= live["results"]
    assert (live["starved"], live["refused"], live["outages"]) == (0, {}, 0)
    for session in live["sessions"]:
        assert session["sent"] - session["results"] - session["dropped"] <= 2  # the last ones are under way at the end
    assert record["latencies"]["frame"]["count"] == record["counts"]["succeeded"]
    assert any(record["timeline"]["p99"])
    page = _page(tmp_path)
    assert "frame to result, p99" in page
    assert "longest gap between two results" in page
    assert "frame to result" in comparison_page(("a", record), ("b", record))


async def test_aligned_frames_are_captured_before_the_tick(reactor: Any, tmp_path: Path) -> None:
    """By the server's own clock, which may be another than ours; captured means when it was due."""
    async with TickingServer(reactor) as server:
        server.ahead = 3600.0
        asked = options(server.address, tmp_path, live={"sessions": 1, "lead_seconds": 0.004, "rate": 20.0})
        await run(reactor, asked)
        phases = [frame.captured_us % round(1e6 / HZ) for frame in server.frames]
    middle = sorted(phases)[len(phases) // 2]
    near = [phase for phase in phases if min(abs(phase - middle), round(1e6 / HZ) - abs(phase - middle)) < 3000]
    assert len(near) > 0.7 * len(phases)
    captured = [frame.captured_us for frame in server.frames]
    assert captured == sorted(set(captured))
    assert all(late - early > 25_000 for early, late in pairwise(captured))


async def test_unaligned_frames_are_spread(reactor: Any, tmp_path: Path) -> None:
    """Each session has moments of its own, a period apart."""
    async with TickingServer(reactor) as server:
        status, record = await run(reactor, options(server.address, tmp_path, live={"aligned": False, "rate": 10.0}))
        first = {frame.live_id: frame.captured_us for frame in reversed(server.frames)}
    assert status == 0, record["verdict"]
    apart = sorted(first.values())
    assert apart[-1] - apart[0] == pytest.approx(100_000 * 5 / 6, abs=100_000 / 6)


async def test_lost_connections_are_regained_and_sessions_opened_again(reactor: Any, tmp_path: Path) -> None:
    """Each loses some frames; the verdict says how long the longest was away."""
    async with TickingServer(reactor) as server:
        reactor.callLater(1.0, server.cut)
        status, record = await run(reactor, options(server.address, tmp_path, seconds=2.5))
    assert status == 0, record["verdict"]
    live = record["details"]["live"]
    assert live["outages"] == 6
    assert all(len(session["outages"]) == 1 and session["openings"] == 2 for session in live["sessions"])
    assert 0 < live["longest_outage"] <= 10.0
    assert "6 sessions were opened again" in finding(record, "sessions opened again in time")["text"]
    assert live["starved"] == 0


async def test_a_session_that_is_refused_again_is_asked_for_again(reactor: Any, tmp_path: Path) -> None:
    """Where the server has no room at the moment; who was there before comes back."""
    async with TickingServer(reactor) as server:
        server.refuses = {1, 2}
        reactor.callLater(0.5, server.cut)
        asked = options(server.address, tmp_path, live={"sessions": 1}, seconds=2.0)
        status, record = await run(reactor, asked)
    assert status == 0, record["verdict"]
    assert len(server.asked) == 4
    assert record["details"]["live"]["sessions"][0]["openings"] == 2


async def test_a_starved_session_is_found(reactor: Any, tmp_path: Path) -> None:
    """By its number; the others are well."""
    async with TickingServer(reactor) as server:
        server.mute = {2}
        asked = options(server.address, tmp_path, seconds=3.0, live={"starved_after_seconds": 1.5, "connections": 1})
        status, record = await run(reactor, asked)
    assert status == 1
    assert finding(record, "no session starved")["ids"] == ["2"]
    assert finding(record, "every session there to the end")["passed"]
    assert record["details"]["live"]["starved"] == 1


async def test_a_session_that_the_server_ends_is_told(reactor: Any, tmp_path: Path) -> None:
    """With the server's reason."""
    async with TickingServer(reactor) as server:
        server.closes = {3}
        status, record = await run(reactor, options(server.address, tmp_path))
    assert status == 1
    told = finding(record, "every session there to the end")
    assert "the model fails" in told["text"]
    assert len(told["ids"]) == 1


async def test_a_latency_that_is_too_long_is_told(reactor: Any, tmp_path: Path) -> None:
    """Against the scenario's."""
    async with TickingServer(reactor) as server:
        status, record = await run(reactor, options(server.address, tmp_path, live={"p99_seconds": 0.000_001}))
    assert status == 1
    assert not finding(record, "p99 from frame to result")["passed"]


async def test_sessions_are_shared_by_processes(reactor: Any, tmp_path: Path) -> None:
    """Each has its connections, and the books are one."""
    async with TickingServer(reactor) as server:
        status, record = await run(reactor, options(server.address, tmp_path, processes=2, live={"rate": 20.0}))
    assert status == 0, record["verdict"]
    assert [session["number"] for session in record["details"]["live"]["sessions"]] == [0, 1, 2, 3, 4, 5]
    assert record["counts"]["intended"] == record["details"]["live"]["sent"] > 0


async def test_a_server_without_stream_models_is_told(reactor: Any, tmp_path: Path) -> None:
    """Before anything is sent."""
    async with TickingServer(reactor) as server:
        server.model_type = "text-generation"
        with pytest.raises(NoStreamModel, match="no stream model"):
            await run(reactor, options(server.address, tmp_path))


async def test_a_source_sends_for_the_bots(reactor: Any, tmp_path: Path) -> None:
    """They ask for it and send nothing."""
    async with TickingServer(reactor) as server:
        _, record = await run(reactor, options(server.address, tmp_path, live={"source": "desk"}))
    assert {asked.source for asked in server.asked} == {"desk"}
    assert server.frames == []
    assert record["details"]["live"]["sent"] == 0


async def test_what_was_sent_can_be_played_again(reactor: Any, tmp_path: Path) -> None:
    """The first session's frames are a recording, for a model with the same inputs."""
    take = tmp_path / "take.jsonl"
    async with TickingServer(reactor) as server:
        await run(reactor, options(server.address, tmp_path / "out", live={"record": str(take), "sessions": 2}))
        sent = [frame for frame in server.frames if frame.live_id == "live-0"]
    reader = RecordingReader(take, Shape(("smile", "jaw")))
    reader.open()
    for frame in sent:
        timed = reader.read()
        assert timed is not None
        assert timed.frame.values == pytest.approx(frame.values)
    reader.close()


async def test_another_door_is_none(reactor: Any, tmp_path: Path) -> None:
    """Live sessions are opened by TCP."""
    with pytest.raises(CannotRun, match="opened by TCP"):
        await run(reactor, options("http://127.0.0.1:1", tmp_path, where={"kind": "http"}))


async def test_a_refused_opening_is_told(reactor: Any, tmp_path: Path) -> None:
    """With its code; the other sessions go on."""
    async with TickingServer(reactor) as server:
        server.refuses = {0}
        status, record = await run(reactor, options(server.address, tmp_path))
    assert status == 1
    assert finding(record, "every session there to the end")["text"].startswith("1 were not: ")


def _page(folder: Path) -> str:
    (page,) = folder.glob("*.html")
    return page.read_text(encoding="utf-8")
