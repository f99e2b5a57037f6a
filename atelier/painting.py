"""Follows jobs to their end: shows what they say, writes their pictures, and makes a report of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atelier.display import Display
from atelier.files import write_pictures, write_preview
from atelier.running import explained, say
from bot.client import Client
from bot.errors import ClientError, JobCanceledError, JobFailedError
from bot.events import Outcome
from bot.jobs import JobHandle
from bot.orders import SubmitFields
from server.errors import AtelierError
from server.events import Event, Preview, Progress

LAST_WORDS = 5.0  # seconds that cancelled jobs get to say so; a step takes less


@dataclass(frozen=True, slots=True)
class Order:
    """A prompt and what else is wished. With `cancel_at` the job is cancelled when it has made so many steps.

    `title` is shown in the prompt's place.
    """

    prompt: str
    fields: SubmitFields
    cancel_at: int | None = None
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of one order. `state` is succeeded, failed, canceled, refused, or unknown where the server was lost."""

    prompt: str
    state: str
    job_id: str = ""
    seed: int = 0
    files: tuple[Path, ...] = ()
    outcome: Outcome | None = None
    error: Exception | None = None

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        plain: dict[str, Any] = {"prompt": self.prompt, "job_id": self.job_id, "state": self.state, "seed": self.seed}
        plain["files"] = [str(path) for path in self.files]
        if self.outcome is not None:
            plain["artifacts"] = [asdict(artifact) for artifact in self.outcome.artifacts]
            plain["warnings"] = list(self.outcome.warnings)
            plain["queued_seconds"] = round(self.outcome.queued_seconds, 3)
            plain["processing_seconds"] = round(self.outcome.processing_seconds, 3)
        if self.error is not None:
            plain["error"] = _plain_error(self.error)
        return plain


def _plain_error(error: Exception) -> dict[str, Any]:
    if not isinstance(error, AtelierError):
        return {"code": "", "message": str(error)}
    return {
        "code": error.code.name,
        "field": error.field,
        "limit": error.limit,
        "message": error.message,
        "retry_after_seconds": error.retry_after_seconds,
    }


class Painting:
    """Jobs that are followed together. `on_report` hears of each as it ends; previews are written too, if they are kept."""

    def __init__(
        self,
        client: Client,
        display: Display,
        out: Path | None,
        on_report: Callable[[Report], None] = lambda report: None,
        *,
        keep_previews: bool = True,
    ) -> None:
        self._client = client
        self._display = display
        self._out = out
        self._on_report = on_report
        self._keep_previews = keep_previews
        self._under_way: set[JobHandle] = set()
        self._stopping = False

    async def paint(self, orders: Sequence[Order]) -> list[Report]:
        """Submit all at once and follow them; the reports are in the orders' order.

        When it is cancelled, it cancels the jobs, gives them a moment to say so, and raises CancelledError.
        """
        tasks = [
            asyncio.ensure_future(self._paint(order, self._display.add(order.title or order.prompt)))
            for order in orders
        ]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            await self._stop(tasks)
            raise
        return [task.result() for task in tasks]

    async def follow(self, handle: JobHandle, prompt: str) -> Report:
        """Follow a job that is there already."""
        return await self._follow(handle, prompt, self._display.add(prompt))

    async def _paint(self, order: Order, row: int) -> Report:
        try:
            handle = await self._client.submit(order.prompt, **order.fields)
        except (AtelierError, ClientError) as error:
            state = "refused" if isinstance(error, AtelierError) else "unknown"
            return self._report(row, Report(prompt=order.prompt, state=state, error=error))
        self._under_way.add(handle)
        try:
            if self._stopping:
                await handle.cancel()
            return await self._follow(handle, order.prompt, row, order.cancel_at)
        finally:
            self._under_way.discard(handle)

    async def _follow(self, handle: JobHandle, prompt: str, row: int, cancel_at: int | None = None) -> Report:
        outcome: Outcome | None = None
        try:
            async for event in handle:
                self._display.show(row, event)
                if cancel_at is not None and _steps_of(event) >= cancel_at:
                    cancel_at = None
                    await handle.cancel()
                if isinstance(event, Preview) and self._out is not None and self._keep_previews:
                    await asyncio.to_thread(write_preview, self._out, prompt, event)
            outcome = await handle.result()
            files = await self._write(prompt, outcome)
        except (AtelierError, ClientError, OSError) as error:
            known = {JobFailedError: "failed", JobCanceledError: "canceled"}
            state = known.get(type(error), "unknown")
            report = Report(
                prompt=prompt, state=state, job_id=handle.job_id, seed=handle.seed, outcome=outcome, error=error
            )
        else:
            report = Report(
                prompt=prompt, state="succeeded", job_id=handle.job_id, seed=handle.seed, files=files, outcome=outcome
            )
        return self._report(row, report)

    async def _write(self, prompt: str, outcome: Outcome) -> tuple[Path, ...]:
        if self._out is None or not outcome.pictures:
            return ()
        written = await asyncio.to_thread(
            write_pictures, self._out, prompt, outcome.job_id, outcome.artifacts, outcome.pictures
        )
        return tuple(written)

    def _report(self, row: int, report: Report) -> Report:
        self._display.finish(row, report.state)
        self._on_report(report)
        return report

    async def _stop(self, tasks: Sequence[asyncio.Task[Report]]) -> None:
        self._stopping = True
        left = sum(not task.done() for task in tasks)
        say(f"interrupted: cancelling {left} {'job' if left == 1 else 'jobs'}")
        cancels = [asyncio.ensure_future(self._cancel(handle)) for handle in self._under_way]
        await asyncio.wait([*tasks, *cancels], timeout=LAST_WORDS)
        canceled = sum(task.done() and task.result().state == "canceled" for task in tasks)
        unheard = sum(not task.done() for task in tasks)
        say(f"{canceled} cancelled" + (f", {unheard} did not say so within {LAST_WORDS:g} s" if unheard else ""))

    async def _cancel(self, handle: JobHandle) -> None:
        try:
            await handle.cancel()
        except (AtelierError, ClientError) as error:
            say(f"job {handle.job_id} could not be cancelled: {explained(error)}")


def _steps_of(event: Event) -> int:
    return event.step if isinstance(event, Progress) else 0


def tell_failures(reports: Sequence[Report]) -> bool:
    """Say what went wrong and what the author should know; True when all succeeded."""
    for report in reports:
        name = f"{report.prompt!r}" + (f" (job {report.job_id})" if report.job_id else "")
        for warning in report.outcome.warnings if report.outcome else ():
            say(f"{name}: warning: {warning}")
        if report.error is not None:
            say(f"{name}: {report.state}: {explained(report.error)}")
    return all(report.state == "succeeded" for report in reports)
