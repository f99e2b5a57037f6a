"""Who is at the UDP door, what they hear, and the ways to tell them."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

from proto import atelier_udp_pb2 as udp
from server.doors.udp.parts import Address, UdpParts
from server.doors.udp.peers import NOWHERE, Peer
from server.doors.udp.sending import Outlet, Spread
from server.doors.udp.topics import JobTopic, LiveTopic, Topic, TopicName
from server.errors import Code, Refusal
from server.udp_keys import UdpKey
from server.wire.datagrams import Direction, seal, to_all
from server.wire.udp_telling import evicted, names_of

T = TypeVar("T", JobTopic, LiveTopic)


class Room:
    """Clients by their keys, topics by their names."""

    def __init__(self, parts: UdpParts) -> None:
        self._parts = parts
        self._limits = parts.limits
        self._peers: dict[int, Peer] = {}
        self._topics: dict[TopicName, Topic] = {}
        self._of_owner: Counter[str] = Counter()
        self.subscriptions = 0
        self.outlet = Outlet(parts.counts)
        self._spread = Spread(parts.clock, self.outlet, parts.counts)

    # Clients

    def peer(self, key: UdpKey, now: float) -> Peer:
        """Whoever uses this key."""
        peer = self._peers.get(key.id)
        if peer is None:
            peer = self._peers[key.id] = Peer(key, now)
        return peer

    def peers(self) -> tuple[Peer, ...]:
        """All of them, as they were when this was asked."""
        return tuple(self._peers.values())

    def has(self, peer: Peer) -> bool:
        """Whether it is still there."""
        return self._peers.get(peer.key.id) is peer

    def move(self, peer: Peer, address: Address) -> None:
        """It has shown where it is now."""
        hears = list(peer.subscriptions)
        for name, to_group in hears:
            peer.subscriptions[name, to_group].leave(peer, to_group)
        peer.address = address
        for name, to_group in hears:
            self._join(peer.subscriptions[name, to_group], peer, to_group)

    def forget(self, peer: Peer) -> None:
        """It is gone."""
        for name, to_group in tuple(peer.subscriptions):
            self.unsubscribe(peer, name, to_group)
        del self._peers[peer.key.id]

    # Topics

    def topic(self, name: TopicName, owner: str) -> Topic | None:
        """What is there under that name, if it is this owner's."""
        topic = self._topics.get(name)
        return topic if topic is not None and topic.owner == owner else None

    def open(self, kind: type[T], name: TopicName, owner: str) -> T:
        """A new topic."""
        topic = kind(name, owner, self._spread, self._parts.clock, self._limits.group, self.end)
        self._topics[name] = topic
        return topic

    def end(self, topic: Topic) -> None:
        """Nothing more is said of it."""
        topic.close()
        if self._topics.get(topic.name) is topic:
            del self._topics[topic.name]
        for peer in self.peers():
            for to_group in (False, True):
                if peer.subscriptions.get((topic.name, to_group)) is topic:
                    self._drop(peer, topic.name, to_group)

    def subscribe(self, peer: Peer, topic: Topic, to_group: bool) -> None:
        """Let it hear this, if it does not yet. Raises Refusal (RESOURCE_EXHAUSTED)."""
        if (topic.name, to_group) not in peer.subscriptions:
            self._check_room(peer.key.owner)
            peer.subscriptions[topic.name, to_group] = topic
            self._of_owner[peer.key.owner] += 1
            self.subscriptions += 1
        self._join(topic, peer, to_group)

    def unsubscribe(self, peer: Peer, name: TopicName, to_group: bool) -> None:
        """Let it hear this no more; a topic that nobody hears is closed."""
        topic = self._drop(peer, name, to_group)
        if topic is None:
            return
        topic.leave(peer, to_group)
        self.close_unheard(topic)

    def close_unheard(self, topic: Topic) -> None:
        """Follow it no further, if nobody does."""
        if not topic.is_heard and self._topics.get(topic.name) is topic:
            del self._topics[topic.name]
            topic.close()

    def _join(self, topic: Topic, peer: Peer, to_group: bool) -> None:
        earlier = topic.join(peer, to_group)
        if earlier is not None:  # the same client with its next key
            self._drop(earlier, topic.name, to_group)

    def _drop(self, peer: Peer, name: TopicName, to_group: bool) -> Topic | None:
        topic = peer.subscriptions.pop((name, to_group), None)
        if topic is not None:
            self.subscriptions -= 1
            self._of_owner[peer.key.owner] -= 1
            if not self._of_owner[peer.key.owner]:
                del self._of_owner[peer.key.owner]
        return topic

    def _check_room(self, owner: str) -> None:
        limits = self._limits
        if self._of_owner[owner] >= limits.subscriptions_per_owner:
            limit = f"{limits.subscriptions_per_owner} subscriptions of one owner"
        elif self.subscriptions >= limits.subscriptions:
            limit = f"{limits.subscriptions} subscriptions"
        else:
            return
        text = f"the limit of {limit} is reached"
        raise Refusal(Code.RESOURCE_EXHAUSTED, text, limit=limit, retry_after_seconds=limits.heartbeat)

    # Telling

    def answer(self, peer: Peer, message: udp.ServerDatagram) -> None:
        """To one, signed with its key."""
        if peer.address != NOWHERE:
            datagram = seal(message, Direction.SERVER, peer.key.id, peer.key.secret)
            self.outlet.send(datagram, peer.address)

    def say_evicted(self, peer: Peer, code: Code, message: str) -> None:
        """The last that it hears."""
        self.answer(peer, udp.ServerDatagram(evicted=evicted(code, message)))

    def name_to_group(self) -> None:
        """Those who only listen in a group are told once a second how the values are called."""
        group = self._limits.group
        for topic in self._topics.values() if group is not None else ():
            kind, live_id = topic.name
            if kind != "live_id" or not topic.is_for_group or topic.ended:
                continue
            for names in names_of(live_id, topic.names):
                self.outlet.send(to_all(udp.ServerDatagram(names=names)), group or NOWHERE)

    def close(self) -> None:
        """Leave no timer behind."""
        self._spread.stop()
        for topic in tuple(self._topics.values()):
            topic.close()
        self._topics.clear()
        self.outlet.close()
