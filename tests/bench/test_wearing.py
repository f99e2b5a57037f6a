"""The benchmark of wearing adapters, run once for its logic: its figures mean nothing here."""

from __future__ import annotations

import json

import pytest
import torch

from bench.wearing import main


def test_the_whole_of_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every kind of batch is stepped, and the arithmetic is counted, which no machine changes."""
    monkeypatch.setattr("bench.report.LOOKED", 0.0)
    threads = torch.get_num_threads()
    try:
        main(["--rounds", "1"])
    finally:
        torch.set_num_threads(threads)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(told) == {"ten_adapters_cost", "ten_attention_cost", "one_adapter_cost", "products", "arithmetic"}
    assert told["products"] > 0
    assert told["arithmetic"] == pytest.approx(0.098, abs=0.005)
