"""The stream process: begun, replaced when it dies, given up when it is the model that kills it."""

from __future__ import annotations

import asyncio

import pytest

from ai.live.packing import pack, pack_ran
from server.errors import Code, Refusal
from tests.server.fakes import settle
from tests.server.live.acting import PERIOD, Theatre


async def test_nothing_is_begun_before_a_session_is_opened() -> None:
    """Then one process, and a spare one when the first has loaded."""
    theatre = Theatre()
    assert theatre.processes == []
    await theatre.opened()
    assert len(theatre.processes) == 1
    theatre.clock.advance(0.25)
    assert len(theatre.processes) == 2
    assert (theatre.sessions.numbers()[0].processes, theatre.sessions.numbers()[0].ready) == (2, 1)
    theatre.processes[1].begin()
    assert theatre.sessions.numbers()[0].ready == 2


async def test_sessions_go_on_in_the_spare_process_at_the_next_tick() -> None:
    """With the frame that was being run; their states are new, so no time has passed for them; another spare is begun."""
    theatre = Theatre()
    opened, heard = await theatre.opened()
    theatre.clock.advance(0.3)
    first, second = theatre.processes
    second.begin()
    theatre.frame(opened, 1, 1.0, 0.0)
    theatre.tick()
    first.run()
    theatre.frame(opened, 2, 2.0, 0.0)
    theatre.tick()
    first.end()
    theatre.tick()
    assert list(second.run().dt) == [0.0]
    assert (heard.numbers, heard.closed) == ([1, 2], [])
    theatre.clock.advance(1.0)
    assert len(theatre.processes) == 3
    assert theatre.sessions.numbers()[0].died == 1


async def test_a_frame_that_was_lost_with_its_process_is_dropped_where_a_newer_one_waits() -> None:
    """And counted."""
    theatre = Theatre()
    opened, heard = await theatre.opened()
    theatre.clock.advance(0.3)
    theatre.processes[1].begin()
    theatre.frame(opened, 1, 1.0, 0.0)
    theatre.tick()
    theatre.frame(opened, 2, 2.0, 0.0)
    theatre.processes[0].end()
    theatre.tick()
    theatre.processes[1].run()
    assert [(one.number, one.dropped) for one in heard.results] == [(2, 1)]


async def test_without_a_spare_sessions_wait_for_the_next_process() -> None:
    """Their newest frame with them."""
    theatre = Theatre(spare=False)
    opened, heard = await theatre.opened()
    theatre.clock.advance(20.0)
    theatre.processes[0].end()
    theatre.frame(opened, 1, 1.0, 0.0)
    theatre.frame(opened, 2, 2.0, 0.0)
    theatre.tick()
    assert len(theatre.processes) == 2
    theatre.processes[1].begin()
    theatre.tick()
    theatre.processes[1].run()
    assert heard.numbers == [2]


async def test_processes_that_die_young_are_begun_ever_more_slowly() -> None:
    """Half a second, a second, two …"""
    theatre = Theatre()
    await theatre.opened()
    theatre.clock.advance(0.25)
    for pause in (0.5, 1.0, 2.0):
        theatre.processes[-1].end()
        count = len(theatre.processes)
        theatre.clock.advance(pause - 0.01)
        assert len(theatre.processes) == count
        theatre.clock.advance(0.01)
        assert len(theatre.processes) == count + 1


async def test_a_model_that_kills_three_processes_is_given_up() -> None:
    """Its sessions are told why; who opens one later has it tried again."""
    theatre = Theatre(spare=False)
    opened, heard = await theatre.opened()
    for number in range(3):
        theatre.frame(opened, number, 1.0, 0.0)
        theatre.tick()
        assert len(theatre.processes[-1].ticks) == 1
        theatre.processes[-1].end("was ended by signal 11")
        theatre.clock.advance(3.0)
        if number < 2:
            theatre.processes[-1].begin()
    assert [one.code for one in heard.closed] == [Code.LIVE_FAILED]
    assert "has ended 3 processes: the last was ended by signal 11" in heard.closed[0].message
    assert len(theatre.processes) == 3
    opening = asyncio.ensure_future(theatre.sessions.open("ada", "face"))
    await settle()
    theatre.clock.advance(5.0)
    theatre.processes[-1].begin()
    assert (await opening).live_id == "live-2"


async def test_a_process_that_dies_while_it_loads_is_tried_three_times() -> None:
    """Whoever waits is then told."""
    theatre = Theatre()
    opening = asyncio.ensure_future(theatre.sessions.open("ada", "face"))
    for _ in range(3):
        await settle()
        theatre.processes[-1].end("ended with status 1")
        theatre.clock.advance(3.0)
    with pytest.raises(Refusal) as refused:
        await opening
    assert refused.value.code is Code.MODEL_LOAD_FAILED
    assert "ended with status 1" in refused.value.message


async def test_a_model_that_is_none_is_refused_by_the_process() -> None:
    """In its own words; the process ends, and the next who asks has it looked at again."""
    theatre = Theatre()
    opening = asyncio.ensure_future(theatre.sessions.open("ada", "face"))
    await settle()
    theatre.processes[0].refuse("it gives values of [3, 1]")
    with pytest.raises(Refusal) as refused:
        await opening
    assert (refused.value.code, refused.value.field) == (Code.MODEL_LOAD_FAILED, "model")
    assert "it gives values of [3, 1]" in refused.value.message
    await settle()
    assert theatre.processes[0].gone
    opened, _ = await theatre.opened()
    assert (opened.live_id, len(theatre.processes)) == ("live-1", 2)


async def test_a_tick_that_hangs_ends_its_process() -> None:
    """After two seconds; the sessions go on in the other."""
    theatre = Theatre()
    opened, heard = await theatre.opened()
    theatre.clock.advance(0.3)
    theatre.processes[1].begin()
    theatre.frame(opened, 1, 1.0, 0.0)
    theatre.tick()
    theatre.clock.advance(2.0)
    await settle()
    assert theatre.processes[0].gone
    theatre.tick()
    theatre.processes[1].run()
    assert heard.numbers == [1]


async def test_a_process_that_does_not_begin_is_ended() -> None:
    """In the time that loading may take."""
    theatre = Theatre()
    opening = asyncio.ensure_future(theatre.sessions.open("ada", "face"))
    await settle()
    theatre.clock.advance(30.0)
    await settle()
    assert theatre.processes[0].gone
    await theatre.sessions.stop()
    with pytest.raises(Refusal):
        await opening


@pytest.mark.parametrize(
    "nonsense",
    [b"\xff" * 9, pack(99), pack_ran(1, 0.0, b"\0", b"\0" * 8), pack(17) + pack(18, b"short")],
    ids=["a length", "a kind", "a result of no tick", "a short one"],
)
async def test_a_process_that_speaks_otherwise_is_ended(nonsense: bytes) -> None:
    """Nothing that it says after that is believed; sessions go on in the next."""
    theatre = Theatre()
    opening = asyncio.ensure_future(theatre.sessions.open("ada", "face"))
    await settle()
    theatre.processes[0].say(nonsense)
    await settle()
    assert theatre.processes[0].gone
    theatre.clock.advance(1.0)
    theatre.processes[1].begin()
    assert (await opening).live_id == "live-1"


async def test_a_process_that_cannot_be_begun_is_tried_again() -> None:
    """After a pause."""
    theatre = Theatre()
    theatre.unstartable = 2
    opening = asyncio.ensure_future(theatre.sessions.open("ada", "face"))
    await settle()
    theatre.clock.advance(0.5)
    assert theatre.processes == []
    theatre.clock.advance(1.0)
    theatre.processes[0].begin()
    assert (await opening).model.name == "face"


async def test_a_result_that_is_wide_enough_for_another_tick_is_no_result() -> None:
    """A RAN whose length is not what the manifest says ends the process."""
    theatre = Theatre()
    opened, heard = await theatre.opened()
    theatre.frame(opened, 1, 1.0, 0.0)
    theatre.clock.advance(PERIOD)
    theatre.processes[0].say(pack_ran(1, 0.0, b"\0", b"\0" * 12))
    await settle()
    assert (theatre.processes[0].gone, heard.results) == (True, [])
