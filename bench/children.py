"""Child processes: started, pinned to a core, measured, and ended whatever happens to the one that started them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
GRACE = 10.0  # seconds between SIGTERM and SIGKILL
SHOWN = 3000  # characters of a failed child's errors


class ChildFailed(Exception):
    """A child ended when it was still needed. Its last words are the text."""


class Child:
    """A running Python module. It is told things, and answers, a line of JSON at a time."""

    def __init__(self, module: str, process: subprocess.Popen[str], errors: Path) -> None:
        self.module = module
        self.process = process
        self._errors = errors

    def tell(self, message: object) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Its next line. Raises ChildFailed when there is none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(GRACE)
            raise self.failure()
        return json.loads(line)

    def ask(self, message: object) -> Any:
        """Tell, then hear."""
        self.tell(message)
        return self.hear()

    def check(self) -> None:
        """Raise ChildFailed if it has ended."""
        if self.process.poll() is not None:
            raise self.failure()

    def failure(self) -> ChildFailed:
        """What to say of its end."""
        words = self._errors.read_text(encoding="utf-8", errors="replace")[-SHOWN:]
        return ChildFailed(f"{self.module} ended with {self.process.returncode}:\n{words}")


@contextmanager
def running(
    module: str,
    *arguments: str,
    cores: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Iterator[Child]:
    """`python -m module arguments`, on `cores` alone if any are given, until the block ends.

    The child gets a session of its own, so that a Ctrl-C reaches this process alone, which then ends the child in order.
    """
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        errors = Path(folder) / "stderr"
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [python, "-m", module, *arguments],
                cwd=folder,  # where no .env lies
                env=clean_environment() | dict(environment or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        try:
            if cores:
                os.sched_setaffinity(process.pid, cores)  # at once, so that its threads inherit it
            yield Child(module, process, errors)
        finally:
            _end(process)


def clean_environment() -> dict[str, str]:
    """The environment without anybody's Atelier settings; OpenMP's threads sleep when they wait."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
    return {"OMP_WAIT_POLICY": "passive"} | kept | {"PYTHONPATH": str(ROOT)}


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads, so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def tree_cpu_seconds(pid: int) -> float:
    """The same of a process with all that it has started and that still runs."""
    process = psutil.Process(pid)
    return sum(cpu_seconds(each.pid) for each in (process, *process.children(recursive=True)))


def memory_kb(pid: int) -> dict[str, int]:
    """Rss, Pss and Private_Dirty of a process, in kB (proc(5), smaps_rollup)."""
    wanted = ("Rss:", "Pss:", "Private_Dirty:")
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return {line.split()[0].rstrip(":"): int(line.split()[1]) for line in lines if line.startswith(wanted)}


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: through every `finally`."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        process.wait()
        with suppress(ProcessLookupError):
            os.killpg(
                process.pid, signal.SIGKILL
            )  # what it had started itself, a server's workers say; the session is its own
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # it may still hold a line for one that has gone
                    pipe.close()
