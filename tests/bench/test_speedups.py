"""The benchmark of what makes a pass quicker, run once for its logic: its figures mean nothing here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import speedups
from bench.first_passes import first_passes
from bench.speedups import UNET, VAE, Bench, check_same, main


def test_the_whole_of_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every variant is compared with the engine's pictures and timed; what a CPU cannot tell is said to be missing."""
    monkeypatch.setattr("bench.report.LOOKED", 0.0)
    monkeypatch.setattr(speedups, "SETTLING", 0)
    threads = torch.get_num_threads()
    try:
        main(["--rounds", "1", "--threads", "2", "--device", "cpu", "--no-first"])
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert "not measured: no CUDA device" in said
    told = json.loads(said.splitlines()[-1])
    all_kinds = {"no_grad", "one_thread", "all_threads"}
    networks = {"plain_attention": UNET, "unet_channels_last": UNET, "packed": UNET, "vae_contiguous": VAE}
    expected = {f"{name}_{kind}" for name in all_kinds for kind in (*UNET, *VAE)}
    expected |= {f"{name}_{kind}" for name, kinds in networks.items() for kind in kinds}
    assert set(told) == expected
    assert all(value > 0 for value in told.values())


def test_another_picture_is_found_out(tmp_path: Path) -> None:
    """A measure that changes the picture ends the benchmark with its name."""
    bench = Bench(torch.device("cpu"), 1, tmp_path)
    engine = bench.variants(compiled=False)["engine"]
    spoiled = replace(
        engine, passes={kind: lambda: engine.passes["unet_2"]() * 1.01 for kind in UNET}, kinds=["unet_2"]
    )
    check_same({"engine": engine, "same": engine}, half=False)
    with pytest.raises(SystemExit, match="spoiled: unet_2 is"):
        check_same({"engine": engine, "spoiled": spoiled}, half=False)


def test_the_first_passes_of_a_process() -> None:
    """Loading, first and later passes are timed, with warming up and without."""
    threads = torch.get_num_threads()
    try:
        for warm in (True, False):
            took = first_passes(torch.device("cpu"), 1, warm=warm)
            assert set(took) == {"load", "first_step", "second", "later_step", "first_decode", "later_decode"}
            assert all(value > 0 for value in took.values())
    finally:
        torch.set_num_threads(threads)
