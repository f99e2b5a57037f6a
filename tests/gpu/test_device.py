"""What only a CUDA device can show. Run by `make test-gpu`; skipped, and said to be, where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from ai.cards import ModelCard
from ai.engine import Engine
from ai.fleet import Fleet
from ai.gauge import CudaGauge
from ai.types import Deliver, EngineEvent, EngineSettings, Failed, Finished, GenerationRequest, ModelReady, OutOfMemory
from config.settings import DEMO_MODEL
from tests.ai.drive import a_request, pixels

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: not tested here"),
]
CARD = ModelCard(name="tiny", source=str(DEMO_MODEL))
REQUESTS = [
    a_request(str(n), seed=n, width=128, height=128, num_inference_steps=6 + n, guidance_scale=1.0 + n)
    for n in range(6)
]
# Of 255. float16 keeps 11 bits, and a batch of another size may be summed in another order at each step.
HALF_PRECISION = 6


def painted(settings: EngineSettings, requests: Sequence[GenerationRequest]) -> list[EngineEvent]:
    """What an engine on the device says of these requests, together."""
    events: list[EngineEvent] = []
    engine = Engine([CARD], settings, lambda: None, events.extend)
    for request in requests:
        engine.submit(request)
    engine.run()
    return events


def pictures(events: Sequence[EngineEvent]) -> dict[str, np.ndarray]:
    """By request; every one has succeeded."""
    assert [event for event in events if isinstance(event, Failed)] == []
    return {event.request_id: pixels(event.pictures[0]) for event in events if isinstance(event, Finished)}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_solo_equals_batched(dtype: str) -> None:
    """A picture is the same whoever shares its passes."""
    settings = EngineSettings(device="cuda", dtype=dtype)
    together = pictures(painted(settings, REQUESTS))
    for request in REQUESTS:
        (alone,) = pictures(painted(settings, [request])).values()
        limit = HALF_PRECISION if dtype == "float16" else 1
        assert np.abs(alone - together[request.request_id]).max() <= limit


def test_out_of_memory_for_real() -> None:
    """With room for the model and little more, everyone is painted in smaller passes, and what cannot fit fails alone."""
    free = Engine([CARD], EngineSettings(device="cuda"), lambda: None, lambda events: None)
    free.submit(REQUESTS[0])
    free.run()
    held = free.numbers().memory
    limit = held.models + held.activations * 3
    del free
    torch.cuda.empty_cache()
    try:
        huge = a_request("huge", width=4096, height=4096, num_inference_steps=2)
        many = [a_request(str(n), seed=n, width=128, height=128) for n in range(16)]
        events = painted(EngineSettings(device="cuda", memory_limit=limit), [huge, *many])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.request_id == "huge"
    assert isinstance(failed.error, OutOfMemory)
    assert len([event for event in events if isinstance(event, Finished)]) == 16


def test_a_pass_is_measured_by_the_allocator() -> None:
    """The peak counts what lived at once, beside what was there before."""
    device = torch.device("cuda", 0)
    kept = torch.zeros(1 << 20, device=device)

    def work() -> torch.Tensor:
        first = torch.ones(1 << 20, device=device)
        return (first + kept).sum()

    _, size = CudaGauge(device).peak(work)
    assert 2 * 4 << 20 <= size <= 3 * 4 << 20


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices: not tested here")
def test_two_devices() -> None:
    """Each takes a part, and the pictures are one device's."""
    starts: list[Engine] = []
    events: list[EngineEvent] = []

    def make(settings: EngineSettings, deliver: Deliver) -> Engine:
        engine = Engine([CARD], settings, lambda: starts.append(engine), deliver)
        return engine

    fleet = Fleet([EngineSettings(device=f"cuda:{n}", dtype="float32") for n in range(2)], make, events.extend)
    for request in REQUESTS:
        fleet.submit(request)
    while starts:
        starts.pop(0).run()
    assert len([event for event in events if isinstance(event, ModelReady)]) == 2
    alone = pictures(painted(EngineSettings(device="cuda:0", dtype="float32"), REQUESTS))
    for request_id, picture in pictures(events).items():
        assert np.abs(picture - alone[request_id]).max() <= 1


@pytest.mark.parametrize("offload", ["encoders", "layers"])
def test_offloading(offload: str) -> None:
    """Between passes less of the model is on the device, and the pictures are the same."""
    events: dict[str, list[EngineEvent]] = {"none": [], offload: []}
    sizes: dict[str, int] = {}
    for way in events:
        settings = EngineSettings(device="cuda", dtype="float32", cpu_offload=way)
        engine = Engine([CARD], settings, lambda: None, events[way].extend)
        for request in REQUESTS[:2]:
            engine.submit(request)
        engine.run()
        sizes[way] = engine.numbers().memory.models
    assert sizes[offload] < sizes["none"]
    plain = pictures(events["none"])
    for request_id, picture in pictures(events[offload]).items():
        assert np.abs(picture - plain[request_id]).max() <= 1
