"""How much memory our own code holds, while tracemalloc traces it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FRAMES = 8  # of a block's origin: a library's, which ours called, are often the last of them
ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def traced() -> Iterator[None]:
    """Trace what is asked for within."""
    tracemalloc.start(FRAMES)
    try:
        yield
    finally:
        tracemalloc.stop()


def held_by(room: str) -> int:
    """Bytes that the code of one of the repository's folders, or what it called, has asked for and not given back.

    What measures coverage, reports to another process or was left running by another test asks for some too, which is none of
    its business.
    """
    gc.collect()
    theirs = tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.Filter(True, str(ROOT / room / "*"), all_frames=True)]
    )
    return sum(trace.size for trace in theirs.traces)
