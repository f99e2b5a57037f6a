"""The engine's promise, over whole runs of the tiny networks: the same picture, whoever shares the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ai.families.family import Model
from ai.types import Canceled, EngineEvent, EngineSettings, Finished, GenerationRequest
from tests.ai.drive import Bench, a_request, pixels

REQUESTS = st.builds(
    a_request,
    model=st.sampled_from(["epsilon", "v"]),
    prompt=st.sampled_from(["a red cat", "", "two blue cats on a mat"]),
    negative_prompt=st.sampled_from(["", "red"]),
    width=st.sampled_from([64, 80]),
    num_inference_steps=st.integers(1, 6),
    guidance_scale=st.sampled_from([0.0, 1.0, 2.5, 7.5]),
    seed=st.integers(0, 3),
    num_images=st.sampled_from([1, 1, 2]),
    priority=st.integers(0, 1),
)
# When each request comes, counted in deliveries, and when it is cancelled, if ever.
PLANS = st.lists(st.tuples(REQUESTS, st.integers(0, 5), st.none() | st.integers(0, 8)), min_size=2, max_size=6)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=PLANS, max_batch=st.sampled_from([1, 3, 16]))
def test_solo_equals_batched(
    models: dict[str, Model], plan: Sequence[tuple[GenerationRequest, int, int | None]], max_batch: int
) -> None:
    """With any mix of requests that join and are cancelled at any time, each picture is the one painted alone."""
    bench = Bench(
        lambda card, _: models[card.name], EngineSettings(device="cpu", max_batch=max_batch), models=("epsilon", "v")
    )
    requests = {str(n): replace(request, request_id=str(n)) for n, (request, _, _) in enumerate(plan)}
    submitted: set[str] = set()

    def follow_plan(events: Sequence[EngineEvent]) -> None:
        for request_id, (_, joins, cancelled) in zip(requests, plan, strict=True):
            if request_id not in submitted and len(bench.deliveries) >= joins:
                submitted.add(request_id)
                bench.engine.submit(requests[request_id])
            if request_id in submitted and cancelled is not None and len(bench.deliveries) == cancelled:
                bench.engine.cancel(request_id)

    bench.on_deliver = follow_plan
    follow_plan([])
    while len(submitted) < len(plan):
        bench.engine.run()
        bench.deliveries.append([])  # time passes for those still to come
        follow_plan([])
    bench.engine.run()
    for request_id, request in requests.items():
        end = bench.end(request_id)
        if plan[int(request_id)][2] is None or not isinstance(end, Canceled):
            assert isinstance(end, Finished), end
            for picture, wanted in zip(end.pictures, solo(models, request), strict=True):
                assert np.abs(pixels(picture) - wanted).max() <= 1


SOLO: dict[GenerationRequest, list[NDArray[np.int16]]] = {}


def solo(models: dict[str, Model], request: GenerationRequest) -> list[NDArray[np.int16]]:
    """The request's pictures when it is alone in an engine of its own (kept: the same ones come often)."""
    key = replace(request, request_id="solo", priority=0)
    if key not in SOLO:
        bench = Bench(lambda card, _: models[card.name], models=("epsilon", "v"))
        bench.paint(key)
        SOLO[key] = [pixels(picture) for picture in bench.finished("solo").pictures]
    return SOLO[key]
