"""The stream process' loop: what it is asked (`ai.live.packing`), one message after the other, until the server is gone."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from pathlib import Path

import torch

from ai.live.batch import Batch
from ai.live.manifests import ManifestError, read_manifest
from ai.live.packing import (
    FORGET,
    LOAD,
    READY,
    REFUSED,
    TICK,
    Messages,
    Packed,
    PackingError,
    pack,
    pack_loaded,
    pack_ran,
    read_forget,
    read_tick,
)
from ai.live.program import ProgramError, load_program

NICENESS = (
    -10
)  # a tick is short and must not wait for painters' threads; without the right to it, it is as nice as they are
_TOLD_EVERY = 10.0  # seconds between two lines about a program that raises


class Worker:
    """One model, once it is loaded."""

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._input_bytes = 0  # of a row
        self._told_at = -_TOLD_EVERY

    def answer(self, message: Packed) -> bytes:
        """What is answered, b"" for nothing. Raises PackingError."""
        if message.kind == LOAD:
            return self._load(Path(message.body.decode()))
        batch = self._batch
        if batch is None:
            raise PackingError(f"a message of kind {message.kind} before a model was loaded")
        if message.kind == FORGET:
            batch.forget(read_forget(message.body))
            return b""
        if message.kind != TICK:
            raise PackingError(f"a message of kind {message.kind}")
        began = time.perf_counter()
        tick = read_tick(message.body, self._input_bytes)
        outcomes, values = batch.run(tick)
        self._tell(batch)
        return pack_ran(tick.number, time.perf_counter() - began, outcomes, values)

    def _load(self, folder: Path) -> bytes:
        try:
            manifest = read_manifest(folder)
            program, seconds = load_program(manifest)
        except (ManifestError, ProgramError) as error:
            return pack(REFUSED, str(error).encode())
        self._batch = Batch(program)
        self._input_bytes = manifest.input_bytes
        gc.collect()
        gc.freeze()  # what a program is made of lives as long as the process: no collection in a tick has to look at it
        return pack_loaded(seconds)

    def _tell(self, batch: Batch) -> None:
        if batch.failed and time.monotonic() - self._told_at >= _TOLD_EVERY:
            self._told_at = time.monotonic()
            sys.stderr.write(batch.failed[:900].replace("\n", " ") + "\n")
        batch.failed = ""


def run(requests: int, answers: int, threads: int) -> None:
    """Answer until the server has nothing more to ask; the arguments are file descriptors, and torch's threads."""
    torch.set_num_threads(threads)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    messages, worker = Messages(), Worker()
    _write(answers, pack(READY))
    with torch.inference_mode():
        while data := os.read(requests, 1 << 20):
            for message in messages.receive(data):
                if answer := worker.answer(message):
                    _write(answers, answer)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
