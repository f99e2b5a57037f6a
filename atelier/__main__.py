"""Entry point of `atelier` and `python -m atelier`: sets the stage, and only then imports what stands on it."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded: design, Threads
    from ai import heap

    heap.settle()
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]  # before any import that would install another
    from atelier.commands import app

    app(prog_name="atelier")


if __name__ == "__main__":
    main()
