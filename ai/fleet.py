"""Several devices with one queue: an engine for each, and what is handed from one to another. Plain Python.

A request goes to the engine with room for it that has its model in memory. An engine that has nothing to do takes requests
that wait at another and have not begun. What a lost device had begins anew on the others: the same seeds on the same weights
make the same picture, within what two kinds of devices differ by.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import reduce
from operator import add
from typing import Protocol

from ai.cards import ANY_DEVICE, Card, runs_on
from ai.types import (
    Answered,
    Canceled,
    Deliver,
    EngineError,
    EngineEvent,
    EngineNumbers,
    EngineSettings,
    EngineStopped,
    Failed,
    Finished,
    HandedBack,
    MemoryNumbers,
    ModelEvent,
    ModelLoading,
    ModelReady,
    ModelUnavailable,
    ModelUnloaded,
    Parked,
    Previewed,
    Request,
    Started,
    Stepped,
)

log = logging.getLogger(__name__)


class DeviceEngine(Protocol):
    """What the fleet asks of an engine (`ai.engine.Engine`)."""

    def submit(self, request: Request) -> None:
        """Take in a request; raises EngineStopped where it takes no more."""
        ...

    def cancel(self, request_id: str) -> None:
        """Give up a request."""
        ...

    def load(self, model: str) -> None:
        """Load a model ahead of its first request."""
        ...

    def add(self, card: Card) -> None:
        """Paint with one more model."""
        ...

    def remove(self, model: str) -> None:
        """Let go of a model when its requests have ended."""
        ...

    def save(self, request_id: str) -> None:
        """Tell how far a request is."""
        ...

    def hand_back(self, images: int) -> None:
        """Hand back requests that have not begun, of about so many images."""
        ...

    def tidy(self) -> None:
        """Unload what nobody uses."""
        ...

    def stop(self) -> None:
        """End the loop."""
        ...

    def numbers(self) -> EngineNumbers:
        """What was measured."""
        ...


MakeEngine = Callable[[EngineSettings, Deliver], DeviceEngine]
"""Makes the engine of one device."""


@dataclass(slots=True, eq=False)
class _Device:
    """One engine as the fleet knows it. `models` has the last event of each."""

    engine: DeviceEngine
    max_batch: int
    name: str = ANY_DEVICE  # as torch has it; auto: the first CUDA device, or the CPU where there is none
    models: dict[str, ModelEvent] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    lost: str = ""
    asked: bool = False  # for a part of its queue, and has not answered

    @property
    def images(self) -> int:
        """How many images it has."""
        return sum(request.samples for request in self.requests.values())

    def has(self, model: str, *kinds: type[ModelEvent]) -> bool:
        """Whether the last that was heard of a model is one of these."""
        return isinstance(self.models.get(model), kinds)

    def suits(self, hardware: str) -> bool:
        """Whether a card's hardware allows this device, as far as is known before its loop has run."""
        name = (self.engine.numbers().device or self.name) if self.name == ANY_DEVICE else self.name
        return name == ANY_DEVICE or runs_on(hardware, name)

    def aversion(self, model: str) -> tuple[bool, bool, bool, float]:
        """The lower, the sooner a request goes here: for a failed model last, then where there is room, then the model."""
        full = self.images >= self.max_batch
        return (
            self.has(model, ModelUnavailable),
            full,
            not self.has(model, ModelReady, ModelLoading),
            self.images / self.max_batch,
        )


class Fleet:
    """The engines of several devices as one. Any thread may call it; `deliver` is called on the engines' threads.

    `on_death` is called, on any thread, when the last device is lost.
    """

    def __init__(
        self,
        settings: Sequence[EngineSettings],
        make: MakeEngine,
        deliver: Deliver,
        on_death: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._deliver = deliver
        self._on_death = on_death
        self._lock = threading.RLock()  # an engine that starts at once (in a test) delivers before `submit` returns
        self._stopping = False
        self._cancelled: set[str] = set()  # requests to be cancelled, should they be on their way between engines
        self._begun: set[str] = set()  # requests that were told of as started
        self._told: dict[str, float] = {}  # the furthest that was told of requests which had to begin anew
        self._furthest: dict[str, float] = {}  # the same of those under way
        self._bound: dict[str, str] = {}  # models that may not be on every device → the hardware they are for
        self._devices: list[_Device] = []
        for one in settings:
            self._devices.append(_Device(make(one, self._receiver(len(self._devices))), one.max_batch, one.device))

    # From any thread.

    def submit(self, request: Request) -> None:
        """Take in a request. Raises ValueError for an id that is here already, and EngineStopped without any device left."""
        with self._lock:
            if any(request.request_id in device.requests for device in self._devices):
                raise ValueError(f"request_id: {request.request_id!r} is in the engine already")
            self._dispatch(request)

    def cancel(self, request_id: str) -> None:
        """Give up a request, wherever it is. One that is not here (any more) is ignored."""
        with self._lock:
            for device in self._devices:
                if request_id in device.requests:
                    self._cancelled.add(request_id)
                    device.engine.cancel(request_id)

    def save(self, request_id: str) -> None:
        """Have it told, by `Saved`, how far a request is. One that is not here (any more) is ignored."""
        with self._lock:
            for device in self._devices:
                if request_id in device.requests:
                    device.engine.save(request_id)

    def load(self, model: str) -> None:
        """Load a model ahead of its first request, on every device."""
        for device in self._living():
            if device.suits(self._bound.get(model, ANY_DEVICE)):
                device.engine.load(model)

    def add(self, card: Card) -> None:
        """Paint with one more model, on every device that its hardware allows."""
        with self._lock:
            self._bound.pop(card.name, None)
            hardware = getattr(card, "hardware", ANY_DEVICE)  # a custom model has none
            if hardware != ANY_DEVICE:
                self._bound[card.name] = hardware
            for device in self._living():
                device.engine.add(card)

    def remove(self, model: str) -> None:
        """Let go of a model on every device, when its requests have ended."""
        with self._lock:
            for device in self._living():
                device.engine.remove(model)

    def tidy(self) -> None:
        """Unload models that nobody used for as long as the settings say, and give free memory back where nothing is under way;
        to be called every now and then."""
        for device in self._living():
            device.engine.tidy()

    def stop(self) -> None:
        """End all loops at their next step boundary; what is there gets Canceled."""
        with self._lock:
            self._stopping = True
        for device in self._devices:
            device.engine.stop()

    def numbers(self) -> EngineNumbers:
        """What was measured, added up, and of each device by itself."""
        return total_numbers([device.engine.numbers() for device in self._devices])

    def _living(self) -> list[_Device]:
        return [device for device in self._devices if not device.lost]

    # Where requests go. With the lock held.

    def _dispatch(self, request: Request) -> None:
        """Give a request to the device that suits it best. Raises EngineStopped where none is left."""
        refusal = EngineStopped("; ".join(device.lost for device in self._devices))
        living, hardware = self._living(), self._bound.get(request.model, ANY_DEVICE)
        living = [device for device in living if device.suits(hardware)] or living  # whose loading then says why not
        for device in sorted(living, key=lambda device: device.aversion(request.model)):
            device.requests[request.request_id] = request
            try:
                device.engine.submit(request)
            except BaseException as error:
                del device.requests[request.request_id]
                if not isinstance(error, EngineStopped):
                    raise
                refusal = error
            else:
                return
        raise refusal

    def _share(self) -> None:
        """Where one device has nothing to do and another has requests in line, ask for half of them."""
        if self._stopping or not any(not device.requests for device in self._living()):
            return
        for device in self._living():
            waiting = device.images - device.max_batch
            bound = self._bound and any(request.model in self._bound for request in device.requests.values())
            if waiting > 0 and not device.asked and not bound:  # what is bound would come back, again and again
                device.asked = True
                device.engine.hand_back(min(device.max_batch, -(-waiting // 2)))

    # What the engines say.

    def _receiver(self, index: int) -> Deliver:
        return lambda events: self._receive(self._devices[index], events)

    def _receive(self, device: _Device, events: Sequence[EngineEvent]) -> None:
        with self._lock:
            passed = [event for event in events if self._passes(device, event)]
        self._tell(passed)
        handed = [event for event in events if isinstance(event, HandedBack)]
        with self._lock:
            ends = [end for event in handed for end in self._take_back(device, event)]
            if (
                any(isinstance(event, (Finished, Answered, Failed, Canceled, HandedBack)) for event in passed + ends)
                or ends
            ):
                self._share()
        self._tell(ends)
        if any(event.error is not None for event in handed) and not self._living():
            self._on_death(device.lost)

    def _tell(self, events: Sequence[EngineEvent]) -> None:
        if events:
            self._deliver(events)

    def _passes(self, device: _Device, event: EngineEvent) -> bool:
        """Whether an event is for those outside. What they have heard already of a request that began anew is not."""
        if isinstance(event, ModelEvent):
            return self._model_passes(device, event)
        if isinstance(event, HandedBack):
            return False
        request_id = event.request_id
        if isinstance(event, (Finished, Answered, Failed, Canceled)):
            self._forget(device, request_id)
        elif isinstance(event, Started):
            again = request_id in self._begun
            self._begun.add(request_id)
            return not again
        elif isinstance(event, Stepped):
            self._furthest[request_id] = event.fraction
            if event.fraction <= self._told.get(request_id, 0.0):
                return False
            self._told.pop(request_id, None)
        elif isinstance(event, (Parked, Previewed)):
            return request_id not in self._told
        return True

    def _model_passes(self, device: _Device, event: ModelEvent) -> bool:
        """A model is as ready as it is on the device where it is readiest."""
        device.models[event.model] = event
        elsewhere = [other for other in self._living() if other is not device]
        if isinstance(event, ModelReady):
            return True
        if isinstance(event, ModelLoading):
            return not any(other.has(event.model, ModelReady) for other in elsewhere)
        return not any(other.has(event.model, ModelReady, ModelLoading) for other in elsewhere)

    def _forget(self, device: _Device, request_id: str) -> None:
        device.requests.pop(request_id, None)
        self._begun.discard(request_id)
        self._cancelled.discard(request_id)
        self._told.pop(request_id, None)
        self._furthest.pop(request_id, None)

    def _take_back(self, device: _Device, event: HandedBack) -> Iterable[EngineEvent]:
        """Give what was handed back to other devices; the ends of what nobody takes."""
        device.asked = False
        if event.error is not None:
            device.lost = str(event.error)
            log.error("a device is lost, %d requests begin anew elsewhere: %s", len(event.requests), event.error)
            yield from self._models_lost(device)
        for request in event.requests:
            del device.requests[request.request_id]
            furthest = self._furthest.pop(request.request_id, None)
            if furthest is not None:
                self._told[request.request_id] = max(furthest, self._told.get(request.request_id, 0.0))
            end = self._again(request, event.error)
            if end is not None:
                self._forget(device, request.request_id)
                yield end

    def _models_lost(self, device: _Device) -> Iterable[EngineEvent]:
        for model in device.models:
            here = device.has(model, ModelReady, ModelLoading)
            if here and not any(other.has(model, ModelReady, ModelLoading) for other in self._living()):
                yield ModelUnloaded(model)

    def _again(self, request: Request, error: EngineError | None) -> EngineEvent | None:
        if request.request_id in self._cancelled or self._stopping:
            return Canceled(request.request_id)
        try:
            self._dispatch(request)
        except EngineStopped as stopped:
            return Failed(request.request_id, error or stopped)
        return None


def total_numbers(each: Sequence[EngineNumbers]) -> EngineNumbers:
    """The numbers of several devices together: counts and histograms added up, of the last step the longest, the mean
    utilisation of those that tell theirs. Each device's own are in `devices`."""
    latest = max(each, key=lambda numbers: numbers.step_seconds)
    told = [numbers.gpu_utilisation for numbers in each if numbers.gpu_utilisation is not None]
    return EngineNumbers(
        running=sum(numbers.running for numbers in each),
        parked=sum(numbers.parked for numbers in each),
        waiting=sum(numbers.waiting for numbers in each),
        last_batch=sum(numbers.last_batch for numbers in each),
        last_rows=sum(numbers.last_rows for numbers in each),
        steps=sum(numbers.steps for numbers in each),
        step_seconds=latest.step_seconds,
        device=", ".join(filter(None, (numbers.device for numbers in each))),
        device_name=", ".join(filter(None, (numbers.device_name for numbers in each))),
        models=tuple(dict.fromkeys(model for numbers in each for model in numbers.models)),
        memory=_total_memory([numbers.memory for numbers in each]),
        step_times=reduce(add, (numbers.step_times for numbers in each)),
        batches=reduce(add, (numbers.batches for numbers in each)),
        queue_waits=reduce(add, (numbers.queue_waits for numbers in each)),
        join_waits=reduce(add, (numbers.join_waits for numbers in each)),
        adapters=sum(numbers.adapters for numbers in each),
        adapter_hits=sum(numbers.adapter_hits for numbers in each),
        adapter_loads=sum(numbers.adapter_loads for numbers in each),
        adapter_evictions=sum(numbers.adapter_evictions for numbers in each),
        gpu_utilisation=sum(told) / len(told) if told else None,
        device_used=_total_told(numbers.device_used for numbers in each),
        device_total=_total_told(numbers.device_total for numbers in each),
        lost="; ".join(filter(None, (numbers.lost for numbers in each))),
        texts_running=sum(numbers.texts_running for numbers in each),
        texts_waiting=sum(numbers.texts_waiting for numbers in each),
        tokens=sum(numbers.tokens for numbers in each),
        devices=tuple(each),
    )


def _total_told(each: Iterable[int | None]) -> int | None:
    told = [size for size in each if size is not None]
    return sum(told) if told else None


def _total_memory(each: Sequence[MemoryNumbers]) -> MemoryNumbers:
    return MemoryNumbers(**{kind.name: sum(getattr(one, kind.name) for one in each) for kind in fields(MemoryNumbers)})
