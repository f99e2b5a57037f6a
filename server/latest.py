"""What somebody who follows a job has still to be told, bounded in memory: the latest Progress, the latest Preview of each image.

Accepted and the terminal event are never lost; whoever is slow hears less of what lies between.
"""

from __future__ import annotations

from server.events import Accepted, Event, Preview, Progress, TerminalEvent


class LatestEvents:
    """Of one job, for one follower. `terminal` stays when it has been told."""

    __slots__ = ("_accepted", "_previews", "_progress", "terminal")

    def __init__(self) -> None:
        self._accepted: Accepted | None = None
        self._progress: Progress | None = None
        self._previews: dict[int, Preview] = {}  # by image
        self.terminal: TerminalEvent | None = None

    def add(self, event: Event) -> None:
        """Take one event of the job; it may replace one that was not told."""
        if isinstance(event, Progress):
            self._progress = event
        elif isinstance(event, Preview):
            self._previews[event.image_index] = event
        elif isinstance(event, Accepted):
            self._accepted = event
        else:
            self.terminal = event

    def take(self) -> Accepted | Progress | Preview | None:
        """The earliest of what is to be told before the end; None where there is nothing."""
        if self._accepted is not None:
            accepted, self._accepted = self._accepted, None
            return accepted
        preview = min(self._previews.values(), key=lambda event: event.number, default=None)
        progress = self._progress
        if progress is not None and (preview is None or progress.number < preview.number):
            self._progress = None
            return progress
        if preview is not None:
            del self._previews[preview.image_index]
        return preview
