"""`atelier models`: what it prints of each kind of model."""

from __future__ import annotations

from atelier.asking import described
from proto import atelier_pb2 as pb


def test_a_model_that_paints_says_its_sizes_and_solvers() -> None:
    """And its styles."""
    model = pb.Model(
        name="demo", family="sd15", state=pb.MODEL_READY, description="shapes", default_width=128, default_height=96, min_size=64,
        size_multiple=8, default_num_inference_steps=20, default_guidance_scale=2.5, solvers=["ddim"], adapters=["neon"],
    )  # fmt: skip
    assert described(model).splitlines() == [
        "demo (sd15): ready",
        "  shapes",
        "  128x96, sizes from 64 in steps of 8",
        "  20 steps, guidance 2.5, solvers: ddim",
        "  adapters: neon",
    ]


def test_a_model_with_inputs_says_them() -> None:
    """By name; a problem stands in the place of the description."""
    model = pb.Model(
        name="words", model_type="text-generation", state=pb.MODEL_UNAVAILABLE, description="writes", problem="no such folder",
        input_schema='{"prompt": {}, "seed": {}}',
    )  # fmt: skip
    assert described(model).splitlines() == [
        "words (text-generation): unavailable",
        "  no such folder",
        "  inputs: prompt, seed",
    ]


def test_a_stream_model_says_what_it_is_for() -> None:
    """It has neither sizes nor inputs of a job."""
    model = pb.Model(name="stream-demo", model_type="stream", state=pb.MODEL_READY, description="faces")
    assert described(model) == "stream-demo (stream): ready\n  faces\n  for live sessions: docs/realtime.md"
