"""`atelier serve` as several processes, each with the engine of tests.integration.quick_node.

python -m tests.integration.quick_processes STEP COUNT
"""

from __future__ import annotations

import sys
from typing import Any

from atelier.serve import serve
from factory import children

if __name__ == "__main__":
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]
    started: Any = children
    started.SERVE = [sys.executable, "-m", "tests.integration.quick_node", sys.argv[1]]
    sys.exit(serve(int(sys.argv[2])))
