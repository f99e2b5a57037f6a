"""What the engine could not do. Plain Python."""

from __future__ import annotations

import os
from collections.abc import Iterable


class EngineError(Exception):
    """Something the engine could not do. Text for people is in `str(error)`.

    EngineError
    ├── ModelLoadError       a model's files are missing, refused, damaged or of no known family
    ├── AdapterError         an adapter's files are missing, refused, damaged or made for another model
    ├── OutOfMemory          the device had no room for this request even alone
    ├── DeviceLost           the device is not there, or does not work any more
    ├── GenerationError      the step itself failed for this request
    ├── MemoryLimitExceeded  a custom model's processes took more than they may
    ├── InputError           an input does not suit the model, which only its files could tell; names it and the limit
    ├── DeadlineExceeded     the request's deadline has passed, or the steps left take longer than the time left
    └── EngineStopped        submitted after `stop()`
    """


class ModelLoadError(EngineError):
    """A model cannot be loaded: missing files, a pickle, an unknown family."""

    def told_of(self, name: str, places: Iterable[str]) -> ModelLoadError:
        """The same for whoever uses the model `name`: its files without the paths of its `places`, which are nobody's affair."""
        text = str(self)
        for place in places:
            if place and (os.path.isabs(place) or os.path.exists(place)):
                for path in (os.path.realpath(place), os.path.abspath(place), place):
                    text = text.replace(f"{path}{os.sep}", "").replace(path, name)
        text = text.replace(f"{name}: {name}: ", f"{name}: ")  # the model was named before its path
        return self if text == str(self) else ModelLoadError(text)


class AdapterError(EngineError):
    """An adapter cannot be used: no such file, a pickle, an unknown layout or key, shapes of another base model."""


class OutOfMemory(EngineError):
    """The device has no room for this request even when it runs alone."""


class DeviceLost(EngineError):
    """The device is not there, or has failed in a way that ends all work on it."""


class GenerationError(EngineError):
    """The request's own step failed (its latents became NaN, the network raised)."""


class MemoryLimitExceeded(EngineError):
    """A custom model's processes took more memory than they may, and were ended."""


class InputError(EngineError):
    """An input does not suit the model: `field` is its name, `limit` what would."""

    def __init__(self, field: str, limit: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.limit = limit


class DeadlineExceeded(EngineError):
    """The request cannot be painted any more within its `deadline_seconds`."""


class EngineStopped(EngineError):
    """The engine was stopped and takes no more work."""
