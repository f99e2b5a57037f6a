"""A bare timer loop: how late a process of this machine is woken that wants to do something at a fixed rate, and does nothing.

    python -m bench.timer_loop

Told SECONDS on stdin, answers with the p99 in milliseconds.
"""

from __future__ import annotations

import json
import select
import sys
import time

RATE = 120.0  # times a second: four times a tick's, so that ten seconds have enough of them for a p99


def lateness(seconds: float) -> float:
    """The p99, milliseconds."""
    poll = select.epoll()
    late: list[float] = []
    due = time.monotonic()
    end = due + seconds
    while due < end:
        due += 1 / RATE
        while (left := due - time.monotonic()) > 0:
            poll.poll(left)
        late.append((time.monotonic() - due) * 1e3)
    poll.close()
    return sorted(late)[int(0.99 * len(late))]


def main() -> None:
    """Until stdin ends."""
    for line in sys.stdin:
        print(json.dumps(lateness(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
