"""What requests are told on their way: events, gathered while a turn lasts and delivered together at its end.

On the loop's thread. Imports no torch before a row is saved.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai.tally import Tally
from ai.types import Deliver, EngineEvent, Previewed, Saved, SavedImage, Started
from ai.work import Sample, Work

if TYPE_CHECKING:
    from ai.families.family import Model
    from ai.stepping import Stepper

log = logging.getLogger(__name__)


class Teller:
    """Tells by `deliver`; how long requests waited for their first seat and step goes into the tally."""

    def __init__(self, deliver: Deliver, tally: Tally) -> None:
        self._deliver = deliver
        self._tally = tally
        self._events: list[EngineEvent] = []

    def emit(self, event: EngineEvent) -> None:
        """Have an event delivered at the end of the turn."""
        self._events.append(event)

    def started(self, work: Work) -> None:
        """A request has its first seat."""
        self._tally.seated(work.submitted_at)
        self.emit(Started(work.request.request_id))

    def stepped(self, samples: Sequence[Sample], seconds_per_turn: float) -> None:
        """These samples have made a step: their requests hear how far they are."""
        for work in dict.fromkeys(sample.work for sample in samples):
            if not work.joined:
                work.joined = True
                self._tally.joined(work.submitted_at)
            self.emit(work.stepped(seconds_per_turn))

    def previewed(self, stepper: Stepper, samples: Sequence[Sample]) -> None:
        """A rough look at each of these samples."""
        if not samples:
            return
        try:
            painted = stepper.preview([sample.opened_row for sample in samples])
        except Exception:  # a look on the way is worth no request's life
            log.exception("a preview failed")
            return
        for sample, (width, height, rgb) in zip(samples, painted, strict=True):
            request_id, step = sample.work.request.request_id, sample.opened_row.step
            self.emit(Previewed(request_id, sample.index, step, width, height, rgb))

    def saved(self, work: Work, model: Model | None) -> None:
        """How far a request's images are, by its model, if that is in memory. Nothing is worth saving of an image that is
        decoded next, or the refiner's: that began with no history."""
        from ai.saving import row_bytes

        rows = [(sample.index, sample.row) for sample in work.samples if sample.row is not None]
        images = [
            SavedImage(index, row.step, row_bytes(model, row))
            for index, row in rows
            if model is not None and 0 < row.step < row.table.steps and not row.refined
        ]
        self.emit(Saved(work.request.request_id, tuple(images)))

    def hand_over(self) -> None:
        """Deliver the turn's events."""
        events, self._events = self._events, []
        if events:
            try:
                self._deliver(events)
            except Exception:
                log.exception("deliver failed; %d events are lost", len(events))
