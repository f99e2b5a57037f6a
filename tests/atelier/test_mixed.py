"""`atelier demo --mixed`: what is planned, how it is shown, and the whole of it in small."""

from __future__ import annotations

import asyncio
import io
import os
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from atelier.board import Board, Line, State
from atelier.mixed import CANCEL_EVERY, HEADINGS, JOBS, OWNERS, PRIORITIES, plan
from proto import atelier_pb2 as pb
from server.events import Phase, Progress
from tests.atelier.command import run

MODEL = pb.Model(
    name="demo", default_width=128, default_height=128, size_multiple=8, min_size=64,
    solvers=["dpmpp_2m", "euler"], adapters=["chalk", "ink"],
)  # fmt: skip


def test_the_mix_has_everything() -> None:
    """Thirty jobs, three priorities, five cancels, two owners, and all that the card lists."""
    jobs = plan(MODEL, JOBS)
    assert len(jobs) == 30
    assert {job.order.fields["priority"] for job in jobs} == set(PRIORITIES)
    assert sum(job.order.cancel_at is not None for job in jobs) == JOBS // CANCEL_EVERY == 5
    assert {job.owner for job in jobs} == set(OWNERS)
    assert {job.order.fields["solver"] for job in jobs} == set(MODEL.solvers)
    assert {tuple(job.order.fields["adapters"]) for job in jobs} >= {(), ("chalk",), ("ink",), ("chalk", "ink")}
    for field, at_least in (("width", 2), ("height", 2), ("num_inference_steps", 4), ("guidance_scale", 4)):
        assert len({job.order.fields[field] for job in jobs}) >= at_least  # type: ignore[literal-required]
    for job in jobs:
        width, height = job.order.fields["width"] or 0, job.order.fields["height"] or 0
        assert width % 8 == height % 8 == 0


def test_a_model_without_styles_has_a_mix_too() -> None:
    """The card may list none."""
    bare = pb.Model(default_width=64, default_height=64, size_multiple=8, min_size=64, solvers=["dpmpp_2m"])
    assert all(job.order.fields["adapters"] == [] for job in plan(bare, JOBS))
    assert all(job.order.fields["width"] == 64 for job in plan(bare, JOBS))


def progress(phase: Phase, step: int) -> Progress:
    """Of a job of 20 steps."""
    return Progress(number=1, job_id="j", phase=phase, step=step, total_steps=20, fraction=step / 20, eta_seconds=1.0)


def play(board: Board) -> None:
    """Two jobs: one is parked, goes on and ends; the other is cancelled."""
    part = board.part([0, 1])
    rows = [part.add("a star"), part.add("a moon")]
    part.show(rows[0], progress(Phase.DENOISING, 1))
    part.show(rows[0], progress(Phase.DENOISING, 2))
    part.show(rows[0], progress(Phase.PARKED, 2))
    part.show(rows[0], progress(Phase.PARKED, 2))
    part.show(rows[0], progress(Phase.DENOISING, 3))
    part.finish(rows[1], "canceled")
    part.finish(rows[0], "succeeded")


def test_lines_tell_what_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """One for each change that matters, on stderr."""
    board = Board(HEADINGS[:1], [Line(("ada",)), Line(("bob",))])
    play(board)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "ada: joins at step 1 of 20",
        "ada: is parked at step 2 of 20",
        "ada: goes on at step 3 of 20",
        "bob: is cancelled",
        "ada: is done at step 3 of 20",
    ]
    assert board.lines[0].parked == 1
    assert board.most_painted == 1


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """With a line a job and the counts above; no plain lines besides."""
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    board = Board(HEADINGS[:1], [Line(("ada [b]",)), Line(("bob",))])
    board.live = Live(board.table(), console=console, auto_refresh=False)
    play(board)
    board.move(1, State.PARKED, 5, 20)
    console.print(board.table())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 parked, 1 done" in shown
    assert "ada [b]" in shown
    assert "5/20" in shown
    assert capsys.readouterr().err == ""


async def test_a_wave_waits_for_steps() -> None:
    """Until so many have been made, or nobody is left to make them."""
    board = Board(HEADINGS[:1], [Line(("ada",)), Line(("bob",))])
    await board.until(0)
    part = board.part([0, 1])
    for _ in range(2):
        part.add("a star")
    later, never = asyncio.ensure_future(board.until(5)), asyncio.ensure_future(board.until(999))
    for _ in range(3):
        await asyncio.sleep(0)
    part.show(0, progress(Phase.DENOISING, 3))
    await asyncio.sleep(0)
    assert not later.done()
    part.show(1, progress(Phase.DENOISING, 2))
    await later
    part.finish(0, "succeeded")
    await asyncio.sleep(0)
    assert not never.done()
    part.finish(1, "failed")
    await never


@pytest.mark.slow
async def test_the_mixed_demo_in_small(tmp_path: Path) -> None:
    """Six jobs, one of which is cancelled; pictures of the others, a summary, and nothing left running."""
    ended = await run("demo", "--mixed", "--count=6", f"--out={tmp_path}")
    assert ended.status == 0, ended.err
    assert "6 jobs in" in ended.out
    assert sum(name.endswith(".png") for name in os.listdir(tmp_path)) == 5 + 1
    told = Counter(line.rpartition(": ")[2].partition(" at ")[0] for line in ended.err.splitlines())
    assert (told["is done"], told["is cancelled"]) == (5, 1)
    assert told["joins"] >= 5
    assert "Traceback" not in ended.err
