"""`atelier serve` that kills itself with SIGKILL at a chosen moment: everything is the real server's but the engine.

    python -m tests.integration.crashing MOMENT NTH      the NTH time that MOMENT comes, counted from the start

The engine is tests.quick_painter's, so that many starts cost little.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from atelier.serve import serve
from server.database.sql import SqlJobStore
from server.job import Job, JobState
from server.storage.local import LocalArtifacts
from server.storage.objects import ObjectArtifacts
from server.webhook import OutboxCall
from tests.quick_painter import paint_quickly

MOMENTS = ("admitted", "taken up", "started", "stored", "ended")
NEVER = "never"


class Bomb:
    """Ends this process, as a power failure would, the nth time that the moment has come."""

    def __init__(self, moment: str, nth: int) -> None:
        assert moment in (*MOMENTS, NEVER), moment
        self._moment = moment
        self._left = nth

    def passed(self, moment: str) -> None:
        """A moment has come."""
        if moment == self._moment:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


def arm(bomb: Bomb) -> None:
    """Let it know of each moment, which is always just after something was made durable and before anyone was told."""
    admit, take_up, move = SqlJobStore.admit, SqlJobStore.take_up, SqlJobStore.move

    async def admitting(store: SqlJobStore, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        kept = await admit(store, job, calls, leased=leased)
        bomb.passed("admitted")
        return kept

    async def taking_up(store: SqlJobStore, *, at: float, begin: bool) -> list[Job]:
        taken = await take_up(store, at=at, begin=begin)
        if taken:
            bomb.passed("taken up")
        return taken

    async def moving(store: SqlJobStore, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        moved = await move(store, job, calls)
        if job.state is JobState.PROCESSING:
            bomb.passed("started")
        elif job.state is JobState.SUCCEEDED:
            bomb.passed("ended")
        return moved

    patched: Any = SqlJobStore
    patched.admit, patched.take_up, patched.move = admitting, taking_up, moving
    for storage in (LocalArtifacts, ObjectArtifacts):
        _arm_storage(bomb, storage)


def _arm_storage(bomb: Bomb, storage: Any) -> None:
    put = storage.put

    async def putting(store: Any, key: str, data: bytes, content_type: str, sha256: str) -> None:
        await put(store, key, data, content_type, sha256)
        if content_type == "image/png":
            bomb.passed("stored")

    storage.put = putting


if __name__ == "__main__":
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    paint_quickly()
    arm(Bomb(sys.argv[1], int(sys.argv[2])))
    sys.exit(serve())
