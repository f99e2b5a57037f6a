"""A host of custom models whose processes are real, on the reactor that runs the tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from twisted.internet import reactor as installed_reactor

from ai.custom.cards import ClassPath, CustomCard
from ai.custom.host import Host
from ai.custom.launching import environment
from ai.custom.process import Limits
from ai.lodging import Lodger
from ai.requests import CustomRequest
from ai.types import Answered, Canceled, EngineEvent, Failed, Finished
from factory.processes import Launcher

AnyEvent = TypeVar("AnyEvent", bound=EngineEvent)
ODD = "tests.ai.custom.odd"
LIMITS = Limits(memory=200_000_000, load_seconds=60.0, predict_seconds=60.0, max_output=1_000_000)
ENDS = (Answered, Canceled, Failed, Finished)


def a_card(name: str, kind: str, **changes: Any) -> CustomCard:
    """Of one of the odd classes, not asked what it takes."""
    return CustomCard(name=name, path=ClassPath.read(kind if ":" in kind else f"{ODD}:{kind}"), **changes)


def a_request(request_id: str, model: str, priority: int = 0, **given: Any) -> CustomRequest:
    """One that asks for this."""
    return CustomRequest(request_id=request_id, model=model, input=given, priority=priority)


@dataclass
class Room:
    """Lodgings with room for all, that write down what they are told. `open` lets them in at once."""

    open: bool = True
    lodgers: dict[str, Lodger] = field(default_factory=dict)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    _wait: asyncio.Future[int] | None = None

    async def takes_more(self, name: str, size: int) -> None:
        """Returns when a lodger was said to take more than this."""
        while not any(told[:2] == ("takes", name) and told[2] > size for told in self.told):
            self._wait = asyncio.get_running_loop().create_future()
            await self._wait

    def lodge(self, lodger: Lodger) -> None:
        self.told.append(("lodge", lodger.name, lodger.size))
        self.lodgers[lodger.name] = lodger
        if self.open:
            lodger.granted()

    def lodger_takes(self, name: str, size: int) -> None:
        assert name in self.lodgers
        self.told.append(("takes", name, size))
        if self._wait is not None and not self._wait.done():
            self._wait.set_result(size)

    def lodger_busy(self, name: str, busy: bool) -> None:
        assert name in self.lodgers
        self.told.append(("busy" if busy else "idle", name))

    def lodger_gone(self, name: str) -> None:
        del self.lodgers[name]
        self.told.append(("gone", name))


@dataclass
class Hosted:
    """A host, and all that it has told."""

    host: Host
    room: Room
    events: list[EngineEvent]
    news: asyncio.Event

    async def until(self, request_id: str, *kinds: type[EngineEvent]) -> EngineEvent:
        """The first event of these kinds (an end, if none is named) that tells of a request."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if isinstance(event, kinds or ENDS) and getattr(event, "request_id", "") == request_id:
                    return event
            seen = len(self.events)
            self.news.clear()
            await self.news.wait()

    async def ask(self, model: str, request_id: str = "one", **given: Any) -> EngineEvent:
        """The end of a request for this."""
        self.host.submit(a_request(request_id, model, **given))
        return await self.until(request_id)

    def of(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def hosting(
    *cards: CustomCard, room: Room | None = None, named: Sequence[str] = (), **limits: Any
) -> AsyncIterator[Hosted]:
    """A host with these models; at the end no process is left."""
    reactor: Any = installed_reactor
    room, news = room or Room(), asyncio.Event()
    events: list[EngineEvent] = []

    def deliver(told: Sequence[EngineEvent]) -> None:
        events.extend(told)
        news.set()

    terms = replace(LIMITS, **limits)
    launch = Launcher(reactor, environment(os.environ, named), terms.max_output)
    host = Host(cards, terms, launch=launch, lodgings=room, clock=reactor, deliver=deliver)
    try:
        yield Hosted(host, room, events, news)
    finally:
        stopped = asyncio.get_running_loop().create_future()
        host.stop(lambda: stopped.set_result(None))
        await asyncio.wait_for(stopped, 30)
        assert not room.lodgers


def error_of(event: EngineEvent) -> Exception:
    """What a request failed with."""
    assert isinstance(event, Failed), event
    return event.error
