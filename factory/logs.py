"""Logs: structlog for our own, Twisted's and the standard library's bridged in, all written by a thread of their own."""

from __future__ import annotations

import logging
import queue
import sys
from collections.abc import Callable
from logging.handlers import QueueHandler, QueueListener
from typing import Any, TextIO, cast

import structlog
from twisted.logger import STDLibLogObserver, globalLogBeginner

from config import Settings

LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}
QUEUED = 10_000  # lines that wait for a slow terminal or disk; beyond, lines are dropped rather than jobs held up


class _Handing(QueueHandler):
    """Hands records over as they are: structlog's own formatter makes the text on the other side."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """The queue is full: the line is lost, on purpose."""


class _Writing(QueueListener):
    """The thread that writes. At the end it waits for a place in a full queue instead of raising."""

    def enqueue_sentinel(self) -> None:
        lines = cast("queue.Queue[Any]", self.queue)
        lines.put(None)  # what QueueListener takes for the end


def set_up_logging(settings: Settings, stream: TextIO | None = None) -> Callable[[], None]:
    """Log to `stream` (stderr) from now on. Gives a function that writes out what waits, for the very end."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        *([_of(settings.process)] if settings.process else []),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    out = stream or sys.stderr
    last: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[settings.log_level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    writer = logging.StreamHandler(out)
    writer.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    lines: queue.Queue[Any] = queue.Queue(QUEUED)
    listener = _Writing(lines, writer)
    listener.start()
    root = logging.getLogger()
    root.handlers[:] = [_Handing(lines)]
    root.setLevel(LEVELS[settings.log_level])
    for chatty in ("twisted", "diffusers", "transformers", "httpx", "filelock", "urllib3"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, LEVELS[settings.log_level]))
    twisted: Any = STDLibLogObserver("twisted")
    globalLogBeginner.beginLoggingTo([twisted], redirectStandardIO=False, discardBuffer=True)
    return listener.stop


def _of(process: str) -> Any:
    """Each line says which of several processes wrote it."""

    def add(logger: Any, method: str, line: dict[str, Any]) -> dict[str, Any]:
        return {**line, "process": process}

    return add
