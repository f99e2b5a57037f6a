"""Faults happen to the processes that are named, on time; what was paused goes on whatever happens to the run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from bot.asked import NotUnderstood, commands_of, faults_of, pids_of, scenario
from bot.faults import CannotFault, Saboteur, check
from bot.profile import Closed, Poisson
from bot.sampling import Processes
from tests.bot.asked import plain
from tests.integration.eventually import until

SLEEP = "sleep 600"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to be harmed."""
    process = subprocess.Popen(SLEEP.split())
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def parent() -> Iterator[psutil.Process]:
    """A process with a child."""
    process = subprocess.Popen(["sh", "-c", f"{SLEEP} & echo begun; wait"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    (child,) = psutil.Process(process.pid).children()
    yield psutil.Process(process.pid)
    child.kill()
    process.communicate()


def _saboteur(reactor: Any, processes: Processes, *words: str, **restarts: str) -> Saboteur:
    began = time.monotonic()
    return Saboteur(faults_of(words), processes, restarts, reactor, lambda: time.monotonic() - began)


async def test_a_pause_ends(reactor: Any, sleeper: subprocess.Popen[bytes]) -> None:
    """It stands still for as long as was said, and then goes on."""
    saboteur = _saboteur(reactor, Processes({"it": sleeper.pid}), "pause it at 0.1 for 0.4")
    run = asyncio.ensure_future(saboteur.run(0.0))
    await until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_STOPPED)
    await run
    await until(lambda: psutil.Process(sleeper.pid).status() != psutil.STATUS_STOPPED)
    (done,) = saboteur.done
    assert done.until is not None
    assert done.until - done.at >= 0.4


async def test_a_pause_is_for_the_children_too(reactor: Any, parent: psutil.Process) -> None:
    """A server of several processes stands still as a whole, and goes on as a whole."""
    (child,) = parent.children()
    saboteur = _saboteur(reactor, Processes({"it": parent.pid}), "pause it at 0 for 0.4")
    run = asyncio.ensure_future(saboteur.run(0.0))
    await until(lambda: child.status() == psutil.STATUS_STOPPED)
    await run
    await until(lambda: child.status() != psutil.STATUS_STOPPED)


async def test_a_pause_of_nobody_is_told(reactor: Any, sleeper: subprocess.Popen[bytes]) -> None:
    """A process that has ended before its fault is on the record as gone."""
    saboteur = _saboteur(reactor, Processes({"it": sleeper.pid}), "pause it at 0 for 0.1")
    sleeper.kill()
    sleeper.wait()
    await saboteur.run(0.0)
    assert saboteur.done[0].note == "it was gone already"


async def test_a_cancelled_run_leaves_nothing_paused(reactor: Any, sleeper: subprocess.Popen[bytes]) -> None:
    """Ctrl-C in the middle of a pause ends it."""
    saboteur = _saboteur(reactor, Processes({"it": sleeper.pid}), "pause it at 0 for 60")
    run = asyncio.ensure_future(saboteur.run(0.0))
    await until(lambda: bool(saboteur.done))
    run.cancel()
    await asyncio.wait([run])
    await until(lambda: psutil.Process(sleeper.pid).status() != psutil.STATUS_STOPPED)


async def test_what_is_killed_is_started_again(reactor: Any, sleeper: subprocess.Popen[bytes]) -> None:
    """By its command, and later faults and figures are of the new process."""
    processes = Processes({"it": sleeper.pid})
    saboteur = _saboteur(reactor, processes, "kill it at 0 for 0.1", it=SLEEP)
    await saboteur.run(0.0)
    assert sleeper.wait() == -9
    assert processes.pids["it"] != sleeper.pid
    await until(lambda: psutil.Process(processes.pids["it"]).cmdline() == SLEEP.split())
    assert processes.measure()["it threads"] == 1
    started = psutil.Process(processes.pids["it"])
    started.kill()
    started.wait()


async def test_what_cannot_be_started_again_is_told(reactor: Any, sleeper: subprocess.Popen[bytes]) -> None:
    """On the record of the fault."""
    saboteur = _saboteur(reactor, Processes({"it": sleeper.pid}), "kill it at 0 for 0.1", it="/no/such/program now")
    await saboteur.run(0.0)
    assert saboteur.done[0].note == "it could not be started again: /no/such/program: No such file or directory"


def test_processes_are_measured() -> None:
    """Bytes, threads and descriptors of the process and its children; nothing of what is gone."""
    seen = Processes({"me": os.getpid(), "nobody": 2**22 - 1}).measure()
    assert set(seen) == {"me memory", "me threads", "me descriptors"}
    assert seen["me memory"] > 10e6


def test_a_fault_of_nobody_is_refused(sleeper: subprocess.Popen[bytes]) -> None:
    """Before the run begins."""
    faults = faults_of(["kill database at 3"])
    with pytest.raises(CannotFault, match=r"--pid database=PID \(given: it\)"):
        check(faults, Processes({"it": sleeper.pid}))
    check(faults_of(["kill it at 3"]), Processes({"it": sleeper.pid}))


@pytest.mark.parametrize("word", ["kill", "kill it", "pause it at x", "explode it at 3", "pause it at 3 for 0"])
def test_faults_have_a_form(word: str) -> None:
    """Else they are told with it."""
    with pytest.raises(NotUnderstood, match="--fault"):
        faults_of([word])


def test_words_of_the_command_line() -> None:
    """Names with values, and what the scenario becomes by them."""
    assert pids_of(["a=1", "b=22"]) == {"a": 1, "b": 22}
    assert commands_of(["a=make run x=1"]) == {"a": "make run x=1"}
    for word in ("a", "=1", "a=x"):
        with pytest.raises(NotUnderstood):
            pids_of([word])
    with pytest.raises(NotUnderstood):
        commands_of(["a="])
    changed = scenario(plain(), users=7, rate=None, p99=2.5, faults=())
    assert isinstance(changed.arrivals, Closed)
    assert (changed.arrivals.users, changed.arrivals.think_seconds) == (7, (0.0, 0.05))
    assert changed.objectives.p99_result_seconds == 2.5
    opened = scenario(plain(), users=None, rate=3.0, p99=None, faults=())
    assert isinstance(opened.arrivals, Poisson)
    assert (opened.arrivals.rate, opened.arrivals.connections) == (3.0, 4)
