"""The engine's numbers as families."""

from __future__ import annotations

from ai.histogram import NO_ROWS, NO_SECONDS
from ai.types import EngineNumbers, MemoryNumbers
from server.metrics.engine import engine_families
from tests.server.metrics.scrape import now, some_metrics

ONE = EngineNumbers(
    running=3, parked=1, waiting=5, device="cuda:0", models=("demo", "demo:refiner"), adapters=4, adapter_hits=6,
    adapter_loads=2, adapter_evictions=1, gpu_utilisation=0.75, device_used=10, device_total=80, lost="",
    memory=MemoryNumbers(limit=9, models=4, adapters=3, latents=2, activations=1),
    step_times=NO_SECONDS.add(0.25).add(0.5), batches=NO_ROWS.add(3).add(4), queue_waits=NO_SECONDS.add(1.0),
    join_waits=NO_SECONDS.add(2.0),
)  # fmt: skip


def test_every_number_of_a_device_is_told() -> None:
    """Each under the name that torch has for it, and the seats that it has."""
    metrics = some_metrics()
    metrics.add(engine_families(lambda: EngineNumbers(devices=(ONE,)), ("auto",), 16))
    found = now(metrics)
    device = 'device="cuda:0"'
    states = [found[f'atelier_engine_images{{{device},state="{state}"}}'] for state in ("running", "parked", "waiting")]
    assert states == [3, 1, 5]
    assert found[f"atelier_engine_seats{{{device}}}"] == 16
    assert found[f"atelier_engine_step_seconds_sum{{{device}}}"] == 0.75
    assert found[f'atelier_engine_batch_images_bucket{{{device},le="4.0"}}'] == 2
    assert found[f"atelier_engine_seat_wait_seconds_sum{{{device}}}"] == 1
    assert found[f"atelier_engine_first_step_wait_seconds_sum{{{device}}}"] == 2
    assert found[f'atelier_engine_model_loaded{{{device},model="demo:refiner"}}'] == 1
    adapters = [
        f"adapters{{{device}}}",
        *(f"adapter_{what}_total{{{device}}}" for what in ("hits", "loads", "evictions")),
    ]
    assert [found[f"atelier_engine_{name}"] for name in adapters] == [4, 6, 2, 1]
    kinds = [found[f'atelier_engine_memory_bytes{{{device},kind="{kind}"}}'] for kind in ("models", "latents")]
    assert (kinds, found[f"atelier_engine_memory_limit_bytes{{{device}}}"]) == ([4, 2], 9)
    assert found[f"atelier_device_utilisation_ratio{{{device}}}"] == 0.75
    assert (
        found[f"atelier_device_memory_used_bytes{{{device}}}"],
        found[f"atelier_device_memory_bytes{{{device}}}"],
    ) == (10, 80)
    assert found[f"atelier_device_lost{{{device}}}"] == 0


def test_two_engines_of_one_device_are_two() -> None:
    """And one that is lost says so."""
    each = (EngineNumbers(device="cpu", running=1), EngineNumbers(device="cpu", running=2, lost="gone"))
    metrics = some_metrics()
    metrics.add(engine_families(lambda: EngineNumbers(devices=each), ("cpu", "cpu"), 4))
    found = now(metrics)
    assert found['atelier_engine_images{device="cpu",state="running"}'] == 1
    assert found['atelier_engine_images{device="cpu#2",state="running"}'] == 2
    assert (found['atelier_device_lost{device="cpu"}'], found['atelier_device_lost{device="cpu#2"}']) == (0, 1)


def test_calls_of_custom_models_are_no_device_s() -> None:
    """Those under way, and those that wait."""
    metrics = some_metrics()
    numbers = EngineNumbers(devices=(ONE,), custom_running=2, custom_waiting=7)
    metrics.add(engine_families(lambda: numbers, ("auto",), 16))
    found = now(metrics)
    states = [found[f'atelier_custom_predictions{{state="{state}"}}'] for state in ("running", "waiting")]
    assert states == [2, 7]


def test_what_no_driver_tells_has_no_series() -> None:
    """Rather than a 0 that looks measured; before torch is loaded a device has its name of the settings."""
    metrics = some_metrics()
    metrics.add(engine_families(EngineNumbers, ("auto",), 4))
    found = now(metrics)
    assert found['atelier_engine_images{device="auto",state="waiting"}'] == 0
    assert not [name for name in found if name.startswith(("atelier_device_utilisation", "atelier_device_memory"))]


def test_a_gateway_has_no_engine() -> None:
    """The families are there, without series."""
    metrics = some_metrics()
    metrics.add(engine_families(EngineNumbers, (), 4))
    assert not [name for name in now(metrics) if name.startswith("atelier_")]
