"""`atelier demo --mixed`: jobs of all kinds at once, to see them join, be parked, be cancelled and leave.

Two owners, three priorities, sizes, steps, guidance, solvers and styles as the model's card lists them. They come in three
waves: the first is there from the beginning, the second joins while it is painted, the third is urgent.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from atelier.board import Board, Line, State
from atelier.child import ChildServer
from atelier.contact_sheet import write_contact_sheet
from atelier.demo import PROMPTS
from atelier.display import shortened
from atelier.painting import Order, Painting, Report, tell_failures
from atelier.running import connected, say
from bot.client import Client
from bot.orders import SubmitFields
from proto import atelier_pb2 as pb

JOBS = 30
CANCEL_EVERY = 6  # so five of thirty
PLACES = 6  # in a batch of the demo's server: fewer than jobs, so that there is something to schedule
PRIORITIES = (-10, 0, 10)  # of the three waves: low, ordinary, urgent
WAVES = (0.5, 0.75, 1.0)  # shares of the jobs that have come with each wave
SENT_AFTER = (0.0, 0.2, 0.45)  # of the first wave's steps: when each wave is sent
OWNERS = ("studio", "studio", "visitor")  # in turn: one has twice the jobs of the other
SHAPES = ((0, 0), (0, 0), (-1, 0), (0, 1))  # in turn, in quarters of the model's width and height
STEPS = (12, 20, 16, 28, 8)
BLEND_EVERY = 5  # two styles at once
GUIDANCE = (2.5, 4.0, 1.0, 6.0)


@dataclass(frozen=True, slots=True)
class Job:
    """One of the mix."""

    owner: str
    wave: int
    order: Order
    columns: tuple[str, ...]


HEADINGS = ("owner", "priority", "prompt", "size", "guidance", "solver", "style")


def plan(model: pb.Model, count: int) -> list[Job]:
    """The jobs in the order in which they come; always the same for the same model."""
    return [_job(model, number, count) for number in range(count)]


def _job(model: pb.Model, number: int, count: int) -> Job:
    _, prompt, seed = PROMPTS[number % len(PROMPTS)]
    wave = next(wave for wave, share in enumerate(WAVES) if number < share * count)
    wider, taller = SHAPES[number % len(SHAPES)]
    width, height = _side(model, model.default_width, wider), _side(model, model.default_height, taller)
    styles = ["", *model.adapters]
    worn = [style for style in (styles[number % len(styles)],) if style]
    if worn and len(styles) > 2 and number % BLEND_EVERY == BLEND_EVERY - 1:
        worn.append(next(style for style in model.adapters if style not in worn))
    solver = model.solvers[number % len(model.solvers)]
    guidance, steps = GUIDANCE[number % len(GUIDANCE)], STEPS[number % len(STEPS)]
    fields = SubmitFields(
        width=width, height=height, num_inference_steps=steps, guidance_scale=guidance, solver=solver, seed=seed,
        priority=PRIORITIES[wave], adapters=worn,
    )  # fmt: skip
    cancel_at = None if number % CANCEL_EVERY != CANCEL_EVERY - 1 else number // CANCEL_EVERY % 4
    columns = (
        OWNERS[number % len(OWNERS)], str(PRIORITIES[wave]), shortened(prompt.removeprefix('a '), 18), f"{width}x{height}",
        f"{guidance:g}", solver, shortened("+".join(worn), 14),
    )  # fmt: skip
    return Job(columns[0], wave, Order(prompt, fields, cancel_at), columns)


def _side(model: pb.Model, pixels: int, quarters: int) -> int:
    step = model.size_multiple
    return max(model.min_size, (pixels + quarters * pixels // 4) // step * step)


async def mixed(reactor: Any, out: Path, count: int) -> int:
    """The exit status: 0 when every job was painted or, where that was the plan, cancelled. Raises ServerDied."""
    tokens = {owner: secrets.token_hex(16) for owner in dict.fromkeys(OWNERS)}
    settings = {
        "ATELIER_MAX_BATCH": str(PLACES),
        "ATELIER_TOKENS": ",".join(f"{owner}:{token}" for owner, token in tokens.items()),
    }
    with tempfile.TemporaryDirectory(prefix="atelier-demo-") as folder:
        say(f"starting a server of its own, which paints {PLACES} pictures of a size at a time …")
        async with ChildServer(Path(folder), settings) as server:
            async with (
                connected(reactor, server.address, tokens["studio"]) as studio,
                connected(reactor, server.address, tokens["visitor"]) as visitor,
            ):
                jobs = plan((await studio.models())[0], count)
                begun = time.monotonic()
                board, reports = await _paint({"studio": studio, "visitor": visitor}, jobs, out)
                took = time.monotonic() - begun
                steps = (await studio.status()).steps
            say("stopping the server …")
    return await _sum_up(board, jobs, reports, out, f"{took:.1f} s, the model's loading included; {steps} steps")


async def _paint(clients: dict[str, Client], jobs: Sequence[Job], out: Path) -> tuple[Board, list[Report]]:
    """Send the waves in their time, and follow every job to its end; the reports are in the jobs' order."""
    board = Board(HEADINGS, [Line(job.columns) for job in jobs])
    first = sum(job.order.fields["num_inference_steps"] or 0 for job in jobs if job.wave == 0)
    painted: list[tuple[list[int], asyncio.Task[list[Report]]]] = []
    with board:
        async with asyncio.TaskGroup() as tasks:
            for wave, share in enumerate(SENT_AFTER):
                await board.until(round(share * first))
                for owner, client in clients.items():
                    numbers = [number for number, job in enumerate(jobs) if (job.wave, job.owner) == (wave, owner)]
                    if numbers:
                        painting = Painting(client, board.part(numbers), out)
                        orders = [jobs[number].order for number in numbers]
                        painted.append((numbers, tasks.create_task(painting.paint(orders))))
    reports = dict(pair for numbers, task in painted for pair in zip(numbers, task.result(), strict=True))
    return board, [reports[number] for number in range(len(jobs))]


async def _sum_up(board: Board, jobs: Sequence[Job], reports: Sequence[Report], out: Path, took: str) -> int:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in (
        "priority",
        "jobs",
        "painted",
        "cancelled",
        "times parked",
        "waited, median s",
        "painted in, median s",
    ):
        table.add_column(heading, justify="right")
    for wave, priority in enumerate(PRIORITIES):
        numbers = [number for number, job in enumerate(jobs) if job.wave == wave]
        outcomes = [outcome for number in numbers if (outcome := reports[number].outcome) is not None]
        states = [board.lines[number].state for number in numbers]
        table.add_row(
            str(priority), str(len(numbers)), str(states.count(State.DONE)), str(states.count(State.CANCELED)),
            str(sum(board.lines[number].parked for number in numbers)),
            _median([outcome.queued_seconds for outcome in outcomes]),
            _median([outcome.processing_seconds for outcome in outcomes]),
        )  # fmt: skip
    Console().print(table)
    print(f"{len(jobs)} jobs in {took}; at most {board.most_painted} were being painted at a time")
    pictures = [(path, report.prompt) for report in reports for path in report.files]
    if pictures:
        print(f"all of them: {await asyncio.to_thread(write_contact_sheet, out, pictures)}")
    planned = [
        job.order.cancel_at is not None and report.state == "canceled"
        for job, report in zip(jobs, reports, strict=True)
    ]
    return 0 if tell_failures([report for report, fine in zip(reports, planned, strict=True) if not fine]) else 1


def _median(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f}" if seconds else ""
