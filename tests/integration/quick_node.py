"""`atelier serve` with the engine of tests.quick_painter, which here makes twenty steps of STEP seconds.

python -m tests.integration.quick_node STEP
"""

from __future__ import annotations

import sys
from typing import Any

from ai.types import Finished, GenerationRequest, Phase, Picture, Started, Stepped
from atelier.serve import serve
from factory import service
from tests.quick_painter import QuickPainter

STEPS = 20


class SteadyPainter(QuickPainter):
    """Paints in as many steps as can be followed."""

    def submit(self, request: GenerationRequest) -> None:
        """Paint it."""
        name = request.request_id
        self._painted.add(name)
        self._later(0, Started(name))
        for step in range(1, STEPS + 1):
            self._later(step, Stepped(name, Phase.DENOISING, step, STEPS, step / STEPS, 0.0))
        pictures = tuple(
            Picture(seed, request.width, request.height, bytes([seed % 256]) * (request.width * request.height * 3))
            for seed in range(request.seed, request.seed + request.num_images)
        )
        self._later(STEPS + 1, Finished(name, pictures, ()))


if __name__ == "__main__":
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    SteadyPainter.step_seconds = float(sys.argv[1])
    built: Any = service
    built.EngineThreads = SteadyPainter
    sys.exit(serve())
