"""`atelier serve` with an engine that costs nothing, for what HTTP costs.

    python -m bench.http_server quick|holding|metronome

quick: every job is painted at once. holding: jobs wait, and never begin, so that a submit is measured alone. metronome: every job
tells a step ten times a second, with the time at which it told it (CLOCK_MONOTONIC, in place of the seconds that are left).
"""

from __future__ import annotations

import sys
import time
from typing import Any

from ai.types import GenerationRequest, Phase, Started, Stepped
from atelier.serve import serve
from factory import service
from tests.quick_painter import QuickPainter

BEAT = 0.1  # seconds between two steps of a job
LAST_STEP = 1_000_000  # never reached
TURN = 1000.0  # seconds after which the told time begins anew: it is rounded to milliseconds on its way


class HoldingPainter(QuickPainter):
    """Takes everything, begins nothing."""

    def submit(self, request: GenerationRequest) -> None:
        """Keep it."""
        self._painted.add(request.request_id)


class MetronomePainter(HoldingPainter):
    """Says ten times a second what time it is."""

    def submit(self, request: GenerationRequest) -> None:
        """Begin it, and go on for ever."""
        super().submit(request)
        self._later(1, Started(request.request_id))
        self._reactor.callLater(BEAT, self._beat, request.request_id, 1)

    def _beat(self, name: str, step: int) -> None:
        if name in self._painted:
            self._reactor.callLater(BEAT, self._beat, name, step + 1)
            share = step / LAST_STEP
            self._tell([Stepped(name, Phase.DENOISING, step, LAST_STEP, share, time.monotonic() % TURN)])


PAINTERS: dict[str, type[QuickPainter]] = {
    "quick": QuickPainter,
    "holding": HoldingPainter,
    "metronome": MetronomePainter,
}

if __name__ == "__main__":
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    QuickPainter.step_seconds = 0.0
    built: Any = service
    built.EngineThreads = PAINTERS[sys.argv[1]]
    sys.exit(serve())
