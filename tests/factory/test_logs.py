"""Logs: one line an event, from whoever spoke, and nobody waits for the terminal."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from twisted.logger import LogBeginner, Logger, LogPublisher

from config import load_settings
from factory import logs as factory_logs
from factory.logs import QUEUED, set_up_logging


class Logs:
    """Logging that a test sets up, beside a Twisted publisher of the test's own."""

    def __init__(self) -> None:
        self.twisted: Any = LogPublisher()

    def __call__(self, stream: Any, **settings: Any) -> Callable[[], None]:
        """Log to `stream`; gives what stops it."""
        return set_up_logging(load_settings(**{"log_format": "json", **settings}), stream)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logs]:
    """Set up logging; everything is as it was afterwards."""
    logs = Logs()
    warnings: Any = SimpleNamespace(showwarning=None)  # Twisted redirects Python's
    beginner = LogBeginner(logs.twisted, io.StringIO(), sys, warnings)
    monkeypatch.setattr(factory_logs, "globalLogBeginner", beginner)
    root = logging.getLogger()
    names = ("twisted", "diffusers", "transformers", "httpx", "filelock", "urllib3")
    levels = [(logger, logger.level) for logger in (root, *map(logging.getLogger, names))]
    handlers, config = list(root.handlers), structlog.get_config()
    yield logs
    root.handlers[:] = handlers
    for logger, level in levels:
        logger.setLevel(level)
    structlog.configure(**config)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """What was written, a JSON object a line."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_its_job(start: Logs) -> None:
    """Time, level, logger, event and whatever was said with it, the job's id among it."""
    stream = io.StringIO()
    stop = start(stream)
    structlog.get_logger("tests.logs").info("job.accepted", job_id="job-1", owner="ada", prompt="two\nlines 별")
    stop()
    (line,) = lines(stream)
    assert (line["event"], line["job_id"], line["level"]) == ("job.accepted", "job-1", "info")
    assert line["prompt"] == "two\nlines 별"
    assert line["logger"] == "tests.logs"
    assert line["timestamp"].endswith("Z")


def test_everyone_s_lines_come_the_same_way(start: Logs) -> None:
    """The standard library's and Twisted's beside ours."""
    stream = io.StringIO()
    stop = start(stream)
    logging.getLogger("ai.engine").warning("a turn of the engine's loop failed: %s", "why")
    Logger("twisted.tests", observer=start.twisted).warn("unhandled {what}", what="error")
    stop()
    events = [line["event"] for line in lines(stream)]
    assert "a turn of the engine's loop failed: why" in events
    assert "unhandled error" in events


def test_an_exception_is_in_its_line(start: Logs) -> None:
    """As text, in the same object."""
    stream = io.StringIO()
    stop = start(stream)
    try:
        raise ValueError("broken inside")
    except ValueError:
        structlog.get_logger("tests.logs.exception").exception("job.broken", job_id="job-1")
    stop()
    (line,) = lines(stream)
    assert "ValueError: broken inside" in line["exception"]


@pytest.mark.parametrize(("level", "expected"), [("INFO", ["two"]), ("DEBUG", ["one", "two"])])
def test_lines_below_the_level_are_not_written(start: Logs, level: str, expected: list[str]) -> None:
    """DEBUG is for those who ask."""
    stream = io.StringIO()
    stop = start(stream, log_level=level)
    log = structlog.get_logger(f"tests.logs.{level}")
    log.debug("one")
    log.info("two")
    stop()
    assert [line["event"] for line in lines(stream)] == expected


def test_the_console_s_form_is_for_people(start: Logs) -> None:
    """No colours where it is no terminal."""
    stream = io.StringIO()
    stop = start(stream, log_format="console")
    structlog.get_logger("tests.logs.console").info("job.accepted", job_id="job-1")
    stop()
    assert "job.accepted" in stream.getvalue()
    assert "job_id=job-1" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_settings_in_a_line_show_no_secret(start: Logs) -> None:
    """Not even where someone logs all of them."""
    stream = io.StringIO()
    stop = start(stream)
    settings = load_settings(tokens="ada:s3cret-ada-0123456789")
    structlog.get_logger("tests.logs.secret").info("started", settings=settings, tokens=settings.tokens)
    logging.getLogger("tests.logs.other").info("started with %s", settings)
    stop()
    assert len(lines(stream)) == 2
    assert "s3cret" not in stream.getvalue()


class Stuck(io.StringIO):
    """A terminal that takes nothing until `released`."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.entered = threading.Event()

    def write(self, text: str) -> int:
        """Wait, then take it."""
        self.entered.set()
        assert self.released.wait(30)
        return super().write(text)


def test_a_terminal_that_is_stuck_holds_up_nobody(start: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines beyond the queue are dropped without a word; those in it are written when it goes on, and stopping waits for them."""
    monkeypatch.setattr(factory_logs, "QUEUED", 20)
    stream = Stuck()
    stop = start(stream)
    log = structlog.get_logger("tests.logs.stuck")
    log.info("first")
    assert stream.entered.wait(10)
    for number in range(100):
        log.info("more", number=number)  # would hang here
    errors: list[BaseException] = []

    def end() -> None:
        try:
            stop()
        except BaseException as error:
            errors.append(error)

    stopping = threading.Thread(target=end)
    stopping.start()
    stopping.join(0.05)  # it waits for the terminal; had it raised, it would be gone
    stream.released.set()
    stopping.join(10)
    assert errors == []
    assert [line["event"] for line in lines(stream)] == ["first"] + ["more"] * 20
    assert QUEUED == 10_000
