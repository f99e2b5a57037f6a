"""The one prediction that a model's process is at: what it is asked, what is told of it on the way, and its one end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ai.custom import hearing
from ai.custom.framing import Message
from ai.custom.process import Clock, Process
from ai.requests import CustomRequest
from ai.types import Answered, Canceled, EngineEvent, Failed, Finished, Spoke, Started


class Prediction:
    """A request, from when its process is asked for it. `emit` is told what happens.

    Raises KeyError, TypeError, ValueError for what a process says and nobody understands.
    """

    def __init__(self, request: CustomRequest, clock: Clock, emit: Callable[[EngineEvent], None]) -> None:
        self.id = request.request_id
        self.canceled = False
        self._request = request
        self._clock = clock
        self._emit = emit
        self._began = clock.seconds()
        self._said = 0  # characters of its text

    def ask(self, process: Process) -> None:
        """Have the process begin with it."""
        request = self._request
        self._emit(Started(self.id))
        files = list(request.files)
        head: dict[str, Any] = {"do": "predict", "id": self.id, "input": dict(request.input), "files": files}
        process.send(head, [request.files[name] for name in files])

    def progress(self, message: Message) -> None:
        """How far it is."""
        self._emit(hearing.progress(self.id, message, self._seconds))

    def text(self, message: Message) -> None:
        """A piece of its text."""
        text = str(message.head["text"])
        self._emit(Spoke(self.id, self._said, text))
        self._said += len(text)

    def preview(self, message: Message) -> None:
        """A picture on the way."""
        self._emit(hearing.preview(self.id, message))

    def over(self, event: Answered | Finished | Failed | Canceled) -> None:
        """Its last; it had its process to itself. Whatever came of one that was cancelled, it was cancelled."""
        if self.canceled or isinstance(event, Canceled):
            self._emit(Canceled(self.id))
        else:
            self._emit(replace(event, device_seconds=self._seconds))

    @property
    def _seconds(self) -> float:
        """Since it began."""
        return self._clock.seconds() - self._began
