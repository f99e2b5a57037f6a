"""What bots make of atelier.events: each event is told to the visits of its key, and pictures are fetched where they lie."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.web.client import Agent, readBody

from bot.errors import ClientError, RefusedError
from bot.visit import End, Visit
from bot.waiting import within
from server.errors import Code
from server.events import Artifact
from server.futures import as_future

REMEMBERED = 20_000  # keys, whose second ends would be noticed
PICTURE_TIME = 30.0  # seconds
ENDS = {"succeeded": End.SUCCEEDED, "failed": End.FAILED, "canceled": End.CANCELED}


class News:
    """The events of one process. Pictures come from their addresses, or else from `artifacts`, the server's own folder."""

    def __init__(self, reactor: Any, artifacts: Path | None) -> None:
        self._reactor = reactor
        self._artifacts = artifacts
        self._visits: dict[str, list[Visit]] = {}  # by key
        self._told: dict[str, dict[str, Any]] = {}  # the latest event of each key, and at last its end
        self._reading: set[asyncio.Task[None]] = set()
        self._refused: dict[str, Callable[[dict[str, Any]], None]] = {}  # by message id
        self._agent: Any = Agent(reactor, connectTimeout=PICTURE_TIME)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Fetch no more."""
        for task in tuple(self._reading):
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)

    def when_refused(self, message_id: str, hear: Callable[[dict[str, Any]], None]) -> None:
        """Call this, once, if the message of that id goes to the dead letters."""
        self._refused[message_id] = hear
        while len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]

    def forget(self, message_id: str) -> None:
        """Nobody waits for it any more."""
        self._refused.pop(message_id, None)

    def expect(self, visit: Visit) -> None:
        """Somebody is about to publish under this visit's key. What was told of the key before is told to it now."""
        self._visits.setdefault(visit.key, []).append(visit)
        if visit.key in self._told:
            self._tell(visit, self._told[visit.key])

    def hear(self, told: dict[str, Any]) -> None:
        """An event."""
        if told["event"] == "refused":
            hear = self._refused.pop(told["message_id"], None)
            if hear is not None:
                hear(told)
            return
        key = told.get("idempotency_key", "")
        visits = self._visits.get(key)
        if visits is None:  # another process's, or not of bots at all
            return
        before = self._told.get(key)
        if before is not None and before["event"] in ENDS and told["event"] in ENDS:
            if before["event"] != told["event"]:
                visits[0].on_terminal(ENDS[told["event"]])  # a second end, and another: it says so
            return  # each node that knows of an end tells it
        if told == before:
            return  # a broker that was away may bring a message again
        self._told[key] = told
        for visit in tuple(visits):
            self._tell(visit, told)
        self._forget_old()

    def _tell(self, visit: Visit, told: dict[str, Any]) -> None:
        """What an event means to one who waits for it."""
        name = told["event"]
        if visit.over.is_set():
            return
        if not visit.job_id:
            visit.on_accepted(told["job_id"], None)
        if name == "progress":
            visit.on_event(name, told["number"])
        if name not in ENDS:  # a later server's, or of jobs that paint nothing
            return
        visit.on_terminal(ENDS[name])
        if name == "succeeded":
            task = asyncio.ensure_future(self._succeeded(visit, told))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        elif name == "failed":
            visit.on_error(End.FAILED, refusal_of(told))
        else:
            visit.finish(End.CANCELED)

    async def _succeeded(self, visit: Visit, told: dict[str, Any]) -> None:
        artifacts = tuple(Artifact(**one) for one in told["artifacts"])
        pictures = [await self._picture(visit, artifact) for artifact in artifacts]
        visit.on_success(artifacts, tuple(picture for picture in pictures if picture is not None))

    async def _picture(self, visit: Visit, artifact: Artifact) -> bytes | None:
        """From its address, or from the server's folder; None where there is neither."""
        try:
            if artifact.url.startswith(("http://", "https://")):
                data = await within(self._reactor, PICTURE_TIME, self._fetched(artifact.url))
            elif self._artifacts is not None:
                data = await asyncio.to_thread((self._artifacts / artifact.key).read_bytes)
            else:
                return None
        except Exception as error:  # Twisted's web client has many
            visit.wrong(f"its picture {artifact.key} cannot be read: {error or type(error).__name__}")
            return None
        if hashlib.sha256(data).hexdigest() != artifact.sha256:
            visit.wrong(f"its picture {artifact.key} has {len(data)} bytes, which are not as announced")
        return data

    async def _fetched(self, url: str) -> bytes:
        response = await as_future(self._agent.request(b"GET", url.encode()))
        data: bytes = await as_future(readBody(response))
        if response.code != 200:
            raise ClientError(f"{url} answered {response.code}")
        return data

    def _forget_old(self) -> None:
        while len(self._told) > REMEMBERED:
            key = next(iter(self._told))
            del self._told[key]
            self._visits.pop(key, None)


def refusal_of(told: dict[str, Any]) -> RefusedError:
    """An event's code, message, field and limit."""
    return RefusedError(
        Code.__members__.get(told.get("code", ""), Code.INTERNAL_ERROR),
        told.get("message", ""),
        field=told.get("field", ""),
        limit=told.get("limit", ""),
    )
