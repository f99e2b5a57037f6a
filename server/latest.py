"""What somebody who follows a job has still to be told, bounded in memory: the latest Progress, the latest Preview of each image,
and of a text what was not told of it, in one piece.

Accepted, the text and the terminal event are never lost; whoever is slow hears less of what lies between.
"""

from __future__ import annotations

from dataclasses import replace

from server.events import Accepted, Event, Output, Preview, Progress, TerminalEvent, joined

Most = Accepted | Progress | Preview | Output
"""What comes before the end."""

LONGEST = 50_000  # characters told at once: at most 200 kB, which any frame has room for


class LatestEvents:
    """Of one job, for one follower. `terminal` stays when it has been told."""

    __slots__ = ("_accepted", "_output", "_previews", "_progress", "terminal")

    def __init__(self) -> None:
        self._accepted: Accepted | None = None
        self._progress: Progress | None = None
        self._output: Output | None = None
        self._previews: dict[int, Preview] = {}  # by image
        self.terminal: TerminalEvent | None = None

    def add(self, event: Event) -> None:
        """Take one event of the job; it may replace one that was not told."""
        if isinstance(event, Progress):
            self._progress = event
        elif isinstance(event, Output):
            self._output = joined(self._output, event)
        elif isinstance(event, Preview):
            self._previews[event.image_index] = event
        elif isinstance(event, Accepted):
            self._accepted = event
        else:
            self.terminal = event

    def take(self) -> Most | None:
        """The earliest of what is to be told before the end; None where there is nothing."""
        if self._accepted is not None:
            accepted, self._accepted = self._accepted, None
            return accepted
        untold = (self._progress, self._output, *self._previews.values())
        event = min((one for one in untold if one is not None), key=lambda one: one.number, default=None)
        if isinstance(event, Progress):
            self._progress = None
        elif isinstance(event, Output):
            return self._piece(event)
        elif event is not None:
            del self._previews[event.image_index]
        return event

    def _piece(self, event: Output) -> Output:
        """As much of a text as is told at once; all that is told under one number are pieces of it."""
        self._output = None
        if len(event.text) > LONGEST:
            self._output = replace(event, offset=event.offset + LONGEST, text=event.text[LONGEST:])
            return replace(event, text=event.text[:LONGEST])
        return event
