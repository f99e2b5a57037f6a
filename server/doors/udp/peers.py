"""A client of the UDP door: a key that is in use, and the address that has shown that it hears us."""

from __future__ import annotations

from server.doors.udp.parts import Address
from server.doors.udp.topics import Topic, TopicName
from server.live.events import LiveOpened
from server.udp_keys import UdpKey

NOWHERE: Address = ("", 0)
MANY_SESSIONS = 16  # of one client: from here on those that have ended by themselves are forgotten first
MOST_ASKING = 8  # requests of one client whose answer the records are asked for


class Peer:
    """What it hears, and the live sessions that it has opened (by its own tags)."""

    __slots__ = ("_said", "_second", "address", "asking", "heard_at", "key", "opening", "sessions", "subscriptions")

    def __init__(self, key: UdpKey, now: float) -> None:
        self.key = key
        self.address = NOWHERE  # until it has shown one
        self.heard_at = now
        self.subscriptions: dict[tuple[TopicName, bool], Topic] = {}
        self.sessions: dict[int, LiveOpened] = {}
        self.opening: set[int] = set()
        self.asking = 0
        self._second = 0
        self._said = 0

    def may_say(self, now: float, most: int) -> bool:
        """Whether it has said less than so much in this second; this counts."""
        second = int(now)
        if second != self._second:
            self._second, self._said = second, 0
        self._said += 1
        return self._said <= most
