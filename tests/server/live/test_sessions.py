"""Live sessions: whose they are, what a frame must be, and what a tick makes of the newest of each."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from server.errors import Code, Refusal
from server.live.events import Frame
from tests.server.fakes import settle
from tests.server.live.acting import EYE, LIMITS, PERIOD, Heard, OneSource, Theatre


async def test_a_frame_comes_back_with_the_next_tick() -> None:
    """With its number and time, a value for each output by its name, and when the tick began."""
    theatre = Theatre()
    opened, heard = await theatre.opened()
    assert (opened.model.name, opened.model.tick_hz, opened.next_tick_us) == ("face", 10.0, 1_000_000_100_000)
    theatre.frame(opened, 7, 0.25, 0.5, captured_us=1_000_000_000_000)
    assert not theatre.processes[0].ticks
    theatre.tick()
    theatre.processes[0].run()
    (result,) = heard.results
    assert (result.live_id, result.number, result.captured_us) == ("live-1", 7, 1_000_000_000_000)
    assert dict(zip(result.names, result.values, strict=True)) == {"joy": 0.75, "anger": 1.75}
    assert (result.tick_us, result.sequence, result.dropped) == (1_000_000_100_000, 1, 0)


async def test_all_sessions_are_run_together() -> None:
    """One batch a tick, of those that have a frame; each is told its own row."""
    theatre = Theatre()
    ada, of_ada = await theatre.opened()
    bob, of_bob = await theatre.opened("bob")
    await theatre.opened("bob")  # sends nothing
    theatre.frame(ada, 1, 1.0, 0.0)
    theatre.sessions.frame("bob", bob.live_id, Frame(4, values=(2.0, 0.0)))
    theatre.tick()
    tick = theatre.processes[0].run()
    assert len(tick.sessions) == 2
    assert [of_ada.results[0].values[0], of_bob.results[0].values[0]] == [1.0, 2.0]
    theatre.tick()
    assert len(theatre.processes[0].ticks) == 1  # nothing to run


async def test_the_newest_frame_is_run_and_the_others_are_counted() -> None:
    """Overtaken before its tick, or come late: dropped, told with the next result, never queued."""
    theatre = Theatre()
    opened, heard = await theatre.opened()
    for number in (1, 2, 5, 4, 5):
        theatre.frame(opened, number, float(number), 0.0)
    theatre.tick()
    theatre.processes[0].run()
    assert [(one.number, one.values[0], one.dropped) for one in heard.results] == [(5, 5.0, 4)]
    counts = theatre.sessions.numbers()[0].counts
    assert (counts.frames, counts.dropped, counts.results, counts.ticks) == (5, 4, 1, 1)


async def test_a_tick_that_overruns_makes_the_next_be_skipped() -> None:
    """No second batch is sent while one runs; what came meanwhile is run at the first tick after it, the newest alone."""
    theatre = Theatre()
    opened, heard = await theatre.opened()
    theatre.frame(opened, 1, 1.0, 0.0)
    theatre.tick()
    for number in (2, 3):
        theatre.frame(opened, number, 1.0, 0.0)
        theatre.tick()
    assert len(theatre.processes[0].ticks) == 1
    theatre.processes[0].run()
    theatre.tick()
    theatre.processes[0].run()
    assert (heard.numbers, theatre.sessions.numbers()[0].counts.overruns) == ([1, 3], 2)


async def test_ticks_that_the_reactor_is_late_for_are_counted_and_the_phase_stays() -> None:
    """Three and a half periods late: three were missed, and the next comes where it would have come."""
    theatre = Theatre()
    opened, _ = await theatre.opened()
    theatre.frame(opened, 1, 1.0, 0.0)
    theatre.clock.advance(4.5 * PERIOD)
    assert (theatre.sessions.numbers()[0].counts.overruns, len(theatre.processes[0].ticks)) == (3, 1)
    assert theatre.sessions.find("ada", opened.live_id).next_tick_us == pytest.approx(1_000_000_500_000, abs=2)


async def test_time_is_told_between_the_frames_that_were_run() -> None:
    """0 at the first, never less than none, and ten seconds at most."""
    theatre = Theatre()
    opened, _ = await theatre.opened()
    told = []
    for number, captured in enumerate((999_999_000_000, 999_999_500_000, 999_999_400_000, 1_000_000_000_000 + 10**5)):
        theatre.frame(opened, number, 1.0, 0.0, captured_us=captured)
        theatre.tick()
        told.append(theatre.processes[0].run().dt[0])
    theatre.clock.advance(100.0)
    theatre.frame(opened, 9, 1.0, 0.0)  # no time of its own: when it came
    theatre.tick()
    told.append(theatre.processes[0].run().dt[0])
    assert told == pytest.approx([0.0, 0.5, 0.0, 0.7, 10.0], abs=1e-3)


@pytest.mark.parametrize(
    ("frame", "field", "limit"),
    [
        (Frame(1, values=(1.0,)), "values", "2 numbers"),
        (Frame(1, values=(1.0, 2.0, 3.0)), "values", "2 numbers"),
        (Frame(1, values=(1.0, math.nan)), "values[1]", "a finite number"),
        (Frame(1, values=(-math.inf, math.inf)), "values[0]", "a finite number"),
        (Frame(1, values=(1.0, 2.0), image=b"x"), "image", "none: the model takes values"),
        (Frame(1, 1_000_002_000_000, (1.0, 2.0)), "captured_us", "at most 1 s ahead"),
        (Frame(1, -1, (1.0, 2.0)), "captured_us", "at most 1 s ahead"),
    ],
)
async def test_a_frame_that_cannot_be_run_is_refused(frame: Frame, field: str, limit: str) -> None:
    """By its field and limit; the session goes on with the next."""
    theatre = Theatre()
    opened, heard = await theatre.opened()
    with pytest.raises(Refusal) as refused:
        theatre.sessions.frame("ada", opened.live_id, frame)
    assert (refused.value.code, refused.value.field) == (Code.INVALID_PARAMETER, field)
    assert limit in refused.value.limit
    theatre.frame(opened, 1, 1.0, 2.0)
    theatre.tick()
    theatre.processes[0].run()
    assert (heard.numbers, theatre.sessions.numbers()[0].counts.refused) == ([1], 1)


@pytest.mark.parametrize(
    ("frame", "field", "limit"),
    [
        (Frame(1, image=bytes(17)), "image", "18 bytes: 3 times 2 times 3"),
        (Frame(1, values=(1.0,), image=bytes(18)), "values", "none: the model takes an image"),
    ],
)
async def test_an_image_must_have_the_model_s_size(frame: Frame, field: str, limit: str) -> None:
    """To the byte."""
    theatre = Theatre()
    opened, _ = await theatre.opened(model="eye")
    with pytest.raises(Refusal) as refused:
        theatre.sessions.frame("ada", opened.live_id, frame)
    assert (refused.value.field, refused.value.limit) == (field, limit)


@pytest.mark.parametrize("echo_input", [False, True])
async def test_an_image_comes_back_where_that_was_asked_for(echo_input: bool) -> None:
    """With the result that was made of it."""
    theatre = Theatre()
    opened, heard = await theatre.opened(model="eye", echo_input=echo_input)
    image = bytes(range(EYE.input_bytes))
    theatre.sessions.frame("ada", opened.live_id, Frame(1, image=image))
    theatre.tick()
    theatre.processes[0].run()
    assert heard.results[0].input_image == (image if echo_input else b"")
    assert heard.results[0].values[0] == sum(image)


async def test_another_s_session_is_none() -> None:
    """Whatever is asked of it."""
    theatre = Theatre()
    opened, heard = await theatre.opened()
    sessions: Any = theatre.sessions
    asked: list[tuple[Any, ...]] = [
        (sessions.frame, "bob", opened.live_id, Frame(1, values=(1.0, 2.0))),
        (sessions.close, "bob", opened.live_id),
        (sessions.find, "bob", opened.live_id),
        (sessions.watch, "bob", opened.live_id, heard),
        (sessions.close, "ada", "live-9"),
    ]
    for ask, *of in asked:
        with pytest.raises(Refusal) as refused:
            ask(*of)
        assert (refused.value.code, refused.value.field) == (Code.LIVE_NOT_FOUND, "live_id")


async def test_whoever_watches_hears_what_comes_from_then_on() -> None:
    """All of them the same; who has stopped hears nothing more; all hear the end."""
    theatre = Theatre()
    opened, first = await theatre.opened()
    theatre.frame(opened, 1, 1.0, 0.0)
    theatre.tick()
    theatre.processes[0].run()
    second, third = Heard(), Heard()
    theatre.sessions.watch("ada", opened.live_id, second)
    stop = theatre.sessions.watch("ada", opened.live_id, third)
    stop()
    theatre.frame(opened, 2, 1.0, 0.0)
    theatre.tick()
    theatre.processes[0].run()
    closed = theatre.sessions.close("ada", opened.live_id)
    stop()
    assert [first.numbers, second.numbers, third.numbers] == [[1, 2], [2], []]
    assert [first.closed, second.closed, third.closed] == [[closed], [closed], []]
    assert (closed.code, theatre.processes[0].forgotten) == (Code.OK, list(theatre.processes[0].ticks[0].sessions))


async def test_a_session_that_is_closed_in_its_tick_hears_nothing_of_it() -> None:
    """And its neighbour hears its own."""
    theatre = Theatre()
    ada, of_ada = await theatre.opened()
    other, of_other = await theatre.opened()
    for opened in (ada, other):
        theatre.frame(opened, 1, 1.0, 0.0)
    theatre.tick()
    theatre.sessions.close("ada", ada.live_id)
    theatre.processes[0].run()
    assert (of_ada.numbers, of_other.numbers) == ([], [1])


async def test_there_are_only_so_many_sessions() -> None:
    """Of one owner and in all, those that are being opened counted; a place is free again at a session's end."""
    theatre = Theatre(limits=LIMITS)
    opened = [await theatre.opened() for _ in range(LIMITS.sessions_per_owner)]
    with pytest.raises(Refusal, match="3 live sessions of one owner") as refused:
        await theatre.sessions.open("ada", "face")
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    for owner in ("bob", "eve"):
        await theatre.opened(owner)
    with pytest.raises(Refusal, match="5 live sessions is reached"):
        await theatre.sessions.open("eve", "face")
    theatre.sessions.close("ada", opened[0][0].live_id)
    await theatre.opened("eve")


async def test_an_unknown_model_is_refused_with_those_that_there_are() -> None:
    """By name."""
    with pytest.raises(Refusal) as refused:
        await Theatre().sessions.open("ada", "demo")
    assert (refused.value.code, refused.value.field, refused.value.limit) == (
        Code.MODEL_NOT_FOUND,
        "model",
        "face, eye",
    )


async def test_a_row_without_numbers_harms_nobody_else() -> None:
    """It has no result; a second of such frames ends its session."""
    theatre = Theatre()
    ada, of_ada = await theatre.opened()
    other, of_other = await theatre.opened()
    theatre.frame(ada, 0, 1.0, 0.0)
    theatre.tick()
    theatre.processes[0].unfit = set(theatre.processes[0].run().sessions)
    for number in range(1, 31):
        theatre.frame(ada, number, 1.0, 0.0)
        theatre.frame(other, number, 1.0, 0.0)
        theatre.tick()
        theatre.processes[0].run()
    assert (of_ada.numbers, [one.code for one in of_ada.closed]) == ([0], [Code.LIVE_FAILED])
    assert (len(of_other.results), of_other.closed) == (30, [])


async def test_a_source_sends_a_session_s_frames() -> None:
    """Nobody else does; it stops with the session, and its end is the session's."""
    sources = OneSource()
    theatre = Theatre(sources=sources)
    opened, heard = await theatre.opened(source="camera")
    sources.source.push(Frame(1, values=(1.0, 2.0)))
    theatre.tick()
    theatre.processes[0].run()
    with pytest.raises(Refusal, match="without a source"):
        theatre.frame(opened, 2, 1.0, 2.0)
    sources.source.ended("")
    assert (heard.numbers, [one.code for one in heard.closed], sources.source.stopped) == ([1], [Code.OK], True)
    sources.source.push(Frame(2, values=(1.0, 2.0)))  # too late, and nobody minds


async def test_a_source_that_does_not_suit_the_model_ends_its_session() -> None:
    """With what was wrong."""
    sources = OneSource()
    theatre = Theatre(sources=sources)
    _, heard = await theatre.opened(source="camera")
    sources.source.push(Frame(1, values=(1.0,)))
    assert heard.closed[0].code is Code.LIVE_FAILED
    assert "2 numbers" in heard.closed[0].message


async def test_a_server_without_sources_says_so() -> None:
    """By the field."""
    with pytest.raises(Refusal) as refused:
        await Theatre().sessions.open("ada", "face", source="camera")
    assert (refused.value.code, refused.value.field) == (Code.INVALID_PARAMETER, "source")


async def test_the_processes_end_when_nobody_has_wanted_them_for_long() -> None:
    """And begin again with the next session; nothing is left of a theatre that was stopped."""
    theatre = Theatre()
    opened, _ = await theatre.opened()
    theatre.clock.advance(0.25)
    theatre.processes[1].begin()
    theatre.sessions.close("ada", opened.live_id)
    theatre.clock.advance(LIMITS.idle_timeout - 1)
    assert theatre.sessions.numbers()[0].processes == 2
    theatre.clock.advance(1)
    await settle()
    assert (theatre.sessions.numbers()[0].processes, [one.gone for one in theatre.processes]) == (0, [True, True])
    _, heard = await theatre.opened()
    await theatre.sessions.stop()
    assert [one.code for one in heard.closed] == [Code.UNAVAILABLE]
    assert (theatre.clock.getDelayedCalls(), all(one.gone for one in theatre.processes)) == ([], True)
    with pytest.raises(Refusal, match="stopping"):
        await theatre.sessions.open("ada", "face")


async def test_a_stop_refuses_who_waits_for_a_model() -> None:
    """At once, and leaves no timer behind."""
    theatre = Theatre()
    opening = asyncio.ensure_future(theatre.sessions.open("ada", "face"))
    await settle()
    await theatre.sessions.stop()
    with pytest.raises(Refusal, match="stopping"):
        await opening
    assert theatre.clock.getDelayedCalls() == []
