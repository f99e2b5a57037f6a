"""A pytest plugin: all that the suite logs and prints is searched for every secret that it used. One that is found fails the run.

Secrets: what was ever made a `SecretStr` in this process, and what child processes were given by variables that hold secrets.
Logged and printed: what pytest captures, or a test with pytest's or structlog's help, and what child processes say, by pipes or
into files.
"""

from __future__ import annotations

import asyncio.subprocess
import io
import json
import os
import re
import subprocess
import tempfile
import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

import pytest
from pydantic import SecretStr
from structlog.testing import LogCapture

from config.settings import Settings, environment_names

MOTO = (
    "moto_server"  # not ours, and logs the signed addresses that it is asked for, in which the key's name has to stand
)
LEAST = 8  # characters: what is shorter stands in logs by chance


class Leaks:
    """What was said, and what must not stand in it."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # for as long as the run lasts
        self._ends: list[int] = []
        self._where: list[str] = []

    def keep_secret(self, value: str) -> None:
        """It must not be said. Of an address the password alone is a secret, if it has one."""
        if "://" in value:
            with suppress(ValueError):
                self._add(unquote(urlsplit(value).password or ""))
        else:
            self._add(value)

    def keep_environment(self, environment: Mapping[str, str]) -> None:
        """What a child process was given."""
        for name in SECRET_NAMES & environment.keys():
            value = environment[name]
            for part in _tokens(value) if name in TOKEN_NAMES else [value]:
                self.keep_secret(part)

    def hear(self, where: str, said: str | bytes) -> None:
        """Something was said."""
        if said:
            self._said.write(said if isinstance(said, bytes) else said.encode(errors="replace"))
            self._said.write(b"\n")
            self._ends.append(self._said.tell())
            self._where.append(where)

    def found(self) -> list[str]:
        """Where secrets stand in what was said; which, is not repeated."""
        self._said.seek(0)
        said = self._said.read()
        places = {place for secret in self._secrets for word in _ways(secret) for place in self._places(said, word)}
        return sorted(places)

    def close(self) -> None:
        """Forget it all."""
        self._said.close()

    def _add(self, secret: str) -> None:
        if len(secret) >= LEAST:
            self._secrets.add(secret)

    def _places(self, said: bytes, word: bytes) -> Iterator[str]:
        at = said.find(word)
        while at >= 0:
            nth = bisect_right(self._ends, at)
            begin, end = said.rfind(b"\n", 0, at) + 1, said.find(b"\n", at)
            line = said[begin:end].replace(word, b"***").decode(errors="replace")
            yield f"{self._where[nth]}: {line[:200]}"
            at = said.find(word, self._ends[nth])


def _tokens(value: str) -> list[str]:
    return [part.partition(":")[2] for part in value.split(",")]


def _ways(secret: str) -> set[bytes]:
    """As it stands, in an address, in JSON."""
    return {secret.encode(), quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}


def _names(holds: Callable[[str], bool]) -> frozenset[str]:
    fields = [name for name, info in Settings.model_fields.items() if holds(str(info.annotation))]
    return frozenset(name for field in fields for name in environment_names(field))


SECRET_NAMES = _names(lambda kind: "SecretStr" in kind) | {"ATELIER_TOKEN"}
TOKEN_NAMES = _names(lambda kind: "SecretStr" in kind and "dict" in kind)


class _File:
    """A file that a child process writes to, as far as it was not read yet."""

    def __init__(self, descriptor: int, where: str, process: subprocess.Popen[Any]) -> None:
        self._file = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
        self._at = os.fstat(self._file).st_size
        self._process = process
        self.where = where

    def rest(self) -> bytes | None:
        """What was added; None when nothing will be any more."""
        ended = self._process.returncode is not None
        said = b"".join(iter(lambda: self._read(), b""))
        if ended and not said:
            os.close(self._file)
            return None
        return said

    def _read(self) -> bytes:
        said = os.pread(self._file, 1 << 20, self._at)
        self._at += len(said)
        return said


class Ears:
    """Hears what this process and its children say, between `put_on` and `take_off`."""

    _originals: ClassVar[list[tuple[Any, str, Any]]] = []

    def __init__(self, leaks: Leaks) -> None:
        self._leaks = leaks
        self._files: list[_File] = []

    def put_on(self) -> None:
        """Begin."""
        leaks, ears = self._leaks, self
        make_secret = SecretStr.__init__
        start = subprocess.Popen.__init__
        communicate = subprocess.Popen.communicate
        receive = asyncio.subprocess.SubprocessStreamProtocol.pipe_data_received
        capture = LogCapture.__call__
        read_captured = pytest.CaptureFixture.readouterr

        def made(secret: SecretStr, value: str) -> None:
            make_secret(secret, value)
            if isinstance(value, str):
                leaks.keep_secret(value)

        def started(process: Any, command: Any, *arguments: Any, **named: Any) -> None:
            start(process, command, *arguments, **named)
            ears._child(process, command, named)

        def communicated(process: Any, *arguments: Any, **named: Any) -> Any:
            said = communicate(process, *arguments, **named)
            for text in said:
                leaks.hear(f"{_test()}: {_shown(process.args)}", text or "")
            return said

        def received(protocol: Any, descriptor: int, data: Any) -> None:
            leaks.hear(f"{_test()}: a child process", bytes(data))
            receive(protocol, descriptor, data)

        def logged(captured: LogCapture, logger: Any, method: str, line: Any) -> Any:
            error = traceback.format_exception(line["exc_info"]) if _is_error(line.get("exc_info")) else []
            leaks.hear(f"{_test()}: a log line", f"{line} {''.join(error)}")
            return capture(captured, logger, method, line)

        def read(fixture: Any) -> Any:
            told = read_captured(fixture)
            for text in told:
                leaks.hear(f"{_test()}: captured", text)
            return told

        self._replace(SecretStr, "__init__", made)
        self._replace(subprocess.Popen, "__init__", started)
        self._replace(subprocess.Popen, "communicate", communicated)
        self._replace(asyncio.subprocess.SubprocessStreamProtocol, "pipe_data_received", received)
        self._replace(LogCapture, "__call__", logged)
        self._replace(pytest.CaptureFixture, "readouterr", read)

    def take_off(self) -> None:
        """End."""
        while self._originals:
            setattr(*self._originals.pop())

    def read_files(self) -> None:
        """What children have written since."""
        for file in tuple(self._files):
            said = file.rest()
            if said is None:
                self._files.remove(file)
            else:
                self._leaks.hear(file.where, said)

    def _replace(self, owner: Any, name: str, by: Any) -> None:
        self._originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, by)

    def _child(self, process: subprocess.Popen[Any], command: Any, named: Mapping[str, Any]) -> None:
        self._leaks.keep_environment(named.get("env") or {})
        if _shown(command).startswith(MOTO):
            return
        for output in {_descriptor(named.get(name)) for name in ("stdout", "stderr")} - {None}:
            with suppress(OSError):  # a pipe, a terminal
                self._files.append(_File(output or 0, f"{_test()}: {_shown(command)}", process))


def _is_error(info: Any) -> bool:
    return isinstance(info, BaseException)


def _descriptor(output: Any) -> int | None:
    """Of an output that is a file."""
    if isinstance(output, int):
        return output if output >= 0 else None
    with suppress(AttributeError, io.UnsupportedOperation):
        return int(output.fileno())
    return None


def _shown(command: Any) -> str:
    words = [str(command)] if isinstance(command, (str, os.PathLike)) else [str(word) for word in command]
    return " ".join(re.sub(r".*/", "", word) for word in words[:3])


def _test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "between tests").partition(" ")[0]


LEAKS = Leaks()
EARS = Ears(LEAKS)
_FOUND: list[str] = []


def pytest_configure() -> None:
    """Begin to listen, before any test is imported."""
    EARS.put_on()


def pytest_unconfigure() -> None:
    """Listen no more."""
    EARS.take_off()
    LEAKS.close()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What this process has said, and its children into files."""
    for kind, text in report.sections:
        LEAKS.hear(f"{report.nodeid} ({kind})", text)
    EARS.read_files()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a secret was told; one of several processes tells the one that reports."""
    EARS.read_files()
    _FOUND.extend(LEAKS.found())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["leaks"] = list(_FOUND)
    if _FOUND:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes (pytest-xdist) has ended."""
    _FOUND.extend(node.workeroutput["leaks"] if hasattr(node, "workeroutput") else ())  # else it died, and that is told


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say where."""
    if _FOUND:
        terminalreporter.section("secrets were told", sep="=", red=True)
        for place in _FOUND:
            terminalreporter.line(place)
