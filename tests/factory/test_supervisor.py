"""Processes that are kept running: started, started again, replaced, ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from config.processes import ProcessPlan
from factory.supervisor import LIVED_WELL, LONGEST_PAUSE, START_TIME, NotStarted, Supervisor
from tests.conftest import LOOP
from tests.server.fakes import settle

PATIENCE, PAUSE = 30.0, 1.0


class FakeLife:
    """A `Life` that does what a test says."""

    def __init__(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.up: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.asked: list[str] = []
        self.obeys = True

    def end(self) -> None:
        """As it was told to."""
        self.asked.append("end")
        if self.obeys:
            self.dies("ended by itself")

    def kill(self) -> None:
        """At once."""
        self.asked.append("kill")
        self.dies("was ended by SIGKILL")

    def dies(self, how: str) -> None:
        """Of whatever."""
        if not self.ended.done():
            self.ended.set_result(how)


class Scene:
    """A supervisor of the processes "a" and "b" on a clock; `lives` are all there ever were."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.lives: list[FakeLife] = []
        self.fail: OSError | None = None
        plans = [ProcessPlan("a"), ProcessPlan("b")]
        self.supervisor = Supervisor(plans, self.launch, self.clock, patience=PATIENCE, pause=PAUSE)

    def launch(self, plan: ProcessPlan, name: str) -> FakeLife:
        """Note it."""
        assert name.startswith(plan.name)
        if self.fail is not None:
            raise self.fail
        self.lives.append(FakeLife(name))
        return self.lives[-1]

    @property
    def names(self) -> list[str]:
        """Of all there ever were, in order."""
        return [life.name for life in self.lives]

    async def comes_up(self, life: FakeLife) -> None:
        """It says that it is there."""
        life.up.set_result(None)
        await settle()

    async def begun(self) -> None:
        """Both are up."""
        starting = asyncio.ensure_future(self.supervisor.start())
        await settle()
        await self.comes_up(self.lives[0])
        await self.comes_up(self.lives[1])
        await starting

    async def pass_time(self, seconds: float) -> None:
        """Advance the clock, and let everyone act on it."""
        self.clock.advance(seconds)
        await settle()


@pytest.fixture
def scene() -> Iterator[Scene]:
    """One, ended afterwards."""
    made = Scene()
    yield made
    for life in made.lives:
        if not life.ended.done():
            life.obeys = True
    LOOP.run_until_complete(made.supervisor.stop())


async def test_the_first_comes_up_before_the_others_begin(scene: Scene) -> None:
    """It brings the database up to date; `start` returns when all are up."""
    starting = asyncio.ensure_future(scene.supervisor.start())
    await settle()
    assert scene.names == ["aa"]
    await scene.comes_up(scene.lives[0])
    assert (scene.names, scene.supervisor.up) == (["aa", "ba"], ["aa"])
    assert not starting.done()
    await scene.comes_up(scene.lives[1])
    await starting
    assert scene.supervisor.up == ["aa", "ba"]


@pytest.mark.parametrize("which", [0, 1])
async def test_one_that_dies_at_the_start_ends_all_with_its_reason(scene: Scene, which: int) -> None:
    """A setting that does not fit does not fit at the second try either."""
    starting = asyncio.ensure_future(scene.supervisor.start())
    await settle()
    if which:
        await scene.comes_up(scene.lives[0])
    scene.lives[which].dies("ended with status 2")
    with pytest.raises(NotStarted, match="ended with status 2"):
        await starting
    assert all(life.ended.done() for life in scene.lives)
    assert len(scene.lives) == which + 1, "nobody was started again"


async def test_one_that_never_comes_up_is_killed(scene: Scene) -> None:
    """And named."""
    starting = asyncio.ensure_future(scene.supervisor.start())
    await settle()
    await scene.pass_time(START_TIME)
    with pytest.raises(NotStarted, match="aa was not up after 120 s"):
        await starting
    assert "kill" in scene.lives[0].asked


async def test_a_program_that_cannot_be_started_is_told(scene: Scene) -> None:
    """By the system's own words."""
    scene.fail = OSError(12, "Cannot allocate memory")
    with pytest.raises(NotStarted, match="aa: Cannot allocate memory"):
        await scene.supervisor.start()


async def test_who_dies_is_started_at_once_under_the_same_name(scene: Scene) -> None:
    """So that it takes up what it was doing."""
    await scene.begun()
    scene.lives[1].dies("was ended by SIGKILL")
    await settle()
    assert scene.names == ["aa", "ba", "ba"]
    assert scene.supervisor.up == ["aa"]
    await scene.comes_up(scene.lives[2])
    assert scene.supervisor.up == ["aa", "ba"]
    assert scene.supervisor.restarts == 1


async def test_who_dies_again_and_again_waits_longer_each_time(scene: Scene) -> None:
    """1, 2, 4 … 30 seconds; one that has lived for a minute is trusted again."""
    await scene.begun()
    life = scene.lives[0]
    pauses = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE, LONGEST_PAUSE]
    for pause in pauses:
        before = len(scene.lives)
        life.dies("ended with status 1")
        await settle()
        if pause:
            await scene.pass_time(pause - 0.01)
            assert len(scene.lives) == before
            await scene.pass_time(0.02)
        assert len(scene.lives) == before + 1
        life = scene.lives[-1]
        await scene.comes_up(life)
    await scene.pass_time(LIVED_WELL + 1)
    before = len(scene.lives)
    life.dies("ended with status 1")
    await settle()
    assert len(scene.lives) == before + 1


async def test_a_life_that_ends_before_it_is_up_counts_as_one_that_ended_soon(scene: Scene) -> None:
    """There is no busy loop of processes that cannot start."""
    await scene.begun()
    scene.lives[0].dies("ended with status 1")
    await settle()
    scene.lives[2].dies("ended with status 1")
    await settle()
    assert len(scene.lives) == 3
    await scene.pass_time(PAUSE)
    assert len(scene.lives) == 4


async def test_a_roll_replaces_one_after_the_other(scene: Scene) -> None:
    """The new one is up, under another name, before the old one is asked to end; then it is the next one's turn."""
    await scene.begun()
    scene.lives[0].obeys = False
    scene.supervisor.roll()
    await settle()
    assert scene.names == ["aa", "ba", "ab"]
    assert scene.lives[0].asked == []
    await scene.comes_up(scene.lives[2])
    assert scene.lives[0].asked == ["end"]
    assert len(scene.lives) == 3, "the old one has not ended yet"
    scene.lives[0].dies("ended by itself")
    await settle()
    assert scene.names == ["aa", "ba", "ab", "bb"]
    await scene.comes_up(scene.lives[3])
    assert scene.supervisor.up == ["ab", "bb"]
    assert scene.supervisor.restarts == 0
    scene.supervisor.roll()
    await settle()
    assert scene.names[-1] == "aa", "the letters take turns"


async def test_a_new_one_that_does_not_start_leaves_the_old_ones(scene: Scene) -> None:
    """And the roll ends there: the rest is as broken."""
    await scene.begun()
    scene.supervisor.roll()
    await settle()
    scene.lives[2].dies("ended with status 2")
    await settle()
    assert scene.supervisor.up == ["aa", "ba"]
    assert [life.asked for life in scene.lives[:2]] == [[], []]
    assert len(scene.lives) == 3
    scene.supervisor.roll()
    await settle()
    assert scene.names[-1] == "ab", "it can be tried again"


async def test_an_old_one_that_dies_while_it_is_replaced_is_not_missed(scene: Scene) -> None:
    """Its successor is on the way, and there is one of it."""
    await scene.begun()
    scene.supervisor.roll()
    await settle()
    scene.lives[0].dies("was ended by SIGSEGV")
    await settle()
    assert scene.names == ["aa", "ba", "ab"]
    await scene.comes_up(scene.lives[2])
    assert scene.names == ["aa", "ba", "ab", "bb"]


async def test_an_old_one_that_dies_while_its_successor_does_not_start_is_started_again(scene: Scene) -> None:
    """Nobody's place stays empty."""
    await scene.begun()
    scene.supervisor.roll()
    await settle()
    scene.lives[0].dies("was ended by SIGSEGV")
    scene.lives[2].dies("ended with status 2")
    await settle()
    assert scene.names == ["aa", "ba", "ab", "aa"]


async def test_a_stop_asks_all_and_kills_who_does_not_heed(scene: Scene) -> None:
    """After the time that they have; nobody is started again."""
    await scene.begun()
    scene.lives[1].obeys = False
    stopping = asyncio.ensure_future(scene.supervisor.stop())
    await settle()
    assert [life.asked for life in scene.lives] == [["end"], ["end"]]
    assert not stopping.done()
    await scene.pass_time(PATIENCE)
    await stopping
    assert scene.lives[1].asked == ["end", "kill"]
    assert len(scene.lives) == 2


async def test_a_stop_in_the_middle_of_a_start_a_pause_and_a_roll_leaves_nobody(scene: Scene) -> None:
    """Whatever is under way."""
    await scene.begun()
    scene.supervisor.roll()
    await settle()
    scene.lives[1].dies("ended with status 1")
    await settle()
    scene.lives[3].dies("ended with status 1")
    await settle()
    await scene.supervisor.stop()
    await settle()
    assert all(life.ended.done() for life in scene.lives)
    await scene.pass_time(LONGEST_PAUSE * 2)
    assert len(scene.lives) == 4
