"""What clients of the UDP door ask, and how they are answered. Everything here comes signed, from an address that hears us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from proto import atelier_udp_pb2 as udp
from server.commands import CloseLive, Command, OpenLive, Watch
from server.doors.udp.parts import UdpParts
from server.doors.udp.peers import MANY_SESSIONS, MOST_ASKING, Peer
from server.doors.udp.room import Room
from server.doors.udp.topics import JobTopic, LiveTopic, Topic, TopicName
from server.errors import Code, Refusal
from server.live.events import Frame, LiveOpened
from server.principal import Scope, changes, check_command
from server.wire.udp_telling import live_opened, names_of, refused

log = structlog.get_logger("atelier.udp")

LONGEST_ID = 64  # bytes of a topic's, which has to fit into answers; ours have 40 at most

PutOut = Callable[[Peer, Code, str], None]
Work = Coroutine[Any, Any, None]


class Asking:
    """One method a message. A method answers, or gives a coroutine that will; both raise Refusal, which is answered too."""

    def __init__(self, parts: UdpParts, room: Room, put_out: PutOut) -> None:
        self._parts = parts
        self._live = parts.live
        self._counts = parts.counts
        self._room = room
        self._put_out = put_out
        self._rechecking: set[Peer] = set()
        self._methods: dict[str, Callable[[Peer, int, Any], Work | None]] = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "heartbeat": self._heartbeat,
            "open_live": self._open_live,
            "live_frame": self._live_frame,
            "close_live": self._close_live,
        }

    def take(self, peer: Peer, said: udp.ClientDatagram) -> None:
        """Do what it says."""
        kind = str(said.WhichOneof("message"))
        self._counts.messages[kind] += 1
        message = getattr(said, kind)
        if kind != "live_frame" and not self._parts.identities.fresh(peer.key.principal):
            self._later(peer, said.sequence, self._once_known(peer, said.sequence, kind, message))
        else:
            self._do(peer, said.sequence, kind, message)

    def keep_fresh(self, peer: Peer) -> None:
        """Ask again whether its credential still holds, where that has not been asked for a while."""
        if peer not in self._rechecking and not self._parts.identities.fresh(peer.key.principal):
            self._rechecking.add(peer)
            self._parts.tasks.start(self._recheck(peer))

    def _do(self, peer: Peer, sequence: int, kind: str, message: Any) -> None:
        try:
            work = self._methods[kind](peer, sequence, message)
        except Refusal as refusal:
            self._refuse(peer, sequence, refusal)
            return
        if work is not None:
            self._later(peer, sequence, work)

    def _later(self, peer: Peer, sequence: int, work: Work) -> None:
        if peer.asking >= MOST_ASKING:
            work.close()
            limit = f"{MOST_ASKING} requests"
            self._refuse(peer, sequence, Refusal(Code.RESOURCE_EXHAUSTED, f"{limit} are under way", limit=limit))
            return
        peer.asking += 1
        self._parts.tasks.start(self._finish(peer, sequence, work))

    async def _finish(self, peer: Peer, sequence: int, work: Work) -> None:
        try:
            await work
        except Refusal as refusal:
            self._refuse(peer, sequence, refusal)
        except Exception:
            log.exception("datagram.broken")
            self._refuse(peer, sequence, Refusal(Code.INTERNAL_ERROR, "the server erred; its log says how"))
        finally:
            peer.asking -= 1

    # Whose it still is

    async def _once_known(self, peer: Peer, sequence: int, kind: str, message: Any) -> None:
        await self._recheck(peer)
        if self._room.has(peer):
            self._do(peer, sequence, kind, message)

    async def _recheck(self, peer: Peer) -> None:
        key = peer.key
        try:
            principal = await self._parts.identities.principal(key.token)
            if principal.owner != key.owner:  # a name was given away meanwhile
                raise Refusal(Code.UNAUTHENTICATED, "this token is another's now")
            key.principal = principal
        except Refusal as refusal:
            if refusal.code is Code.UNAUTHENTICATED:
                self._parts.keys.revoke(key)
                self._put_out(peer, refusal.code, refusal.message)
            # else the records are away: the key has an end of its own
        finally:
            self._rechecking.discard(peer)

    # Topics

    def _subscribe(self, peer: Peer, sequence: int, message: udp.Subscribe) -> Work | None:
        name = _topic_of(message)
        peer.key.principal.check(Scope.READ)  # as Watch and WatchLive ask
        if message.to_group and self._parts.limits.group is None:
            raise Refusal.invalid("to_group", "false: no group is set here", True)
        topic = self._room.topic(name, peer.key.owner)
        if topic is None:
            return _OPENERS[name[0]](self, peer, sequence, name, message.to_group)
        self._joined(peer, sequence, topic, message.to_group)
        return None

    async def _open_job(self, peer: Peer, sequence: int, name: TopicName, to_group: bool) -> None:
        command = Watch(owner=peer.key.owner, job_id=name[1])
        await _as_coroutine(self._parts.handlers[Watch](command))
        if not self._room.has(peer):
            return
        topic = self._room.topic(name, peer.key.owner)  # somebody else may have been faster
        if topic is None:
            made = self._room.open(JobTopic, name, peer.key.owner)
            made.stop_watching = lambda: self._parts.board.leave(name[1], made)
            self._joined(peer, sequence, made, to_group)
            try:
                await self._parts.board.follow(name[1], made)
            except BaseException:
                self._room.end(made)
                raise
            if not made.is_heard:  # all of them have left meanwhile
                made.close()
        else:
            self._joined(peer, sequence, topic, to_group)

    async def _open_session(self, peer: Peer, sequence: int, name: TopicName, to_group: bool) -> None:
        opened = self._live.find(peer.key.owner, name[1])
        topic = self._room.open(LiveTopic, name, peer.key.owner)
        topic.names = opened.model.outputs
        try:
            topic.stop_watching = self._live.watch(peer.key.owner, name[1], topic)
            self._joined(peer, sequence, topic, to_group)
        except Refusal:
            self._room.close_unheard(topic)
            raise

    def _joined(self, peer: Peer, sequence: int, topic: Topic, to_group: bool) -> None:
        try:
            self._room.subscribe(peer, topic, to_group)
        except Refusal:
            self._room.close_unheard(topic)
            raise
        latest = () if to_group else topic.latest
        said = udp.Subscribed(next_sequence=topic.sequence + 1 - len(latest), subscriptions=len(peer.subscriptions))
        setattr(said, *topic.name)
        self._room.answer(peer, udp.ServerDatagram(answers=sequence, subscribed=said))
        for names in names_of(topic.name[1], topic.names) if topic.names else ():
            self._room.answer(peer, udp.ServerDatagram(answers=sequence, names=names))
        for datagram in latest:
            self._room.outlet.send(datagram, peer.address)

    def _unsubscribe(self, peer: Peer, sequence: int, message: udp.Unsubscribe) -> None:
        name = _topic_of(message)
        self._room.unsubscribe(peer, name, message.to_group)
        said = udp.Unsubscribed()
        setattr(said, *name)
        self._room.answer(peer, udp.ServerDatagram(answers=sequence, unsubscribed=said))

    def _heartbeat(self, peer: Peer, sequence: int, message: udp.Heartbeat) -> None:
        now = self._parts.clock.seconds()
        alive = udp.Alive(
            server_time_us=int(now * 1_000_000),
            subscriptions=len(peer.subscriptions),
            key_expires_seconds=max(0.0, peer.key.expires_at - now),
        )
        self._room.answer(peer, udp.ServerDatagram(answers=sequence, alive=alive))

    # Live sessions

    async def _open_live(self, peer: Peer, sequence: int, message: udp.OpenLive) -> None:
        command = OpenLive(owner=peer.key.owner, model=message.model, source=message.source)
        check_command(peer.key.principal, command)
        tag, owner = message.tag, peer.key.owner
        if tag in peer.opening:  # the answer to the first is on its way
            return
        opened = self._still(peer, peer.sessions.pop(tag, None))
        if opened is None:
            if len(peer.sessions) >= MANY_SESSIONS:
                peer.sessions = {t: one for t, one in peer.sessions.items() if self._still(peer, one)}
            peer.opening.add(tag)
            try:
                opened = (await _as_coroutine(self._parts.handlers[OpenLive](command))).opened
            finally:
                peer.opening.discard(tag)
            if not self._room.has(peer):
                self._live.close(owner, opened.live_id)
                return
            self._note(peer, command, "open_live", opened.live_id)
        peer.sessions[tag] = opened
        self._room.answer(peer, udp.ServerDatagram(answers=sequence, live_opened=live_opened(opened, tag)))

    def _still(self, peer: Peer, opened: LiveOpened | None) -> LiveOpened | None:
        """A session as it is now; None where there is none, or it has ended by itself."""
        if opened is None:
            return None
        try:
            return self._live.find(peer.key.owner, opened.live_id)
        except Refusal:
            return None

    def _live_frame(self, peer: Peer, sequence: int, message: udp.LiveFrame) -> None:
        peer.key.principal.check(Scope.GENERATE)
        frame = Frame(message.number, message.captured_us, message.values, message.image)
        self._live.frame(peer.key.owner, message.live_id, frame)

    def _close_live(self, peer: Peer, sequence: int, message: udp.CloseLive) -> None:
        command = CloseLive(owner=peer.key.owner, live_id=message.live_id)
        check_command(peer.key.principal, command)
        closed = self._live.close(peer.key.owner, message.live_id)
        self._note(peer, command, "close_live", message.live_id)
        peer.sessions = {tag: one for tag, one in peer.sessions.items() if one.live_id != message.live_id}
        ended = udp.LiveEnded(live_id=message.live_id, code=closed.code, code_name=closed.code.name)
        self._room.answer(peer, udp.ServerDatagram(answers=sequence, live_ended=ended))

    def _note(self, peer: Peer, command: Command, action: str, live_id: str) -> None:
        principal = peer.key.principal
        if principal.is_noted and changes(command):
            self._parts.note(principal, f"udp.{action}", live_id, peer.address[0])

    def _refuse(self, peer: Peer, sequence: int, refusal: Refusal) -> None:
        self._counts.refusals[refusal.code.name] += 1
        self._room.answer(peer, udp.ServerDatagram(answers=sequence, refused=refused(refusal)))


_OPENERS: dict[str, Callable[[Asking, Peer, int, TopicName, bool], Work]] = {
    "job_id": Asking._open_job,
    "live_id": Asking._open_session,
}


def _topic_of(message: udp.Subscribe | udp.Unsubscribe) -> TopicName:
    kind = message.WhichOneof("topic")
    if kind is None:
        raise Refusal.invalid("topic", "a live_id or a job_id", "neither")
    name = getattr(message, kind)
    if len(name.encode()) > LONGEST_ID:
        raise Refusal.invalid(kind, f"at most {LONGEST_ID} bytes", name)
    return kind, name


async def _as_coroutine(reply: Any) -> Any:
    return await reply if asyncio.iscoroutine(reply) else reply
