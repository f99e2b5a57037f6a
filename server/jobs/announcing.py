"""All who have something to tell of a job, as one."""

from __future__ import annotations

from collections.abc import Sequence

from server.interfaces import Announcer
from server.job import Job
from server.webhook import OutboxCall


class Announcers:
    """An `Announcer` of several; of none it is silent."""

    def __init__(self, announcers: Sequence[Announcer]) -> None:
        self._announcers = tuple(announcers)

    def calls(self, job: Job) -> Sequence[OutboxCall]:
        """What each of them has to tell, in their order."""
        return [call for announcer in self._announcers for call in announcer.calls(job)]
