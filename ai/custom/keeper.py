"""The process between the server and a custom model's: it ends the model, and all that the model has begun, when that is due.

Started by path, with the standard library alone, so that it stays small and has one thread. It forks the model's process and
watches over it:

    descriptor 0   from the server; when it closes, the server is gone
               1   to the server: a JSON object a line, {"resident": bytes} when that has changed, and at last {"ended": …}
               2   to the server's log: what the model prints, on whichever of its outputs
    two more       requests to the model, and its answers (ai.custom.framing); the keeper closes its own ends

What may be filled is what is resident (the proportional share, where there are several processes), looked at every 50 ms. A limit
of address space (RLIMIT_AS) cannot be it: importing torch alone maps nearly three times what it fills, and CUDA maps all of
the device's memory and the machine's. A process that is quicker than the looks fills some hundred megabytes more; that the
kernel ends it, and not the server, if the machine itself runs out, is said by its oom_score_adj.

Orphans come to the keeper (PR_SET_CHILD_SUBREAPER), so that a model's own children are found wherever they have gone to. If the
keeper itself is killed, the kernel kills the model (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_EVERY = 0.05  # seconds between looks at the memory
COUNT_EVERY = 1.0  # seconds between looks for processes that the model has begun: /proc is read whole for that
TOLD_EVERY = 0.5  # seconds between figures for the server
PAGE = os.sysconf("SC_PAGE_SIZE")


def die_with_parent(signal_number: int, parent: int) -> None:
    """Have the kernel send a signal when the parent's thread has ended; end now if it has already."""
    with suppress(AttributeError, OSError):  # another system than Linux: then the closed pipe is all that tells
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of whatever process among the descendants loses its own."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Every process below `root`."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])  # the name before it may hold anything
                children.setdefault(parent, []).append(int(name))
    found, line = [], [root]
    while line:
        below = children.get(line.pop(), [])
        found += below
        line += below
    return found


def resident(processes: list[int]) -> int:
    """The bytes of memory that these processes fill together."""
    return sum(_resident(process, shared=len(processes) > 1) for process in processes)


def _resident(process: int, *, shared: bool) -> int:
    with suppress(OSError, ValueError, IndexError):
        if not shared:
            with open(f"/proc/{process}/statm", "rb") as file:
                return int(file.read().split()[1]) * PAGE
        with open(f"/proc/{process}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    return 0  # it has ended


class Keeper:
    """Watches over one model's process until it has ended, or has to."""

    def __init__(self, model: int, limit: int) -> None:
        self._model = model
        self._limit = limit
        self._processes = [model]
        self._counted = self._told = 0.0
        self._peak = self._last = 0
        self._status: int | None = None

    def watch(self, wake: int) -> dict[str, Any]:
        """Returns when nothing of the model is left: how it ended. `wake` is readable after a signal."""
        why = ""
        while not why:
            ready, _, _ = select.select([0, wake], [], [], LOOK_EVERY)
            if wake in ready:
                numbers = os.read(wake, 512)
                why = "stopped" if signal.SIGTERM in numbers else ""
            if 0 in ready and not os.read(0, 512):
                why = "server gone"
            if self._reaped():
                why = "exit"
            why = why or self._look()
        self._end_all()
        status = self._status or 0
        told: dict[str, Any] = {"ended": why, "peak": self._peak}
        if why == "exit":
            told |= {"signal": os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {"code": os.WEXITSTATUS(status)}
        return told

    def _look(self) -> str:
        now = time.monotonic()
        if now - self._counted >= COUNT_EVERY:
            self._counted, self._processes = now, [self._model, *descendants(self._model)]
            self._processes += [one for one in descendants(os.getpid()) if one not in self._processes]  # orphans
        size = resident(self._processes)
        self._peak = max(self._peak, size)
        if now - self._told >= TOLD_EVERY and abs(size - self._last) * 20 > self._last:
            self._told, self._last = now, size
            say({"resident": size})
        return "memory" if self._limit and size > self._limit else ""

    def _reaped(self) -> bool:
        """Whether the model's own process has ended; orphans are buried along the way."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._model:
                    self._status = ended[1]
        return self._status is not None

    def _end_all(self) -> None:
        """Kill until there is nobody left; who begins others meanwhile does not begin them for long."""
        while True:
            for process in descendants(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            try:
                ended, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            if ended == self._model:
                self._status = status


def say(told: dict[str, Any]) -> None:
    """Tell the server, if it is there."""
    with suppress(OSError):
        os.write(1, json.dumps(told).encode() + b"\n")


def become_model(keeper: int, pipes: tuple[int, int], path: list[str]) -> None:
    """In the forked process: be the model's, whatever happens."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.setpgid(0, 0)
    die_with_parent(signal.SIGKILL, keeper)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold users' inputs
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    sys.path[:] = path
    from ai.custom.child import run

    run(*pipes)


def main(server: int, limit: int, pipes: tuple[int, int], path: list[str]) -> None:
    """Run a model's process, which asks and answers by the two pipes, and end with it."""
    os.setsid()  # an operator's Ctrl-C is for the server, which ends us when it is time
    die_with_parent(signal.SIGTERM, server)
    adopt_orphans()
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keeper = os.getpid()
    model = os.fork()
    if model == 0:
        code = 70  # what it ends with where not even its own beginnings went well
        try:
            os.close(read)
            os.close(write)
            become_model(keeper, pipes, path)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    os.close(pipes[0])
    os.close(pipes[1])
    say(Keeper(model, limit).watch(read))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])), json.loads(sys.argv[5]))
