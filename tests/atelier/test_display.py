"""atelier.display: how jobs look on a terminal, and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from atelier.display import PROMPT_WIDTH, Bars, Display, Lines, Quiet, display_for, shortened
from server.events import Accepted, Phase, Progress


def _progress(fraction: float) -> Progress:
    return Progress(
        number=1,
        job_id="j",
        phase=Phase.DENOISING,
        step=round(fraction * 20),
        total_steps=20,
        fraction=fraction,
        eta_seconds=1.25,
    )


def _play(display: Display) -> None:
    """Two jobs, one of which fails."""
    with display:
        rows = [display.add("a [red]star"), display.add("a moon")]
        for row in rows:
            display.show(row, Accepted(number=0, job_id=f"job-{row}", seed=1))
        for fraction in (0.05, 0.25, 0.3, 0.75):
            display.show(rows[0], _progress(fraction))
        display.finish(rows[0], "succeeded")
        display.finish(rows[1], "failed")


def test_lines_are_few_and_leave_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Acceptance, each quarter once, and the end; all on stderr."""
    _play(Lines())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "a [red]star: accepted as job-0",
        "a moon: accepted as job-1",
        "a [red]star: denoising 5/20, 25%",
        "a [red]star: denoising 15/20, 75%",
        "a [red]star: succeeded",
        "a moon: failed",
    ]


def test_bars_show_each_job(capsys: pytest.CaptureFixture[str]) -> None:
    """A row a job with its prompt as it was written, its steps and how it ended."""
    screen = io.StringIO()
    _play(Bars(Console(file=screen, force_terminal=True, width=120, color_system=None)))
    last = [line for line in screen.getvalue().splitlines() if "star" in line or "moon" in line][-2:]
    assert "a [red]star" in last[0]
    assert "15/20" in last[0]
    assert "100%" in last[0]
    assert "done" in last[0]
    assert "failed" in last[1]


def test_nothing_is_shown_beside_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json there are no rows at all; where stdout is no terminal there are lines."""
    _play(display_for(as_json=True))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert isinstance(display_for(as_json=True), Quiet)
    assert isinstance(display_for(as_json=False), Lines)


def test_prompts_fit_their_column() -> None:
    """A long prompt, or one of several lines, becomes one short line."""
    assert shortened("a\n  star") == "a star"
    assert len(shortened("word " * 50)) == PROMPT_WIDTH
