"""bot.reconnecting: a connection drops, and nothing is lost or doubled. Real TCP; time is a test's clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.internet.task import Clock

from bot import Client, ConnectionLostError, JobCanceledError, JobHandle, NotWelcomeError, RefusedError
from proto import atelier_pb2 as pb
from server.errors import Code
from server.events import Accepted, Progress, Succeeded
from server.wire.framing import encode_frame
from tests.bot.fake_server import PATIENCE, FakeConnection, FakeServer

PICTURE = bytes(range(256)) * 20


@dataclass
class Scene:
    """A client on a clock of its own, its server, and what it told of its attempts."""

    client: Client
    server: FakeServer
    connection: FakeConnection
    clock: Clock
    told: asyncio.Queue[tuple[str, int]]
    texts: list[str] = field(default_factory=list)

    async def lost(self) -> int:
        """Until the client waits before its next attempt, or is back; gives the attempt's number, or 0."""
        text, attempt = await asyncio.wait_for(self.told.get(), PATIENCE)
        self.texts.append(text)
        return attempt

    async def back(self, idle_timeout: float = 300.0) -> FakeConnection:
        """Let the wait be over, and greet the client again."""
        await self.lost()
        self.clock.advance(8.0)
        return await self.server.greeted(idle_timeout)

    async def submit(self, job_id: str) -> tuple[JobHandle, int]:
        """An accepted job, and its request_id on the connection."""
        submitting = asyncio.ensure_future(self.client.submit("a star"))
        asked = await self.connection.accepts(job_id)
        return await submitting, asked.request_id


@asynccontextmanager
async def _scene(reactor: Any, idle_timeout: float = 300.0) -> AsyncIterator[Scene]:
    clock = Clock()
    told: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    async with FakeServer(reactor) as server:
        client = Client(
            reactor,
            server.address,
            clock=clock,
            random=lambda: 1.0,
            tell=lambda text, attempt: told.put_nowait((text, attempt)),
        )
        connecting = asyncio.ensure_future(client.connect())
        connection = await server.greeted(idle_timeout)
        await connecting
        yield Scene(client, server, connection, clock, told)
        await client.close()
    assert clock.getDelayedCalls() == []


async def test_a_job_is_watched_again_from_its_next_event(reactor: Any) -> None:
    """Dropped in mid-picture, the client watches from the event after the last one, and takes the picture from its beginning."""
    async with _scene(reactor) as scene:
        handle, request_id = await scene.submit("job-1")
        scene.connection.progresses(request_id, "job-1", 5, step=5)
        scene.connection.says(request_id, chunk=pb.Chunk(job_id="job-1", size=len(PICTURE), data=PICTURE[:100]))
        await _heard(handle, Progress)
        scene.connection.drop()
        again = await scene.back()
        watch = await again.hears("watch")
        assert watch.message == pb.Watch(job_id="job-1", from_event=6, progress=True, inline_pictures=True)
        again.progresses(watch.request_id, "job-1", 9, step=20)
        again.sends_picture(watch.request_id, "job-1", PICTURE)
        again.finishes(watch.request_id, "job-1", 10, PICTURE)
        assert (await handle.result()).pictures == (PICTURE,)
        events = [event async for event in handle]
        assert [type(event) for event in events] == [Accepted, Progress, Succeeded]
        assert [event.number for event in events] == [0, 9, 10]


async def test_a_submit_without_an_answer_is_sent_again_under_its_key(reactor: Any) -> None:
    """Dropped before Accepted, the same Submit goes out again, byte for byte."""
    async with _scene(reactor) as scene:
        submitting = asyncio.ensure_future(scene.client.submit("a star", seed=3))
        first = await scene.connection.hears("submit")
        scene.connection.drop()
        again = await scene.back()
        second = await again.hears("submit")
        assert second.message == first.message
        assert second.message.idempotency_key
        again.says(second.request_id, accepted=pb.Accepted(job_id="job-1", duplicate=True))
        assert (await submitting).duplicate
        assert again.heard_nothing()


async def test_a_job_that_has_ended_is_not_watched_again(reactor: Any) -> None:
    """Only what is unfinished goes on; a question without an answer is asked again."""
    async with _scene(reactor) as scene:
        done, request_id = await scene.submit("job-1")
        scene.connection.says(request_id, canceled=pb.Canceled(job_id="job-1", event_number=1))
        await _end(done)
        running, _ = await scene.submit("job-2")
        asking = asyncio.ensure_future(scene.client.status())
        await scene.connection.hears("get_server_status")
        scene.connection.drop()
        again = await scene.back()
        assert (await again.hears("watch")).message.job_id == "job-2"
        asked = await again.hears("get_server_status")
        again.says(asked.request_id, server_status=pb.ServerStatus(jobs_running=1))
        assert (await asking).jobs_running == 1
        assert again.heard_nothing()
        assert not running.ended


async def test_what_is_asked_while_there_is_no_connection_waits_for_it(reactor: Any) -> None:
    """A Submit made during the outage is sent when it is over."""
    async with _scene(reactor) as scene:
        scene.connection.drop()
        assert await scene.lost() == 1
        assert not scene.client.connected
        submitting = asyncio.ensure_future(scene.client.submit("a star"))
        scene.clock.advance(8.0)
        again = await scene.server.greeted()
        await again.accepts("job-1")
        assert (await submitting).job_id == "job-1"


async def test_after_a_goodbye_it_comes_back(reactor: Any) -> None:
    """Goodbye is no end: the job is watched over the next connection, and the reason was told."""
    async with _scene(reactor) as scene:
        await scene.submit("job-1")
        scene.connection.says(0, goodbye=pb.Goodbye(code=pb.UNAVAILABLE, message="stopping"))
        again = await scene.back()
        await again.hears("watch")
        assert "UNAVAILABLE: stopping" in scene.texts[0]


async def test_a_job_that_the_new_server_does_not_know_ends_with_its_refusal(reactor: Any) -> None:
    """If the server has forgotten the job, the handle says so."""
    async with _scene(reactor) as scene:
        handle, _ = await scene.submit("job-1")
        scene.connection.drop()
        again = await scene.back()
        watch = await again.hears("watch")
        again.says(watch.request_id, error=pb.Error(code=pb.JOB_NOT_FOUND, message="no such job"))
        with pytest.raises(RefusedError) as caught:
            await handle.result()
        assert caught.value.code is Code.JOB_NOT_FOUND


def _unavailable(connection: FakeConnection, request_id: int, retry_after: float = 5.0) -> None:
    error = pb.Error(code=pb.UNAVAILABLE, message="the records cannot be reached", retry_after_seconds=retry_after)
    connection.says(request_id, error=error)


async def test_a_job_that_cannot_be_looked_up_now_is_asked_for_again(reactor: Any) -> None:
    """A Watch that is put off is no end of the job: the client asks again when it was told to, on the same connection."""
    async with _scene(reactor) as scene:
        handle, _ = await scene.submit("job-1")
        scene.connection.drop()
        again = await scene.back()
        _unavailable(again, (await again.hears("watch")).request_id)
        await _round_trip(scene.client, again)
        assert not handle.ended
        scene.clock.advance(4.9)
        await _round_trip(scene.client, again)
        scene.clock.advance(0.1)
        later = await again.hears("watch")
        again.says(later.request_id, canceled=pb.Canceled(job_id="job-1", event_number=3))
        with pytest.raises(JobCanceledError):
            await handle.result()


async def test_what_is_put_off_is_asked_once_over_the_next_connection(reactor: Any) -> None:
    """A connection that is lost meanwhile begins it anew, and the old wait is forgotten."""
    async with _scene(reactor) as scene:
        await scene.submit("job-1")
        scene.connection.drop()
        second = await scene.back()
        _unavailable(second, (await second.hears("watch")).request_id, retry_after=30.0)
        await _round_trip(scene.client, second)
        second.drop()
        await scene.lost()  # told of its return to the second
        third = await scene.back()
        await third.hears("watch")
        scene.clock.advance(30.0)
        await _round_trip(scene.client, third)


async def test_a_job_that_is_put_off_for_too_long_is_given_up(reactor: Any) -> None:
    """After a minute of it the refusal is the answer."""
    async with _scene(reactor) as scene:
        handle, _ = await scene.submit("job-1")
        scene.connection.drop()
        again = await scene.back()
        for _ in range(2):
            _unavailable(again, (await again.hears("watch")).request_id, retry_after=30.0)
            await _round_trip(scene.client, again)
            scene.clock.advance(30.0)
        _unavailable(again, (await again.hears("watch")).request_id, retry_after=30.0)
        with pytest.raises(RefusedError) as caught:
            await handle.result()
        assert caught.value.code is Code.UNAVAILABLE


async def test_an_idle_connection_is_kept_by_pings(reactor: Any) -> None:
    """A Ping goes out at each third of the idle time-out, and its Pong keeps the connection."""
    async with _scene(reactor, idle_timeout=30.0) as scene:
        for _ in range(5):
            scene.clock.advance(10.0)
            ping = await scene.connection.hears("ping")
            scene.connection.says(ping.request_id, pong=pb.Pong(client_time_us=ping.message.client_time_us))
            await _round_trip(scene.client, scene.connection)
        assert scene.client.connected


async def test_a_server_that_does_not_answer_a_ping_is_left(reactor: Any) -> None:
    """Ten seconds after an unanswered Ping the connection is cut, and opened again."""
    async with _scene(reactor, idle_timeout=300.0) as scene:
        scene.clock.advance(100.0)
        await scene.connection.hears("ping")
        scene.clock.advance(9.9)
        assert scene.client.connected
        scene.clock.advance(0.1)
        await scene.connection.lost()
        await scene.back()
        assert "did not answer a ping for 10 s" in scene.texts[0]


async def test_it_gives_up_after_its_time(reactor: Any) -> None:
    """After reconnect_for seconds of failing, everyone who waits gets ConnectionLostError, later ones too."""
    async with _scene(reactor) as scene:
        handle, _ = await scene.submit("job-1")
        await scene.server.stop_listening()
        begun = scene.clock.seconds()
        scene.connection.drop()
        giving_up = asyncio.ensure_future(handle.result())
        attempts = 0
        while not giving_up.done():
            waiting = asyncio.ensure_future(scene.lost())
            await asyncio.wait([waiting, giving_up], return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                attempts = waiting.result()
                scene.clock.advance(8.0)
            waiting.cancel()
        with pytest.raises(ConnectionLostError, match="gave up"):
            giving_up.result()
        assert scene.clock.seconds() - begun >= 60.0
        assert attempts == 8  # 0.25, 0.5, 1, 2, 4, 8, 8 and what is left; each took 8 s here
        with pytest.raises(ConnectionLostError):
            await scene.client.submit("another")


async def test_a_token_that_is_not_taken_any_more_ends_it(reactor: Any) -> None:
    """A refusal of Hello that would only be repeated is not repeated."""
    async with _scene(reactor) as scene:
        handle, _ = await scene.submit("job-1")
        scene.connection.drop()
        await scene.lost()
        scene.clock.advance(8.0)
        again = await scene.server.connection()
        hello = await again.hears("hello")
        again.says(hello.request_id, error=pb.Error(code=pb.UNAUTHENTICATED, message="revoked"))
        with pytest.raises(NotWelcomeError, match="revoked"):
            await handle.result()


async def test_a_full_server_is_tried_again(reactor: Any) -> None:
    """TOO_MANY_CONNECTIONS passes: the next attempt may succeed."""
    async with _scene(reactor) as scene:
        scene.connection.drop()
        await scene.lost()
        scene.clock.advance(8.0)
        full = await scene.server.connection()
        full.says(0, goodbye=pb.Goodbye(code=pb.TOO_MANY_CONNECTIONS, message="full"))
        await scene.back()
        assert "full" in scene.texts[1]


async def test_who_was_put_out_by_another_login_stays_away(reactor: Any) -> None:
    """DUPLICATE_LOGIN: to come back would put the other out, who would come back."""
    async with _scene(reactor) as scene:
        handle, _ = await scene.submit("job-1")
        scene.connection.says(0, goodbye=pb.Goodbye(code=pb.DUPLICATE_LOGIN, message="elsewhere"))
        with pytest.raises(ConnectionLostError, match="elsewhere") as caught:
            await handle.result()
        assert caught.value.code is Code.DUPLICATE_LOGIN
        assert scene.texts == []


async def test_bytes_that_are_no_protocol_end_the_connection(reactor: Any) -> None:
    """A frame beyond every limit is not waited for: the client goes to a fresh connection."""
    async with _scene(reactor) as scene:
        await scene.submit("job-1")
        scene.connection.writes(b"\xff\xff\xff\xff")
        await scene.connection.lost()
        again = await scene.back()
        await again.hears("watch")
        assert "broken" in scene.texts[0]


async def test_a_frame_that_holds_no_envelope_ends_the_connection(reactor: Any) -> None:
    """What cannot be read may have been a result: the client goes to a fresh connection and asks again."""
    async with _scene(reactor) as scene:
        await scene.submit("job-1")
        scene.connection.writes(encode_frame(b"\xff\xff"))
        again = await scene.back()
        await again.hears("watch")
        assert "does not keep to the protocol" in scene.texts[0]


async def test_a_message_of_a_later_version_is_passed_over(reactor: Any) -> None:
    """An Envelope with a member that this version does not know changes nothing."""
    async with _scene(reactor) as scene:
        scene.connection.writes(encode_frame(b"\xd2\x3e\x00"))  # field 1002, empty
        await _round_trip(scene.client, scene.connection)
        assert scene.client.connected


async def test_a_loss_after_a_long_quiet_time_is_an_outage_of_its_own(reactor: Any) -> None:
    """A connection that nothing was asked of and that held for a while does not count as failing all along."""
    async with _scene(reactor) as scene:
        scene.connection.drop()
        again = await scene.back()
        assert await scene.lost() == 0
        scene.clock.advance(90.0)
        again.drop()
        assert await scene.lost() == 1


async def test_a_listener_that_fails_leaves_nobody_waiting(reactor: Any) -> None:
    """If `tell` raises (its terminal has gone), the jobs end with an error instead of waiting for ever."""

    def tell(text: str, attempt: int) -> None:
        raise BrokenPipeError

    async with FakeServer(reactor) as server:
        client = Client(reactor, server.address, tell=tell)
        connecting = asyncio.ensure_future(client.connect())
        connection = await server.greeted()
        await connecting
        submitting = asyncio.ensure_future(client.submit("a star"))
        await connection.hears("submit")
        connection.drop()
        with pytest.raises(ConnectionLostError, match="BrokenPipeError"):
            await submitting
        await client.close()


async def test_closing_during_an_outage(reactor: Any) -> None:
    """close() ends the attempts to come back."""
    async with _scene(reactor) as scene:
        scene.connection.drop()
        await scene.lost()
        await scene.client.close()
        assert scene.clock.getDelayedCalls() == []


async def _heard(handle: JobHandle, kind: type) -> None:
    async for event in handle:
        if isinstance(event, kind):
            return


async def _end(handle: JobHandle) -> None:
    async for _ in handle:
        pass


async def _round_trip(client: Client, connection: FakeConnection) -> None:
    """Once this has come back, the client has heard everything that was said before."""
    pinging = asyncio.ensure_future(client.ping())
    ping = await connection.hears("ping")
    connection.says(ping.request_id, pong=pb.Pong())
    await pinging
