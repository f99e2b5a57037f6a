"""The GPU benchmark's own logic, on a CPU: that it refuses, and that every run of it works and is computed right."""

from __future__ import annotations

import json

import pytest
import torch

from bench import gpu
from bench.gpu import ADAPTERS, SD15, TINY, Workload, main, matrix_ceiling


def test_it_refuses_without_a_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is measured elsewhere in its place."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 1
    assert capsys.readouterr() == ("", "no CUDA device: not measured\n")


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # diffusers' scheduler, beside NumPy 2
def test_the_whole_of_it_runs_tiny(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of run is there once, with figures that agree with one another."""
    monkeypatch.setattr("bench.report.LOOKED", 0.0)
    assert main(["--tiny", "--rounds", "1"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    kinds = [(run["who"], run["steps"], run["batch"], run["adapters"]) for run in told["runs"]]
    assert kinds == [
        ("engine", 2, 1, 0), ("engine", 2, 2, 0), ("engine", 2, 2, 1), ("engine", 2, 2, ADAPTERS),
        ("pipeline", 2, 1, 0), ("pipeline", 2, 2, 0),
    ]  # fmt: skip
    for run in told["runs"]:
        assert run["images_s"] == pytest.approx(run["batch"] / run["seconds"], rel=0.01, abs=1e-3)
        assert run["of_ceiling"] == pytest.approx(run["images_s"] * TINY.tera(2) / told["tflops"], rel=0.05, abs=1e-3)


def test_the_arithmetic_of_a_picture() -> None:
    """Two rows a step, and a decode."""
    assert SD15.tera(20) == pytest.approx(34.6, abs=0.1)
    assert SD15.tera(50) == pytest.approx(82.8, abs=0.1)
    assert gpu.SDXL.tera(20) == pytest.approx(281, abs=1)
    assert Workload("x", 64, (1,), (1,), 3.0, 1.0).tera(2) == 13.0


def test_the_ceiling_is_of_a_timed_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best try counts, and the first does not."""
    times = iter([1e-9, 4.0, 2.0, 8.0])
    monkeypatch.setattr(gpu, "timed", lambda device, work: next(times))
    assert matrix_ceiling(torch.device("cpu"), 100, tries=3) == pytest.approx(2 * 100**3 / 2.0 / 1e12)
