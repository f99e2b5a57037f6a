"""Traces, where the settings say where they go; else everything as it is, and nothing of OpenTelemetry loaded."""

from __future__ import annotations

from typing import Any, Protocol, cast
from urllib.parse import unquote

from config import Settings
from factory.joining import joined
from server.clock import Clock
from server.interfaces import ArtifactStore, Claims, JobObserver, Leases, Pool
from server.jobs.board import Board
from server.jobs.finishing import Finisher
from server.webhooks.delivery import Sender

FLUSH = 5.0  # seconds at a stop for what is left to be sent


class Tracing(Protocol):
    """What is put around what there is."""

    def observers(self) -> list[JobObserver]:
        """Of the jobs' records."""
        ...

    def tap(self, board: Board) -> None:
        """Hear what jobs say."""
        ...

    def finisher(self, artifacts: ArtifactStore, pool: Pool) -> Finisher:
        """One of the same pictures."""
        ...

    def sender(self, sender: Sender) -> Sender:
        """The same sender."""
        ...

    def claims(self, claims: Claims) -> Claims:
        """The same claims."""
        ...

    def leases(self, leases: Leases) -> Leases:
        """The same leases."""
        ...

    async def stop(self) -> None:
        """Send what is left, as far as FLUSH suffices."""
        ...


def tracing(settings: Settings, reactor: Any) -> Tracing:
    """By the settings."""
    return OtlpTracing(settings, reactor) if settings.otlp_endpoint else NoTracing()


class NoTracing:
    """Everything as it is."""

    def observers(self) -> list[JobObserver]:
        """None."""
        return []

    def tap(self, board: Board) -> None:
        """Nobody listens."""

    def finisher(self, artifacts: ArtifactStore, pool: Pool) -> Finisher:
        """The usual one."""
        return Finisher(artifacts, pool)

    def sender(self, sender: Sender) -> Sender:
        """As it is."""
        return sender

    def claims(self, claims: Claims) -> Claims:
        """As they are."""
        return claims

    def leases(self, leases: Leases) -> Leases:
        """As they are."""
        return leases

    async def stop(self) -> None:
        """There is nothing to send."""


class OtlpTracing:
    """By OTLP over HTTP."""

    def __init__(self, settings: Settings, reactor: Any) -> None:
        from server.tracing import exporting, jobs, wrapping  # the SDK is loaded where it is wanted

        self._reactor = reactor
        self._wrapping = wrapping
        ids = jobs.JobIds()
        headers = read_headers(settings.otlp_headers.get_secret_value())
        self._provider = exporting.span_provider(settings.otlp_endpoint, headers, ids, settings.role)
        seconds = cast(Clock, reactor).seconds
        self.tracer = jobs.JobTracer(self._provider, ids, seconds, paints=settings.role != "gateway")

    def observers(self) -> list[JobObserver]:
        """The tracer."""
        return [self.tracer]

    def tap(self, board: Board) -> None:
        """The tracer."""
        board.tap(self.tracer)

    def finisher(self, artifacts: ArtifactStore, pool: Pool) -> Finisher:
        """One that says whose pictures it stores."""
        return self._wrapping.TracedFinisher(self._wrapping.TracedArtifacts(artifacts, self.tracer), pool)

    def sender(self, sender: Sender) -> Sender:
        """Its calls are spans."""
        return self._wrapping.TracedSender(sender, self.tracer)

    def claims(self, claims: Claims) -> Claims:
        """What is taken goes on in its trace."""
        return self._wrapping.TracedClaims(claims, self.tracer)

    def leases(self, leases: Leases) -> Leases:
        """What is taken up goes on in its trace."""
        return self._wrapping.TracedLeases(leases, self.tracer)

    async def stop(self) -> None:
        """Its thread is a daemon: one that hangs ends with the process."""
        self.tracer.stop()
        await joined(self._reactor, self._provider.shutdown, FLUSH)


def read_headers(text: str) -> dict[str, str]:
    """From key=value,key=value, the values percent-encoded, as OTEL_EXPORTER_OTLP_HEADERS has them."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
