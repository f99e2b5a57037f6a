"""A desk's office: a host with one model, a clock that a test advances, and processes that do what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.task import Clock

from ai.custom.cards import CustomCard
from ai.custom.framing import Message
from ai.custom.host import Host
from ai.custom.process import Ending, Listener
from ai.types import EngineEvent
from tests.ai.custom.hosted import LIMITS, Room, a_card, a_request


class FakeProcess:
    """Writes down what it is asked, and says what a test has it say."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.asked: list[Mapping[str, Any]] = []
        self.ends = 0

    def send(self, head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> None:
        self.asked.append(head)

    def end(self) -> None:
        self.ends += 1

    def say(self, say: str, **told: Any) -> None:
        self.listener.heard(Message({"say": say, **told}))

    def over(self, why: str = "exit", **told: Any) -> None:
        self.listener.ended(Ending(why, **told))


class Office:
    """A host with one model, without a single real process."""

    def __init__(self, room: Room | None = None, **card: Any) -> None:
        self.clock = Clock()
        self.room = room or Room()
        self.processes: list[FakeProcess] = []
        self.events: list[EngineEvent] = []
        self.refuse_to_launch = False
        self.host = Host(
            [a_card("model", "Echo", **card)],
            LIMITS,
            launch=self._launch,
            lodgings=self.room,
            clock=self.clock,
            deliver=self.events.extend,
        )

    def _launch(self, card: CustomCard, memory_limit: int, listener: Listener) -> FakeProcess:
        if self.refuse_to_launch:
            raise OSError(11, "Resource temporarily unavailable")
        self.processes.append(FakeProcess(listener))
        return self.processes[-1]

    @property
    def process(self) -> FakeProcess:
        return self.processes[-1]

    def submit(self, *names: str, priority: int = 0) -> None:
        for name in names:
            self.host.submit(a_request(name, "model", priority, text=name))

    def heard(self) -> list[EngineEvent]:
        """What was told since the last look."""
        self.clock.advance(0)
        events, self.events[:] = list(self.events), []
        return events

    def asked(self) -> list[Any]:
        return [head.get("id", head["do"]) for head in self.process.asked]

    def ready(self) -> None:
        """Have the model in memory, and nothing told yet."""
        self.submit("warm")
        self.process.say("loaded")
        self.process.say("done", output="")
        self.process.asked.clear()
        self.heard()
