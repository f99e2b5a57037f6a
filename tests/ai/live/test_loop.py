"""The stream process as the server runs it: over pipes, until they close."""

from __future__ import annotations

import os
import subprocess
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from ai.custom.launching import environment
from ai.live import packing
from ai.live.launching import command
from ai.live.loop import Worker
from ai.live.packing import Messages, Packed, PackingError, pack, pack_forget, pack_tick
from tests.ai.live.programs import face


def one(data: bytes) -> Packed:
    """The one message in it."""
    (message,) = Messages().receive(data)
    return message


def test_a_model_is_loaded_run_and_forgotten(tmp_path: Path) -> None:
    """In one process' life."""
    folder = face(tmp_path / "face").folder
    worker = Worker()
    loaded = one(worker.answer(one(pack(packing.LOAD, str(folder).encode()))))
    assert (loaded.kind, packing.read_loaded(loaded.body) > 0) == (packing.LOADED, True)
    inputs = [array("f", [1.0, 2.0]).tobytes()]
    for frames in (1.0, 2.0):
        ran = packing.read_ran(one(worker.answer(one(pack_tick(4, [9], [0.5], inputs)))).body, 3)
        assert (ran.number, ran.outcomes, list(ran.values)) == (4, b"\0", [3.0, frames, 0.5])
    assert worker.answer(one(pack_forget([9]))) == b""
    assert packing.read_ran(one(worker.answer(one(pack_tick(5, [9], [0.5], inputs)))).body, 3).values[1] == 1.0


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """In words."""
    refused = one(Worker().answer(one(pack(packing.LOAD, str(tmp_path).encode()))))
    assert refused.kind == packing.REFUSED
    assert b"manifest.toml" in refused.body


@pytest.mark.parametrize("message", [pack(99), pack_tick(1, [1], [0.0], [b"12345678"]), pack_forget([1])])
def test_what_is_not_spoken_here_ends_it(message: bytes) -> None:
    """As does a tick before a model."""
    with pytest.raises(PackingError):
        Worker().answer(one(message))


def test_a_program_that_raises_is_told_on_stderr_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not at each of thirty ticks a second."""
    worker = Worker()
    worker.answer(one(pack(packing.LOAD, str(face(tmp_path / "face").folder).encode())))
    assert worker._batch is not None
    for _ in range(3):
        worker._batch.failed = "ValueError: below\nzero"
        worker.answer(one(pack_tick(1, [1], [0.0], [array("f", [1, 2]).tobytes()])))
    assert capsys.readouterr().err == "ValueError: below zero\n"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """One that runs, with the ends of its pipes: to ask, and to hear."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    began = subprocess.Popen(
        command(theirs_in, theirs_out, 1), pass_fds=(theirs_in, theirs_out), cwd=tmp_path, env=environment(os.environ)
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield began, ours_out, ours_in
    finally:
        began.kill()
        began.wait()
        os.close(ours_in)


def test_a_process_answers_and_ends_with_its_pipe(
    process: tuple[subprocess.Popen[bytes], int, int], tmp_path: Path
) -> None:
    """Wherever it is begun; when the server is gone so is it."""
    began, ask, hear = process
    messages = Messages()

    def heard() -> Packed:
        while True:
            for message in messages.receive(os.read(hear, 1 << 16)):
                return message

    assert heard().kind == packing.READY
    os.write(ask, pack(packing.LOAD, str(face(tmp_path / "face").folder).encode()))
    assert heard().kind == packing.LOADED
    os.write(ask, pack_tick(1, [1], [0.0], [array("f", [1, 2]).tobytes()]))
    assert packing.read_ran(heard().body, 3).values[0] == 3.0
    os.close(ask)
    assert began.wait(timeout=60) == 0
