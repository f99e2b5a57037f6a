"""The engine's numbers, device by device. The step loop adds them up once a step; they are only read here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from prometheus_client.metrics_core import Metric

from ai.types import EngineNumbers
from server.metrics.registry import Read, counter, gauge, histogram

_DEVICE = ("device",)
Named = Sequence[tuple[str, EngineNumbers]]


def engine_families(numbers: Callable[[], EngineNumbers], devices: Sequence[str], seats: int) -> Read:
    """`devices` are named by the settings, until torch has said what they are; each has `seats` images in a batch."""

    def read() -> Iterable[Metric]:
        now = numbers()
        return _families(_named(now, devices), now, seats)

    return read


def _named(numbers: EngineNumbers, devices: Sequence[str]) -> Named:
    """Each device's numbers under a name of its own: two engines of one device are cpu and cpu#2."""
    seen: Counter[str] = Counter()
    named = []
    for configured, one in zip(devices, numbers.devices or (numbers,) * bool(devices), strict=False):
        name = one.device or configured
        seen[name] += 1
        named.append((name if seen[name] == 1 else f"{name}#{seen[name]}", one))
    return named


def _families(each: Named, numbers: EngineNumbers, seats: int) -> Iterable[Metric]:
    yield gauge(
        "atelier_engine_images",
        "Images in the engine: with a seat in a batch, parked by a higher priority, waiting to begin.",
        [
            ((name, state), getattr(one, state))
            for name, one in each
            for state in ("running", "parked", "waiting")
        ],
        ("device", "state"),
    )  # fmt: skip
    yield gauge(
        "atelier_engine_seats", "Images that one batch may have.", [((name,), seats) for name, _ in each], _DEVICE
    )
    yield from _steps(each)
    yield from _texts(each)
    custom = {"running": numbers.custom_running, "waiting": numbers.custom_waiting} if each else {}
    yield gauge(
        "atelier_custom_predictions",
        "Calls of custom models: under way, each in its model's process, and waiting.",
        [((state,), number) for state, number in custom.items()],
        ("state",),
    )
    yield from _adapters(each)
    yield from _memory(each)
    yield from _device(each)


def _steps(each: Named) -> Iterable[Metric]:
    of = partial(_each, each)
    yield histogram("atelier_engine_step_seconds", "A step of one batch.", of("step_times"), _DEVICE)
    yield histogram("atelier_engine_batch_images", "Images in a step's batch.", of("batches"), _DEVICE)
    yield histogram(
        "atelier_engine_seat_wait_seconds",
        "From the engine's taking a request to its seat in a batch.",
        of("queue_waits"),
        _DEVICE,
    )
    yield histogram(
        "atelier_engine_first_step_wait_seconds",
        "From the engine's taking a request to the end of its first step.",
        of("join_waits"),
        _DEVICE,
    )
    models = [((name, model), 1.0) for name, one in each for model in one.models]
    yield gauge("atelier_engine_model_loaded", "1 for each model in memory.", models, ("device", "model"))


def _texts(each: Named) -> Iterable[Metric]:
    states = {"running": "texts_running", "waiting": "texts_waiting"}
    yield gauge(
        "atelier_engine_texts",
        "Texts in the engine: being written, waiting to begin.",
        [((name, state), getattr(one, number)) for name, one in each for state, number in states.items()],
        ("device", "state"),
    )
    yield counter("atelier_engine_tokens", "Tokens written.", _each(each, "tokens"), _DEVICE)


def _adapters(each: Named) -> Iterable[Metric]:
    of = partial(_each, each)
    yield gauge("atelier_engine_adapters", "Adapters in the device's memory.", of("adapters"), _DEVICE)
    yield counter(
        "atelier_engine_adapter_hits", "Adapters that were in memory when asked for.", of("adapter_hits"), _DEVICE
    )
    yield counter("atelier_engine_adapter_loads", "Adapters that had to be read.", of("adapter_loads"), _DEVICE)
    yield counter(
        "atelier_engine_adapter_evictions",
        "Adapters let go of, to make room or with their model.",
        of("adapter_evictions"),
        _DEVICE,
    )


def _memory(each: Named) -> Iterable[Metric]:
    kinds = ("models", "adapters", "latents", "activations")
    yield gauge(
        "atelier_engine_memory_bytes",
        "The engine's memory budget in use, by what holds it.",
        [((name, kind), getattr(one.memory, kind)) for name, one in each for kind in kinds],
        ("device", "kind"),
    )
    yield gauge(
        "atelier_engine_memory_limit_bytes",
        "What the engine may hold; 0: not known.",
        [((name,), one.memory.limit) for name, one in each],
        _DEVICE,
    )


def _device(each: Named) -> Iterable[Metric]:
    yield gauge(
        "atelier_device_memory_used_bytes",
        "Used by all programs, as the driver says.",
        _told(each, "device_used"),
        _DEVICE,
    )
    yield gauge("atelier_device_memory_bytes", "What the device has.", _told(each, "device_total"), _DEVICE)
    yield gauge(
        "atelier_device_utilisation_ratio",
        "Share of the last moments in which the device was busy, as the driver says.",
        _told(each, "gpu_utilisation"),
        _DEVICE,
    )
    lost = [((name,), float(bool(one.lost))) for name, one in each]
    yield gauge("atelier_device_lost", "1: the device failed and takes no more.", lost, _DEVICE)


def _each(each: Named, what: str) -> list[tuple[Sequence[str], Any]]:
    return [((name,), getattr(one, what)) for name, one in each]


def _told(each: Named, what: str) -> list[tuple[Sequence[str], Any]]:
    """Of those that know it."""
    return [(labels, value) for labels, value in _each(each, what) if value is not None]
