"""`atelier serve` that kills itself with SIGKILL the nth time that a moment comes (tests.integration.crashing).

    python -m tests.chaos.server real|quick MOMENT NTH

The engine is the real one, or one that paints at once.
"""

from __future__ import annotations

import sys

from atelier.serve import serve
from tests.integration.crashing import Bomb, arm
from tests.quick_painter import paint_quickly

if __name__ == "__main__":
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    arm(Bomb(sys.argv[2], int(sys.argv[3])))
    if sys.argv[1] == "quick":
        paint_quickly()
    sys.exit(serve())
