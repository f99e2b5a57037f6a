"""What custom models' classes say of themselves, asked in processes that live for that answer alone.

Importing somebody's module may take seconds, print, hang or end the process, so the server itself never does.
"""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

from ai.custom.cards import ClassPath, CustomCard
from ai.custom.framing import Frames, FramingError, frame
from ai.custom.launching import command
from ai.custom.process import Ending

log = logging.getLogger(__name__)

_ENDING = 10.0  # seconds for a keeper to end a process: it needs milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under which a class is asked: bytes of memory, seconds, and the environment that its process has."""

    memory_limit: int
    seconds: float
    environment: Mapping[str, str]


def describe(paths: Mapping[str, ClassPath], terms: Terms) -> list[CustomCard]:
    """The cards of these models, by their names, asked all at once; a class that does not answer has a card with a problem."""
    asked = [(name, path, _Asked(path, terms)) for name, path in paths.items()]
    return [_card(name, path, process) for name, path, process in asked]


def _card(name: str, path: ClassPath, process: _Asked) -> CustomCard:
    with process:
        told = process.answer()
    if told.get("say") != "described":
        reason = f"{path}: {told['reason']}"
        log.error("custom model %s cannot be used: %s\n%s", name, reason, told.get("trace", ""))
        return CustomCard(name=name, path=path, problem=reason)
    if told["repeatable"] and not told["code"]:
        log.warning(
            "custom model %s says that it is repeatable, but nothing is answered as before: which files of code it may run"
            " cannot be told, or they are too many, or among too many others", name,
        )  # fmt: skip
    return CustomCard(
        name=name,
        path=path,
        model_type=told["model_type"],
        description=told["description"],
        input_schema=told["input_schema"],
        memory=told["memory"],
        memory_limit=told["memory_limit"],
        predict_seconds=told["predict_seconds"],
        cost=told["cost"],
        cost_by=told["cost_by"],
        repeatable=told["repeatable"],
        code=tuple(told["code"]),
    )


class _Asked:
    """A process that was asked to describe a class."""

    def __init__(self, path: ClassPath, terms: Terms) -> None:
        self._ends_at = time.monotonic() + terms.seconds
        self._seconds = terms.seconds
        theirs, ours = os.pipe()
        answers, told = os.pipe()
        self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  # our own command line
            command(terms.memory_limit, theirs, told),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs, told),
            env=dict(terms.environment),
        )
        os.close(theirs)
        os.close(told)
        self._answers = answers
        with os.fdopen(ours, "wb") as requests:
            requests.write(frame({"do": "describe", "module": path.module, "name": path.name}))

    def __enter__(self) -> _Asked:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._answers)
        _pipe(self._process.stdin).close()
        try:
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:  # pragma: no cover  # a process that no signal ends
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()

    def answer(self) -> Mapping[str, Any]:
        """Its answer, or what took the place of one."""
        frames = Frames(0)
        try:
            for data in self._pieces():
                for message in frames.receive(data):
                    return message.head
        except TimeoutError:
            return {"reason": f"importing it took more than {self._seconds:g} s"}
        except FramingError as error:
            return {"reason": f"its process wrote something else than an answer: {error}"}
        return {"reason": f"importing it: {self._how()}"}

    def _pieces(self) -> Iterator[bytes]:
        while data := self._read(self._answers):
            yield data

    def _read(self, descriptor: int) -> bytes:
        if not select.select([descriptor], [], [], max(0.0, self._ends_at - time.monotonic()))[0]:
            raise TimeoutError
        return os.read(descriptor, 1 << 16)

    def _how(self) -> str:
        """The keeper's last words."""
        try:
            lines = self._last_words()
        except TimeoutError:
            return str(Ending("lost"))
        return next((str(Ending.of(told)) for told in map(json.loads, lines) if "ended" in told), str(Ending("lost")))

    def _last_words(self) -> Iterable[bytes]:
        words, status = b"", _pipe(self._process.stdout).fileno()
        while data := self._read(status):
            words += data
        return words.splitlines()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
