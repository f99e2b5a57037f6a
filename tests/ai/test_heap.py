"""What a process keeps of the memory it freed. Each trial is a process of its own: a heap's settings are for the whole of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ai import heap
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import FakeModel

ROOT = Path(__file__).resolve().parents[2]
MB = 1 << 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the heap of glibc")

RESIDENT = """
import os
def resident():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""


def tried(program: str) -> int:
    """The number that a program prints which runs alone."""
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT + program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_what_lies_free_between_what_is_used_is_given_back() -> None:
    """100 MB in blocks of half a megabyte, of which one in twenty stays."""
    kept_free = tried(
        """
from ai import heap
assert heap.settle()
blocks = [bytes(1) * (1 << 19) for _ in range(200)]
for block in blocks: assert len(block) == 1 << 19
full = resident()
blocks = blocks[::20] + [bytes(1) * (1 << 19)]
before = resident()
assert heap.give_back()
print(resident() - (full - 95 * (1 << 20)))
"""
    )
    assert kept_free < 10 * MB


def test_a_large_block_that_was_freed_once_does_not_raise_what_is_kept() -> None:
    """Fifty blocks of 1 MB leave as much behind before and after one of 31 MB; glibc gives them back before it, and not after."""
    raised = tried(
        """
from ai import heap
assert heap.settle()
import numpy
def use(count, size):
    blocks = [numpy.ones(size << 20, numpy.uint8) for _ in range(count)]
    assert len(blocks) == count
begin = resident()
use(50, 1)
before = resident() - begin
use(1, 31)
use(50, 1)
print(resident() - begin - before)
"""
    )
    assert raised < 10 * MB


def test_many_threads_share_few_heaps() -> None:
    """However many threads ask for blocks."""
    heaps = tried(
        """
from ai import heap
assert heap.settle()
import ctypes, threading
barrier = threading.Barrier(40)
kept = []
def ask():
    barrier.wait()
    kept.append(bytearray(100_000))
    barrier.wait()
threads = [threading.Thread(target=ask) for _ in range(40)]
for thread in threads: thread.start()
for thread in threads: thread.join()
C = ctypes.CDLL(None)
C.tmpfile.restype = ctypes.c_void_p
stream = ctypes.c_void_p(C.tmpfile())
assert C.malloc_info(0, stream) == 0
C.fflush(stream)
size = C.ftell(stream)
C.rewind(stream)
told = ctypes.create_string_buffer(size)
assert C.fread(told, 1, size, stream) == size
print(told.raw.count(b"<heap nr="))
"""
    )
    assert 1 <= heaps <= heap.HEAPS


def test_an_engine_gives_back_what_is_free_when_it_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while a request is under way."""
    bench = Bench(lambda card, settings: FakeModel())
    given: list[int] = []
    monkeypatch.setattr("ai.heap.give_back", lambda: given.append(bench.engine.numbers().running))
    bench.engine.submit(a_request("a"))
    bench.engine.tidy()
    bench.engine.run()
    assert given == []
    bench.engine.tidy()
    bench.engine.run()
    assert given == [0]
