"""`atelier serve` that kills itself with SIGKILL at a chosen moment: everything is the real server's but the engine.

    python -m tests.integration.crashing MOMENT NTH      the NTH time that MOMENT comes, counted from the start

The engine paints at once and without a model, so that many starts cost little; a picture's colour is its seed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ai.cards import ModelCard
from ai.types import (
    EngineEvent,
    EngineNumbers,
    Finished,
    GenerationRequest,
    ModelReady,
    Phase,
    Picture,
    Started,
    Stepped,
)
from atelier.serve import serve
from factory import service
from server.database.sql import SqlJobStore
from server.job import Job, JobState
from server.storage.local import LocalArtifacts
from server.webhook import OutboxCall

STEP = 0.01  # seconds
MOMENTS = ("admitted", "taken up", "started", "stored", "ended")
NEVER = "never"


class QuickPainter:
    """A `Painter` as factory.gpu.EngineThreads is built."""

    def __init__(
        self,
        reactor: Any,
        cards: Sequence[ModelCard],
        settings: Any,
        *,
        on_events: Callable[[Sequence[EngineEvent]], None],
        on_death: Callable[[str], None],
    ) -> None:
        self.cards = cards
        self._reactor = reactor
        self._tell = on_events

    def start(self, model: str) -> None:
        """Ready at once."""
        self._reactor.callLater(0, self._tell, [ModelReady(model, 0.0)])

    def stop(self) -> None:
        """There is no thread."""

    def submit(self, request: GenerationRequest) -> None:
        """Paint it in three turns."""
        name = request.request_id
        self._reactor.callLater(STEP, self._tell, [Started(name)])
        self._reactor.callLater(2 * STEP, self._tell, [Stepped(name, Phase.DENOISING, 1, 2, 0.5, 0.0)])
        pictures = tuple(
            Picture(seed, request.width, request.height, bytes([seed % 256]) * (request.width * request.height * 3))
            for seed in range(request.seed, request.seed + request.num_images)
        )
        self._reactor.callLater(3 * STEP, self._tell, [Finished(name, pictures, ())])

    def cancel(self, request_id: str) -> None:
        """Nobody does here."""

    def numbers(self) -> EngineNumbers:
        """None."""
        return EngineNumbers()


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
    admit, take_up, move, put = SqlJobStore.admit, SqlJobStore.take_up, SqlJobStore.move, LocalArtifacts.put

    async def admitting(store: SqlJobStore, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        kept = await admit(store, job, calls, leased=leased)
        bomb.passed("admitted")
        return kept

    async def taking_up(store: SqlJobStore, *, at: float, begin: bool) -> list[Job]:
        taken = await take_up(store, at=at, begin=begin)
        if taken:
            bomb.passed("taken up")
        return taken

    async def moving(store: SqlJobStore, job_id: str, state: JobState, **what: Any) -> Job:
        moved = await move(store, job_id, state, **what)
        if state is JobState.STARTING:
            bomb.passed("started")
        elif state is JobState.SUCCEEDED:
            bomb.passed("ended")
        return moved

    async def putting(store: LocalArtifacts, key: str, data: bytes, content_type: str) -> str:
        url = await put(store, key, data, content_type)
        bomb.passed("stored")
        return url

    patched: Any = SqlJobStore
    patched.admit, patched.take_up, patched.move = admitting, taking_up, moving
    storage: Any = LocalArtifacts
    storage.put = putting
    built: Any = service
    built.EngineThreads = QuickPainter


if __name__ == "__main__":
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    arm(Bomb(sys.argv[1], int(sys.argv[2])))
    sys.exit(serve())
