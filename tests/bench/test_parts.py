"""The benchmark of steps in parts, run once for its logic: its figures mean nothing here."""

from __future__ import annotations

import json

import pytest
import torch

from bench import parts


def test_the_whole_of_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every way makes the same latents, with adapters too."""
    monkeypatch.setattr("bench.report.LOOKED", 0.0)
    monkeypatch.setattr(parts, "PICTURES", (1, 3))
    threads = torch.get_num_threads()
    try:
        parts.main(["--rounds", "1", "--threads", "2"])
    finally:
        torch.set_num_threads(threads)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(told) == {"parts_1", "parts_3", "parts_10_ten"}
    assert all(value > 0 for value in told.values())
