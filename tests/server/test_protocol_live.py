"""Live sessions over TCP: opened, fed, watched, closed, and ended with their connection."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proto import atelier_pb2 as pb
from server.errors import Code
from server.live.events import LiveClosed, LiveResult
from server.live.sessions import LiveLimits
from server.wire.live import LiveStream, result_message
from tests.server import door as tcp
from tests.server.door import CAPACITY, Peer, kinds
from tests.server.fakes import settle
from tests.server.house import BOB, TOKENS, House
from tests.server.live.acting import EYE, FACE, Theatre

STUCK, TICKS = 200, 60


class Scene:
    """A theatre behind the TCP door, and Ada's connection to it."""

    def __init__(self, theatre: Theatre | None = None, **limits: Any) -> None:
        self.theatre = theatre or Theatre()
        self.door = tcp.Door(House(live=self.theatre.sessions), **limits)

    async def opened(self, peer: Peer, **wishes: Any) -> tuple[int, Any]:
        """The number of an OpenLive, and its LiveOpened."""
        number = peer.say(open_live=pb.OpenLive(**{"model": "face", **wishes}))
        await settle()
        if len(self.theatre.processes) == 0 or not self.theatre.processes[0].asked:
            self.theatre.processes[0].begin()
        (answer,) = await peer.hear()
        assert (answer.kind, answer.request_id) == ("live_opened", number)
        return number, answer.message

    def run(self) -> None:
        """A tick, and its results."""
        self.theatre.tick()
        self.theatre.processes[0].run()


def frame(live_id: str, number: int, *values: float) -> pb.LiveFrame:
    """One of Ada's."""
    return pb.LiveFrame(live_id=live_id, number=number, values=values)


async def test_frames_go_in_and_results_come_out() -> None:
    """Under the number of the OpenLive, whatever the frame's own; the end is told there, and to who closed it."""
    scene = Scene()
    peer = await scene.door.client()
    number, opened = await scene.opened(peer)
    assert (opened.model, list(opened.inputs), list(opened.outputs)) == ("face", ["jaw", "smile"], ["joy", "anger"])
    assert (opened.tick_hz, opened.next_tick_us) == (10.0, 1_000_000_100_000)
    peer.say(live_frame=frame(opened.live_id, 3, 0.5, 0.25))
    assert await peer.hear() == []
    scene.run()
    (result,) = await peer.hear()
    assert (result.kind, result.request_id, result.message.number) == ("live_result", number, 3)
    told = [(one.index, one.name, one.value) for one in result.message.elements]
    assert told == [(0, "joy", 0.75), (1, "anger", 1.75)]
    closing = peer.say(close_live=pb.CloseLive(live_id=opened.live_id))
    closed = {one.request_id: one for one in await peer.hear()}
    assert {at: one.kind for at, one in closed.items()} == {number: "live_closed", closing: "live_closed"}
    assert closed[number].message.code == pb.OK


async def test_a_bad_frame_is_refused_under_its_own_number() -> None:
    """By field; the session goes on."""
    scene = Scene()
    peer = await scene.door.client()
    number, opened = await scene.opened(peer)
    refused = await peer.ask(live_frame=frame(opened.live_id, 1, float("nan"), 0.0))
    assert (refused.kind, refused.message.code, refused.message.field) == ("error", pb.INVALID_PARAMETER, "values[0]")
    assert refused.request_id != number
    peer.say(number, live_frame=frame(opened.live_id, 1, 1.0, 0.0))  # the OpenLive's number may be used again
    scene.run()
    assert kinds(await peer.hear()) == ["live_result"]


async def test_a_slow_reader_is_sent_the_newest_result() -> None:
    """Those between are missed, which its sequence tells; the end is never lost."""
    scene = Scene()
    peer = await scene.door.client(capacity=200)
    _, opened = await scene.opened(peer)
    for number in range(1, 9):
        scene.theatre.frame(_opened(scene, opened), number, 1.0, 0.0)
        scene.run()
    scene.theatre.sessions.close("ada", opened.live_id)
    heard = await peer.hear()
    results = [one.message.sequence for one in heard if one.kind == "live_result"]
    assert results[-1] == 8
    assert len(results) < 8
    assert results == sorted(results)
    assert heard[-1].kind == "live_closed"


async def test_two_hundred_sessions_of_a_client_that_does_not_read_cost_nobody_else_anything() -> None:
    """Of each the newest result alone waits, however long; others hear every tick; who reads on has the newest at once."""
    limits = LiveLimits(sessions=201, sessions_per_owner=201, idle_timeout=60.0)
    scene = Scene(Theatre(limits=limits), max_requests=300)
    stuck, reader = await scene.door.client(), await scene.door.client()
    theatre = scene.theatre
    for _ in range(STUCK):
        stuck.say(open_live=pb.OpenLive(model="face"))
    await settle()
    theatre.processes[0].begin()
    await settle()
    opened = [one.message for one in stuck.glance()]
    assert len(opened) == STUCK
    _, mine = await scene.opened(reader)
    a_tick = 0  # bytes of all its results
    for number in range(1, TICKS + 1):
        for live in opened:
            theatre.frame(live, number, 1.0, 0.0)
        theatre.frame(mine, number, 0.5, 0.0)
        scene.run()
        assert [one.message.number for one in await reader.hear()] == [number]
        a_tick = a_tick or len(stuck.transport.outgoing)
    assert a_tick * TICKS > 3 * CAPACITY  # it would be far more than a connection holds
    assert stuck.transport.most_outgoing <= CAPACITY + a_tick
    assert theatre.sessions.numbers()[0].counts.overruns == 0
    newest = {one.message.live_id: one.message.number for one in await stuck.hear()}
    assert set(newest.values()) == {TICKS}
    assert len(newest) == STUCK


async def test_another_connection_of_the_owner_feeds_and_watches() -> None:
    """A quiet session tells its opener nothing; who watches hears results and the end, Bob neither."""
    scene = Scene()
    ada, watcher = await scene.door.client(), await scene.door.client()
    bob = await scene.door.client(TOKENS[BOB].get_secret_value())
    _, opened = await scene.opened(ada, quiet=True)
    watching = watcher.say(watch_live=pb.WatchLive(live_id=opened.live_id))
    assert [(one.kind, one.request_id) for one in await watcher.hear()] == [("live_opened", watching)]
    refused = await bob.ask(watch_live=pb.WatchLive(live_id=opened.live_id))
    assert refused.message.code == pb.LIVE_NOT_FOUND
    watcher.say(live_frame=frame(opened.live_id, 1, 1.0, 0.0))
    scene.run()
    assert kinds(await watcher.hear()) == ["live_result"]
    ada.transport.hang_up()
    assert kinds(await watcher.hear()) == ["live_closed"]
    assert await ada.hear() == []


async def test_a_session_ends_with_the_connection_that_opened_it() -> None:
    """Also one that was still being opened; a watcher's leaving ends nothing."""
    scene = Scene()
    peer, watcher = await scene.door.client(), await scene.door.client()
    _, opened = await scene.opened(peer)
    watcher.say(watch_live=pb.WatchLive(live_id=opened.live_id))
    await watcher.hear()
    watcher.transport.hang_up()
    assert scene.theatre.sessions.numbers()[0].sessions == 1
    peer.transport.hang_up()
    assert scene.theatre.sessions.numbers()[0].sessions == 0
    hasty = await scene.door.client()
    hasty.say(open_live=pb.OpenLive(model="eye"))
    await settle()
    hasty.transport.hang_up()
    scene.theatre.processes[-1].begin()
    await settle()
    assert scene.theatre.sessions.numbers()[1].sessions == 0


async def test_a_connection_follows_only_so_many_sessions() -> None:
    """They count among the requests under way; a number that is in use is refused."""
    scene = Scene(max_requests=2)
    peer = await scene.door.client()
    number, opened = await scene.opened(peer)
    used = await peer.ask(number, watch_live=pb.WatchLive(live_id=opened.live_id))
    assert (used.message.code, used.message.field) == (pb.INVALID_PARAMETER, "request_id")
    assert (await peer.ask(watch_live=pb.WatchLive(live_id=opened.live_id))).kind == "live_opened"
    more = await peer.ask(watch_live=pb.WatchLive(live_id=opened.live_id))
    assert more.message.code == pb.RESOURCE_EXHAUSTED
    assert scene.theatre.sessions.numbers()[0].sessions == 1


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        ({"open_live": pb.OpenLive()}, pb.INVALID_PARAMETER, "model"),
        ({"open_live": pb.OpenLive(model="demo")}, pb.MODEL_NOT_FOUND, "model"),
        ({"live_frame": pb.LiveFrame(live_id="x")}, pb.LIVE_NOT_FOUND, "live_id"),
        ({"connect_udp": pb.ConnectUdp()}, pb.UNAVAILABLE, ""),
    ],
)
async def test_what_cannot_be_done_is_refused(message: dict[str, Any], code: int, field: str) -> None:
    """By code and field."""
    peer = await Scene().door.client()
    refused = await peer.ask(**message)
    assert (refused.kind, refused.message.code, refused.message.field) == ("error", code, field)


async def test_stream_models_are_listed_after_the_others() -> None:
    """By their type."""
    peer = await Scene().door.client()
    listed = (await peer.ask(list_models=pb.ListModels())).message.models
    assert [(one.name, one.model_type) for one in listed][-2:] == [("face", "stream"), ("eye", "stream")]
    assert (listed[-1].default_width, listed[-1].default_height) == (3, 2)


def test_a_result_is_told_whole() -> None:
    """No field is left at its zero."""
    result = LiveResult(
        live_id="live-1", number=2, captured_us=3, names=("joy",), values=(0.5,), tick_us=4, sequence=5, dropped=6,
        input_image=b"rgb",
    )  # fmt: skip
    message = result_message(result)
    assert {field.name for field, _ in message.ListFields()} == {
        field.name for field in pb.LiveResult.DESCRIPTOR.fields
    }


def test_a_stream_says_the_end_last() -> None:
    """After the newest result, and then nothing."""
    news: list[LiveStream] = []
    stream = LiveStream(1, "live-1", news.append)
    assert stream.next() is None
    for sequence in (1, 2):
        stream.live_result(
            LiveResult(
                live_id="live-1",
                number=sequence,
                captured_us=0,
                names=(),
                values=(),
                tick_us=0,
                sequence=sequence,
                dropped=0,
            )
        )
    stream.live_closed(LiveClosed("live-1", Code.LIVE_FAILED, "it fails"))
    first, last = stream.next(), stream.next()
    assert first is not None
    assert last is not None
    assert (first.live_result.sequence, last.live_closed.code, last.live_closed.message) == (
        2,
        pb.LIVE_FAILED,
        "it fails",
    )
    assert (stream.next(), stream.done, news) == (None, True, [stream] * 3)


def _opened(scene: Scene, opened: Any) -> Any:
    return scene.theatre.sessions.find("ada", opened.live_id)


async def test_a_tick_s_results_are_one_write() -> None:
    """However many sessions a connection follows, and each of them arrives."""
    scene = Scene()
    peer = await scene.door.client()
    opened = [(await scene.opened(peer))[1] for _ in range(3)]
    for live in opened:
        peer.say(live_frame=frame(live.live_id, 1, 1.0, 0.0))
    writes: list[int] = []
    transport: Any = peer.transport
    written = transport.write

    def write(data: bytes) -> None:
        writes.append(len(data))
        written(data)

    transport.write = write
    scene.run()
    heard = await peer.hear()
    assert (kinds(heard), len(writes)) == (["live_result"] * 3, 1)
    assert {one.message.live_id for one in heard} == {live.live_id for live in opened}


async def test_large_results_and_small_ones_come_in_their_order() -> None:
    """An image that comes back waits for nobody, and overtakes nothing."""
    scene = Scene()
    scene.theatre = Theatre(FACE, replace(EYE, height=40, width=50))
    scene.door = tcp.Door(House(live=scene.theatre.sessions))
    peer = await scene.door.client()
    _, face = await scene.opened(peer)
    peer.say(open_live=pb.OpenLive(model="eye", echo_input=True))
    await settle()
    scene.theatre.processes[-1].begin()
    eye = (await peer.hear())[0].message
    peer.say(live_frame=frame(face.live_id, 1, 1.0, 0.0))
    peer.say(live_frame=pb.LiveFrame(live_id=eye.live_id, number=1, image=bytes(6000)))
    scene.theatre.tick()
    for process in scene.theatre.processes:
        process.run()
    for live in (face, eye):
        scene.theatre.sessions.close("ada", live.live_id)
    heard = [(one.kind, one.message.live_id) for one in await peer.hear()]
    assert sorted(heard) == sorted(
        (kind, live.live_id) for kind in ("live_result", "live_closed") for live in (face, eye)
    )
    assert all(
        heard.index(("live_result", live.live_id)) < heard.index(("live_closed", live.live_id)) for live in (face, eye)
    )
