"""Sources as sessions open them: paced by the clock, shared or not, ended, failed, silent, stopped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from config.sources import SourcePlan
from server.errors import Code, Refusal
from server.live.events import Frame, StreamModel
from server.live.sources import sources as sources_module
from server.live.sources.playing import LAST_RESULT, LATE, SILENCE
from server.live.sources.reading import Shape, SourceFailed, SourceFrame, Timed
from server.live.sources.sources import Sources
from server.pools import InlinePool, ThreadedPool
from tests.integration.eventually import until
from tests.server.fakes import settle
from tests.server.live.sources.made import PICTURES, RED, VALUES, Listener, picture, recording

MODEL = StreamModel(name="face", inputs=VALUES.names, outputs=("joy",), tick_hz=30.0)
CAMERA = SourcePlan(name="desk", kind="camera", place="0", retry_seconds=3.0)


class Scripted:
    """A reader that does as it is told; of each list, what comes next: a frame, an error, or None for the end."""

    def __init__(self, *reads: Timed | SourceFailed | None, opens: tuple[SourceFailed | None, ...] = ()) -> None:
        self.reads = list(reads)
        self.opens = list(opens)
        self.said: list[str] = []

    def open(self) -> None:
        self.said.append("open")
        error = self.opens.pop(0) if self.opens else None
        if error is not None:
            raise error

    def read(self) -> Timed | None:
        told = self.reads.pop(0) if self.reads else SourceFailed("unplugged")
        if isinstance(told, SourceFailed):
            raise told
        return told

    def close(self) -> None:
        self.said.append("close")


def _frame(number: float, due: float | None = None) -> Timed:
    return Timed(SourceFrame(values=(number,)), due)


def _sources(
    clock: Clock, plan: SourcePlan, monkeypatch: pytest.MonkeyPatch, *readers: Any, pool: Any = None
) -> Sources:
    """With these readers for it, one after the other."""
    left = list(readers)
    opener: Callable[..., Any] = lambda plan, shape, clock: left.pop(0)  # noqa: E731
    monkeypatch.setitem(sources_module.READERS, plan.kind, opener)
    return Sources({plan.name: plan}, clock, pool or InlinePool())


async def _pass(clock: Clock, seconds: float, step: float = 0.25) -> None:
    """So long goes by."""
    await settle()
    for _ in range(round(seconds / step)):
        clock.advance(step)
        await settle()


async def test_a_recording_reaches_a_session(tmp_path: Path) -> None:
    """Each frame when it is due, captured now; at the end, after the last one's result, the session is told."""
    path = recording(
        tmp_path / "take.jsonl",
        {"captured_us": 1_000_000, "values": [1, 2]}, {"captured_us": 1_500_000, "values": [3, 4]},
    )  # fmt: skip
    clock, listener = Clock(), Listener()
    clock.advance(1_700_000_000)
    sources = Sources({"take": SourcePlan(name="take", kind="recording", place=str(path))}, clock, InlinePool())
    await sources.open("take", "ada", VALUES, listener)
    await settle()
    assert [frame.captured_us for frame in listener.frames] == [1_700_000_000_000_000]
    await _pass(clock, 0.5)
    assert [frame.values for frame in listener.frames] == [(1, 2), (3, 4)]
    assert [frame.captured_us for frame in listener.frames] == [1_700_000_000_000_000, 1_700_000_000_500_000]
    assert not listener.ends
    await _pass(clock, LAST_RESULT)
    assert listener.ends == [(Code.OK, "the source take has ended")]
    assert clock.getDelayedCalls() == []


async def test_each_session_has_a_folder_from_its_beginning(tmp_path: Path) -> None:
    """And stops for itself."""
    (tmp_path / "a.png").write_bytes(picture(RED))
    plan = SourcePlan(name="faces", kind="folder", place=str(tmp_path), rate=4, repeat=True)
    clock, first, second = Clock(), Listener(), Listener()
    sources = Sources({"faces": plan}, clock, InlinePool())
    stop = await sources.open("faces", "ada", PICTURES, first)
    await _pass(clock, 1)
    await sources.open("faces", "bea", PICTURES, second)
    await _pass(clock, 1)
    assert (len(first.frames), len(second.frames)) == (9, 5)
    stop()
    stop()
    await _pass(clock, 1)
    assert (len(first.frames), len(second.frames)) == (9, 9)
    await sources.close()
    await _pass(clock, 1)
    assert len(second.frames) == 9
    assert first.ends == second.ends == []
    assert clock.getDelayedCalls() == []


async def test_a_camera_is_read_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames go to whoever listens; with the last of them it is closed, and then it may be opened anew."""
    clock, first, second = Clock(), Listener(), Listener()
    reader, again = Scripted(*(_frame(n, due=n) for n in range(9))), Scripted(_frame(77), None)
    sources = _sources(clock, CAMERA, monkeypatch, reader, again)
    stops = [await sources.open("desk", "ada", PICTURES, listener) for listener in (first, second)]
    await _pass(clock, 1)
    assert first.frames == second.frames != []
    assert reader.said == ["open"]
    with pytest.raises(Refusal, match="in use for a model of other pictures, 16 × 12"):
        await sources.open("desk", "ada", Shape(width=8, height=8), Listener())
    stops[0]()
    await _pass(clock, 1)
    assert len(second.frames) > len(first.frames)
    stops[1]()
    await _pass(clock, 1)
    assert reader.said == ["open", "close"]
    third = Listener()
    await sources.open("desk", "ada", PICTURES, third)
    await _pass(clock, 1)
    assert [frame.values for frame in third.frames] == [(77,)]


async def test_a_camera_that_comes_back_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed and opened again until it is there; the session sees a gap and nothing else."""
    clock, listener = Clock(), Listener()
    reader = Scripted(_frame(1), SourceFailed("unplugged"), _frame(2), None, opens=(None, SourceFailed("busy"), None))
    sources = _sources(clock, CAMERA, monkeypatch, reader)
    await sources.open("desk", "ada", PICTURES, listener)
    await _pass(clock, 2)
    assert [frame.values for frame in listener.frames] == [(1,), (2,)]
    assert listener.ends == [(Code.OK, "the source desk has ended")]
    assert reader.said == ["open", "close", "open", "close", "open", "close"]


async def test_a_camera_that_stays_away_ends_its_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its plan's seconds, with UNAVAILABLE and why, once; it may be opened when it is back."""
    clock, listener = Clock(), Listener()
    reader = Scripted(_frame(1), opens=(None, *[SourceFailed("busy")] * 99))
    sources = _sources(clock, CAMERA, monkeypatch, reader, Scripted(_frame(5), None))
    await sources.open("desk", "ada", PICTURES, listener)
    await _pass(clock, 2.75)
    assert not listener.ends
    await _pass(clock, 1)
    assert listener.ends == [(Code.UNAVAILABLE, "the source desk failed: busy")]
    later = Listener()
    await sources.open("desk", "ada", PICTURES, later)
    await settle()
    assert len(later.frames) == 1


async def test_a_recording_with_a_bad_line_ends_its_session(tmp_path: Path) -> None:
    """With UNAVAILABLE, the line's number, and nothing of the path."""
    path = recording(tmp_path / "take.jsonl", {"captured_us": 1, "values": [1, 2]}, "{")
    clock, listener = Clock(), Listener()
    sources = Sources({"take": SourcePlan(name="take", kind="recording", place=str(path))}, clock, InlinePool())
    await sources.open("take", "ada", VALUES, listener)
    await settle()
    assert listener.ends == [(Code.UNAVAILABLE, "the source take failed: line 3: no JSON")]


async def test_a_driver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its session is told; the camera is closed when the thread comes back, and not before, nor opened meanwhile."""
    clock, listener = Clock(), Listener()
    hangs, begun = threading.Event(), threading.Event()

    class Hanging(Scripted):
        def read(self) -> Timed | None:
            begun.set()
            assert hangs.wait(20)
            return _frame(1)

    pool = ThreadedPool("live-sources", 3)
    pool.start()
    reader = Hanging()
    sources = _sources(clock, CAMERA, monkeypatch, reader, Scripted(_frame(1), None), pool=pool)
    try:
        await sources.open("desk", "ada", PICTURES, listener)
        assert await asyncio.to_thread(begun.wait, 20)
        clock.advance(SILENCE)
        await settle()
        assert listener.ends == [(Code.UNAVAILABLE, "the source desk failed: it gave no frame for 10 s")]
        with pytest.raises(Refusal, match="being closed") as refused:
            await sources.open("desk", "ada", PICTURES, Listener())
        assert refused.value.retry_after_seconds > 0
        assert reader.said == ["open"]
        hangs.set()
        await until(lambda: reader.said[-1] == "close")
    finally:
        hangs.set()
        pool.stop()


async def test_a_source_that_is_late_goes_on_from_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was missed in a long standstill is not made up for in a burst."""
    clock, listener = Clock(), Listener()
    plan = SourcePlan(name="take", kind="recording", place="-")
    reader = Scripted(*(_frame(n, due=n / 4) for n in range(20)))
    sources = _sources(clock, plan, monkeypatch, reader)
    await sources.open("take", "ada", VALUES, listener)
    await settle()
    clock.advance(LATE + 2)
    await settle()
    before = len(listener.frames)
    assert before <= 4
    await _pass(clock, 1)
    assert len(listener.frames) - before == 4


@pytest.mark.parametrize("name", ["nobody", "", "desk"])
async def test_a_source_that_is_not_yours_is_none(name: str) -> None:
    """Whether it is there or not cannot be told from the refusal."""
    plan = SourcePlan(name="desk", kind="camera", place="0", owners=frozenset({"ada"}))
    sources = Sources({"desk": plan}, Clock(), InlinePool())
    with pytest.raises(Refusal, match="source must be one that the operator has configured for you") as refused:
        await sources.open(name, "eve", PICTURES, Listener())
    assert (refused.value.code, refused.value.field) == (Code.INVALID_PARAMETER, "source")


async def test_pictures_are_no_values(tmp_path: Path) -> None:
    """A camera or a folder for a model that takes values is refused."""
    plan = SourcePlan(name="faces", kind="folder", place=str(tmp_path), rate=1)
    with pytest.raises(Refusal, match="the model takes values"):
        await Sources({"faces": plan}, Clock(), InlinePool()).open("faces", "ada", VALUES, Listener())


async def test_a_source_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """UNAVAILABLE, with the reason and without the path; a camera may be tried again at once."""
    film = SourcePlan(name="film", kind="camera", place=str(tmp_path / "none.avi"))
    sources = Sources({"film": film}, Clock(), InlinePool())
    for _ in range(2):
        with pytest.raises(
            Refusal, match="the source film cannot be opened now: the camera cannot be opened"
        ) as refused:
            await sources.open("film", "ada", PICTURES, Listener())
        assert refused.value.code is Code.UNAVAILABLE
        assert str(tmp_path) not in str(refused.value)


async def test_a_reader_that_errs_ends_its_session(monkeypatch: pytest.MonkeyPatch, logs: list[Any]) -> None:
    """With INTERNAL_ERROR; the log has the rest."""

    class Erring(Scripted):
        def read(self) -> Timed | None:
            raise ZeroDivisionError

    clock, listener = Clock(), Listener()
    reader = Erring()
    await _sources(clock, CAMERA, monkeypatch, reader).open("desk", "ada", PICTURES, listener)
    await settle()
    assert [code for code, _ in listener.ends] == [Code.INTERNAL_ERROR]
    assert reader.said == ["open", "close"]
    assert "source.broken" in [line["event"] for line in logs]


class Pushed:
    """What a session is told by its source."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.ends: list[str] = []


async def test_a_session_starts_and_stops_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames are numbered from 1; once it is stopped nothing more is heard, not even its end."""
    clock, pushed = Clock(), Pushed()
    plan = SourcePlan(name="take", kind="recording", place="-", owners=frozenset({"ada"}))
    sources = _sources(clock, plan, monkeypatch, Scripted(*(_frame(n, due=n) for n in (5, 6, 7)), None))
    source = sources.find("take", MODEL, "ada")
    source.start(MODEL, pushed.frames.append, pushed.ends.append)
    await _pass(clock, 1)
    assert [(frame.number, frame.values) for frame in pushed.frames] == [(1, (5,)), (2, (6,))]
    assert pushed.frames[1].captured_us == int(clock.seconds() * 1e6)
    source.stop()
    await _pass(clock, 3)
    assert len(pushed.frames) == 2
    assert pushed.ends == []


async def test_a_session_hears_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "" where the source is over, else why; also where it cannot even be opened."""
    for reader, end in (
        (Scripted(None), ""),
        (Scripted(_frame(1)), "the source take failed: unplugged"),
        (Scripted(opens=(SourceFailed("gone"),)), "the source take cannot be opened now: gone"),
    ):
        clock, pushed = Clock(), Pushed()
        plan = SourcePlan(name="take", kind="recording", place="-")
        sources = _sources(clock, plan, monkeypatch, reader)
        sources.find("take", MODEL, "bea").start(MODEL, pushed.frames.append, pushed.ends.append)
        await _pass(clock, 2)
        assert pushed.ends == [end]


async def test_a_source_that_is_stopped_while_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is closed when that is done, and nobody hears of it."""
    clock, pushed, held = Clock(), Pushed(), asyncio.Event()

    class Slow(InlinePool):
        async def run(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
            await held.wait()
            return work()

    reader = Scripted(_frame(1), _frame(2))
    plan = SourcePlan(name="take", kind="recording", place="-")
    source = _sources(clock, plan, monkeypatch, reader, pool=Slow()).find("take", MODEL, "bea")
    source.start(MODEL, pushed.frames.append, pushed.ends.append)
    await settle()
    source.stop()
    held.set()
    await settle()
    assert reader.said == ["open", "close"]
    assert pushed.frames == []
    assert pushed.ends == []


async def test_finding_is_refused_at_once() -> None:
    """To another owner, and for a model that takes values where there are pictures."""
    plan = SourcePlan(name="desk", kind="camera", place="0", owners=frozenset({"ada"}))
    sources = Sources({"desk": plan}, Clock(), InlinePool())
    with pytest.raises(Refusal, match="configured for you"):
        sources.find("desk", MODEL, "eve")
    with pytest.raises(Refusal, match="the model takes values"):
        sources.find("desk", MODEL, "ada")
