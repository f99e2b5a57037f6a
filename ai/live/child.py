"""Where the stream process begins: `python -P child.py REQUESTS ANSWERS THREADS PATH`, as `ai.live.launching` says it."""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Find modules where the server does, and answer it."""
    requests, answers, threads, path = sys.argv[1:]
    sys.path[:] = json.loads(path)
    from ai.live.loop import run

    run(int(requests), int(answers), int(threads))


if __name__ == "__main__":
    main()
