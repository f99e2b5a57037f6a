"""The page of a run: one file, whole without a network, with the faults on it; and two runs side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bot.figures import Figures
from bot.report.charts import rates
from bot.report.comparing import compare_files
from bot.report.page import comparison, page_of
from bot.report.record import CannotRead, read_record
from bot.visit import End
from tests.bot.visits import Watch, visit

TINY = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def record(seconds: float = 1.0, **changed: Any) -> dict[str, Any]:
    """Of a run of ten visits, each of so many seconds."""
    figures = Figures(1.0)
    for number in range(10):
        watch = Watch()
        one, _ = visit(watch, float(number), number=number)
        figures.intended(one)
        watch.at = float(number)
        one.on_sent()
        one.on_accepted("j", 7)
        watch.at = number + seconds
        one.finish(End.SUCCEEDED)
        figures.ended(one)
    latencies = {
        name: {**latency.summary(), "curve": latency.curve(), "histogram": ""}
        for name, latency in figures.latencies.items()
        if latency.count
    }
    samples = {"t": [1.0, 2.0], "batch_size": [1.0, None], "server memory": [5e6, 6e6]}
    made = {
        "format": 1, "kind": "load", "title": "Tea <b>party</b>", "about": "", "profile": {}, "door": "tcp", "address": "tcp:x:1",
        "server": "1", "seed": 1, "run": "r", "began": "2026-11-21T12:00:00+00:00", "seconds": 11.0, "processes": 1,
        "interrupted": False, "counts": figures.counts(), "codes": {}, "conducts": {"polite": 10}, "unfinished": {},
        "verdict": {"passed": False, "text": "Not as promised: x.", "notes": ["mind"], "findings": [
            {"name": "nothing lost", "passed": False, "text": "1 lost", "ids": ["job-77"]}]},
        "latencies": latencies,
        "stretch": 1.0, "timeline": figures.timeline(), "samples": samples,
        "faults": [{"at": 3.0, "do": "pause", "what": "server", "until": 4.0, "note": ""}],
        "gallery": [{"prompt": "<script>alert(1)</script>", "seed": 7, "size": "8x8", "steps": 2, "styles": "", "signature": "",
                     "job_id": "j", "number": 1, "seconds": 1.0, "at": 1.0, "apart": 0, "wrong": "", "png": TINY}],
        "details": {},
    }  # fmt: skip
    return made | changed


def test_a_page_needs_no_network_and_believes_nobody() -> None:
    """Nothing is fetched from elsewhere, and what users wrote is text, not HTML."""
    page = page_of(record())
    assert "plotly.js v" in page
    own = re.sub(r"<script>/\*\*.*?</script>", "", page, count=1, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", own)
    assert "<script>alert(1)</script>" not in own
    assert "Tea <b>party</b>" not in own
    for said in (
        "job-77",
        "Not as promised",
        "mind",
        f"data:image/png;base64,{TINY}",
        "server paused",
        "alone: the same",
    ):
        assert said in own


def test_faults_are_marked() -> None:
    """As a band over their time."""
    shapes = rates(record()).layout.shapes
    assert (shapes[0].x0, shapes[0].x1) == (3.0, 4.0)


def test_two_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second over the first, on the terminal and on a page."""
    rows = {row[0]: row[1:] for row in comparison(record(1.0), record(2.0))}
    assert rows["succeeded"] == ("10", "10", "1.00")
    assert rows["result, p50 (s)"][2] == "2.00"
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(record(seconds)))
    compare_files(tmp_path / "a.json", tmp_path / "b.json", tmp_path / "deep" / "both.html")
    assert "result, p50 (s)" in capsys.readouterr().out
    page = (tmp_path / "deep" / "both.html").read_text()
    assert "second over first" in page
    assert page.rstrip().endswith("</html>")


@pytest.mark.parametrize(
    ("text", "said"), [("{", "is no JSON"), ("[]", "is no record"), ('{"format": 9}', "is no record")]
)
def test_what_is_no_record_is_told(tmp_path: Path, text: str, said: str) -> None:
    """With the file's name."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(CannotRead, match=said):
        read_record(tmp_path / "x.json")
