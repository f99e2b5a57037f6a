"""What an engine measured, for status pages and metrics. Plain Python."""

from __future__ import annotations

from dataclasses import dataclass

from ai.histogram import NO_ROWS, NO_SECONDS, Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNumbers:
    """What of a device's memory is spoken for, in bytes, by kind.

    `limit` is what may be (0: not known), `activations` the most that a pass of the models in memory was seen to take.
    """

    limit: int = 0
    models: int = 0
    adapters: int = 0
    latents: int = 0
    activations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineNumbers:
    """What the engine measured, for status pages and metrics: of one device, or of several together.

    `running`, `parked` and `waiting` count samples (images): with a place in a batch, kept from it by a higher priority after
    they had begun, not begun. `last_batch` counts those of the last forward step, `last_rows` the rows that the network saw
    (a guided sample has two), `steps` the steps made since the engine was built, `step_seconds` is what the last one took,
    `device` where ("" until torch is loaded), `device_name` what the driver calls it ("" for a CPU).

    The histograms are of every step's seconds and samples, and of every request's seconds from `submit` to its seat and
    from `submit` to the end of its first step. `models` are those in memory. `adapters` counts those in slots,
    `adapter_evictions` those that were let go of, with their model or to make room.

    `gpu_utilisation` (0 to 1), and `device_used` of `device_total` bytes, whoever took them, are None where no driver tells them.
    `lost` says why the device takes no more. Of texts, `texts_running` are being written, `texts_waiting` have not begun;
    `tokens` were written since the engine was built.
    """

    running: int = 0
    parked: int = 0
    waiting: int = 0
    last_batch: int = 0
    last_rows: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    device: str = ""
    device_name: str = ""
    models: tuple[str, ...] = ()
    memory: MemoryNumbers = MemoryNumbers()
    step_times: Histogram = NO_SECONDS
    batches: Histogram = NO_ROWS
    queue_waits: Histogram = NO_SECONDS
    join_waits: Histogram = NO_SECONDS
    adapters: int = 0
    adapter_hits: int = 0
    adapter_loads: int = 0
    adapter_evictions: int = 0
    gpu_utilisation: float | None = None
    device_used: int | None = None
    device_total: int | None = None
    lost: str = ""
    texts_running: int = 0
    texts_waiting: int = 0
    custom_running: int = 0
    custom_waiting: int = 0
    tokens: int = 0
    devices: tuple[EngineNumbers, ...] = ()
