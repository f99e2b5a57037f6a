"""What can be subscribed to, a live session or a job: who hears it, and what is said of it. Each thing is encoded once for all.

A topic's datagrams are numbered from 1 as they are said, whoever hears them: so what is missing can be counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from server.clock import Clock, Timer
from server.doors.udp.parts import Address
from server.doors.udp.sending import Spread
from server.events import Event, Output, Preview, Progress
from server.latest import LatestEvents
from server.live.events import LiveClosed, LiveResult
from server.wire import udp_telling

if TYPE_CHECKING:
    from server.doors.udp.peers import Peer

TopicName = tuple[str, str]
"""What it is ("live_id", "job_id"), and its id."""

PROGRESS_EVERY = 0.1  # seconds: a bar that is drawn ten times a second moves smoothly
END_AGAIN = (1.0, 2.0)
"""Seconds until an end is said again, and once more: nothing comes after it that would show that it was lost."""


class Topic:
    """`on_over` is called when its end has been said, and said again."""

    def __init__(
        self,
        name: TopicName,
        owner: str,
        spread: Spread,
        clock: Clock,
        group: Address | None,
        on_over: Callable[[Topic], None],
    ) -> None:
        self.name = name
        self.owner = owner
        self.names: Sequence[str] = ()  # of a live session's values
        self.sequence = 0  # of what was said last
        self.latest: Sequence[bytes] = ()  # what whoever comes now has to know
        self.ended = False
        self.stop_watching: Callable[[], None] = lambda: None
        self._spread = spread
        self._clock = clock
        self._group = group
        self._on_over = on_over
        self._hearers: dict[Address, Peer] = {}
        self._for_group: set[Peer] = set()
        self._addresses: tuple[Address, ...] | None = None
        self._timer: Timer | None = None

    def addresses(self) -> Sequence[Address]:
        """Where to send it."""
        if self._addresses is None:
            group = [self._group] if self._group is not None and self._for_group else []
            self._addresses = (*self._hearers, *group)
        return self._addresses

    @property
    def is_heard(self) -> bool:
        """By anybody."""
        return bool(self._hearers or self._for_group)

    @property
    def is_for_group(self) -> bool:
        """Whether the operator's group hears it."""
        return bool(self._for_group)

    def join(self, peer: Peer, to_group: bool) -> Peer | None:
        """One more hears it; gives who heard it at that address until now, under another key."""
        self._addresses = None
        if to_group:
            self._for_group.add(peer)
            return None
        earlier = self._hearers.get(peer.address)
        self._hearers[peer.address] = peer
        return earlier if earlier is not peer else None

    def leave(self, peer: Peer, to_group: bool) -> None:
        """One hears it no more."""
        self._addresses = None
        if to_group:
            self._for_group.discard(peer)
        elif self._hearers.get(peer.address) is peer:
            del self._hearers[peer.address]

    def close(self) -> None:
        """Nobody hears it any more."""
        self.stop_watching()
        self._stop_timer()

    def _say(self, datagrams: Sequence[bytes]) -> None:
        self.sequence += len(datagrams)
        self._spread.say(self, datagrams)

    def _say_end(self, datagram: bytes) -> None:
        self._stop_timer()
        self.ended = True
        self.latest = [datagram]
        self._say(self.latest)
        self._later(END_AGAIN)

    def _later(self, pauses: Sequence[float]) -> None:
        if pauses:
            self._timer = self._clock.callLater(pauses[0], self._again, pauses[1:])
        else:
            self._timer = None
            self._on_over(self)

    def _again(self, pauses: Sequence[float]) -> None:
        self._spread.say(self, self.latest)
        self._later(pauses)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class LiveTopic(Topic):
    """A `server.live.events.LiveListener`."""

    def live_result(self, result: LiveResult) -> None:
        """One more, for all at once."""
        self._say(udp_telling.live_result(result, self.sequence + 1))

    def live_closed(self, closed: LiveClosed) -> None:
        """The end."""
        self._say_end(udp_telling.live_ended(closed, self.sequence + 1))


class JobTopic(Topic):
    """A `server.interfaces.Watcher`. Of progress the latest, so often at most."""

    def __init__(
        self,
        name: TopicName,
        owner: str,
        spread: Spread,
        clock: Clock,
        group: Address | None,
        on_over: Callable[[Topic], None],
    ) -> None:
        super().__init__(name, owner, spread, clock, group, on_over)
        self._untold = LatestEvents()

    def job_event(self, event: Event) -> None:
        """Take one event of the job."""
        if self.ended or isinstance(event, (Preview, Output)):
            return
        self._untold.add(event)
        if self._untold.terminal is not None:
            self._say_end(udp_telling.job_ended(self._untold.terminal, self.sequence + 1))
        elif self._timer is None:
            self._tell()

    def _tell(self) -> None:
        """The latest progress, if there is news; then nothing for a while."""
        self._timer = None
        event = self._untold.take()
        while event is not None and not isinstance(event, Progress):  # that it was accepted, they know
            event = self._untold.take()
        if event is not None:
            self.latest = [udp_telling.job_progress(event, self.sequence + 1)]
            self._say(self.latest)
            self._timer = self._clock.callLater(PROGRESS_EVERY, self._tell)
