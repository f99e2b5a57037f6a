"""bot.client against a server that keeps the protocol: real TCP, one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet.task import Clock

from bot import (
    CannotConnectError,
    Client,
    ClientClosedError,
    ClientError,
    JobCanceledError,
    NotWelcomeError,
    PictureBrokenError,
    RefusedError,
)
from proto import atelier_pb2 as pb
from server.errors import Code
from server.events import Accepted, Progress, Succeeded
from tests.bot.fake_server import FakeConnection, FakeServer, result

PICTURE = bytes(range(256)) * 20


@asynccontextmanager
async def _connected(reactor: Any, **options: Any) -> AsyncIterator[tuple[Client, FakeConnection]]:
    """A client, and the server's end of its connection."""
    async with FakeServer(reactor) as server:
        client = Client(reactor, server.address, **options)
        connecting = asyncio.ensure_future(client.connect())
        connection = await server.greeted()
        await connecting
        try:
            yield client, connection
        finally:
            await client.close()


async def test_a_wrong_token_is_not_welcome(reactor: Any) -> None:
    """The server's refusal of Hello is raised as it was said, and the connection is closed."""
    async with FakeServer(reactor) as server:
        connecting = asyncio.ensure_future(Client(reactor, server.address, token="wrong").connect())
        connection = await server.connection()
        hello = await connection.hears("hello")
        assert hello.message.token == "wrong"
        connection.says(
            hello.request_id, error=pb.Error(code=pb.UNAUTHENTICATED, field="token", message="no such token")
        )
        with pytest.raises(NotWelcomeError, match="no such token") as caught:
            await connecting
        assert caught.value.code is Code.UNAUTHENTICATED
        await connection.lost()


async def test_a_full_server_says_goodbye_at_once(reactor: Any) -> None:
    """A Goodbye before Welcome is raised with its code."""
    async with FakeServer(reactor) as server:
        connecting = asyncio.ensure_future(Client(reactor, server.address).connect())
        connection = await server.connection()
        connection.says(0, goodbye=pb.Goodbye(code=pb.TOO_MANY_CONNECTIONS, message="full"))
        with pytest.raises(NotWelcomeError, match="full") as caught:
            await connecting
        assert caught.value.code is Code.TOO_MANY_CONNECTIONS


async def test_a_server_that_closes_without_a_word_cannot_be_connected_to(reactor: Any) -> None:
    """A connection that ends before Welcome is told as such."""
    async with FakeServer(reactor) as server:
        connecting = asyncio.ensure_future(Client(reactor, server.address).connect())
        (await server.connection()).drop()
        with pytest.raises(CannotConnectError, match="before Welcome"):
            await connecting


async def test_a_server_that_never_answers_hello_times_out(reactor: Any) -> None:
    """After the handshake's time the client gives up and closes."""
    clock = Clock()
    async with FakeServer(reactor) as server:
        connecting = asyncio.ensure_future(Client(reactor, server.address, clock=clock).connect())
        connection = await server.connection()
        await connection.hears("hello")
        clock.advance(10.0)
        with pytest.raises(CannotConnectError, match="no Welcome within 10 s"):
            await connecting
        await connection.lost()
    assert clock.getDelayedCalls() == []


async def test_nobody_there(reactor: Any) -> None:
    """A refused connection is one clear error."""
    async with FakeServer(reactor) as server:
        await server.stop_listening()
        with pytest.raises(CannotConnectError, match="refused"):
            await Client(reactor, server.address).connect()


@pytest.mark.parametrize("address", ["", "blah", "127.0.0.1:9000", "tcp:1:2:3:4:5", "tcp"])
def test_what_is_no_address_is_told(reactor: Any, address: str) -> None:
    """A wrong endpoint string is refused when the client is made."""
    with pytest.raises(CannotConnectError, match="is no address"):
        Client(reactor, address)


async def test_a_job_from_submit_to_picture(reactor: Any) -> None:
    """Fields travel as given, events arrive in order, and the picture is whole."""
    async with _connected(reactor) as (client, connection):
        submitting = asyncio.ensure_future(
            client.submit("a star", width=128, guidance_scale=4.0, adapters=["ink", ("ukiyo-e", 0.5)], num_images=None)
        )
        asked = await connection.accepts("job-1", seed=11)
        submit = asked.message
        assert isinstance(submit, pb.Submit)
        assert (submit.prompt, submit.width, submit.guidance_scale) == ("a star", 128, 4.0)
        assert not submit.HasField("num_images")
        assert [(use.name, use.HasField("scale"), use.scale) for use in submit.adapters] == [
            ("ink", False, 0.0),
            ("ukiyo-e", True, 0.5),
        ]
        assert len(submit.idempotency_key) == 36
        handle = await submitting
        assert (handle.job_id, handle.seed, handle.duplicate) == ("job-1", 11, False)
        connection.progresses(asked.request_id, "job-1", 1, step=10)
        connection.sends_picture(asked.request_id, "job-1", PICTURE)
        connection.finishes(asked.request_id, "job-1", 2, PICTURE)
        outcome = await handle.result()
        assert outcome.pictures == (PICTURE,)
        assert outcome.artifacts[0].key == "jobs/job-1/0.png"
        assert [type(event) for event in [event async for event in handle]] == [Accepted, Progress, Succeeded]


async def test_a_picture_with_another_hash_is_broken(reactor: Any) -> None:
    """Pictures are checked; the error carries the artifacts, by which they can be fetched elsewhere."""
    async with _connected(reactor) as (client, connection):
        submitting = asyncio.ensure_future(client.submit("a star"))
        asked = await connection.accepts("job-1")
        connection.sends_picture(asked.request_id, "job-1", b"what came")
        connection.finishes(asked.request_id, "job-1", 1, b"announced")
        with pytest.raises(PictureBrokenError, match="sha256") as caught:
            await (await submitting).result()
        assert caught.value.outcome is not None
        assert caught.value.outcome.artifacts[0].size == 9


async def test_pieces_with_a_gap_are_broken(reactor: Any) -> None:
    """A gap between chunks ends the job's handle, and no other."""
    async with _connected(reactor) as (client, connection):
        submitting = asyncio.ensure_future(client.submit("a star"))
        asked = await connection.accepts("job-1")
        connection.says(asked.request_id, chunk=pb.Chunk(job_id="job-1", offset=5, size=9, data=b"late"))
        with pytest.raises(PictureBrokenError, match="bytes 5 to 9"):
            await (await submitting).result()
        pinging = asyncio.ensure_future(client.ping())
        ping = await connection.hears("ping")
        connection.says(ping.request_id, pong=pb.Pong(server_time_us=3))
        assert (await pinging).server_time_us == 3


async def test_many_jobs_share_one_connection(reactor: Any) -> None:
    """Chunks and events of fifty jobs alternate, and each handle gets its own."""
    async with _connected(reactor) as (client, connection):
        pictures = {f"job-{number}": PICTURE + bytes([number]) for number in range(50)}
        submitting = [asyncio.ensure_future(client.submit(job_id)) for job_id in pictures]
        asked = {}
        for _ in pictures:
            submit = await connection.hears("submit")
            asked[submit.message.prompt] = submit.request_id
            connection.says(submit.request_id, accepted=pb.Accepted(job_id=submit.message.prompt))
        for offset in range(0, len(PICTURE) + 1, 1000):
            for job_id, picture in reversed(pictures.items()):
                data = picture[offset : offset + 1000]
                chunk = pb.Chunk(job_id=job_id, offset=offset, size=len(picture), data=data)
                connection.says(asked[job_id], chunk=chunk)
        for job_id, picture in pictures.items():
            connection.finishes(asked[job_id], job_id, 1, picture)
        handles = await asyncio.gather(*submitting)
        outcomes = await asyncio.gather(*(handle.result() for handle in handles))
        assert {outcome.job_id: outcome.pictures for outcome in outcomes} == {
            job_id: (picture,) for job_id, picture in pictures.items()
        }


async def test_a_refused_submit_names_field_and_limit(reactor: Any) -> None:
    """An Error that answers a Submit is raised by submit()."""
    async with _connected(reactor) as (client, connection):
        submitting = asyncio.ensure_future(client.submit("a star", width=99))
        asked = await connection.hears("submit")
        error = pb.Error(code=pb.INVALID_PARAMETER, field="width", limit="64 to 1280", message="no")
        connection.says(asked.request_id, error=error)
        with pytest.raises(RefusedError) as caught:
            await submitting
        assert (caught.value.field, caught.value.limit) == ("width", "64 to 1280")


async def test_a_stopping_server_is_surfaced(reactor: Any) -> None:
    """UNAVAILABLE is raised as it stands, with the time after which to try again."""
    async with _connected(reactor) as (client, connection):
        submitting = asyncio.ensure_future(client.submit("a star", retry_exhausted_for=60))
        asked = await connection.hears("submit")
        connection.says(
            asked.request_id, error=pb.Error(code=pb.UNAVAILABLE, message="stopping", retry_after_seconds=5)
        )
        with pytest.raises(RefusedError) as caught:
            await submitting
        assert (caught.value.code, caught.value.retry_after_seconds) == (Code.UNAVAILABLE, 5)


async def test_a_full_queue_is_asked_again_when_it_says_so(reactor: Any) -> None:
    """With retry_exhausted_for, RESOURCE_EXHAUSTED is waited out for that long, under one key."""
    clock = Clock()
    async with _connected(reactor, clock=clock, random=lambda: 1.0) as (client, connection):
        submitting = asyncio.ensure_future(client.submit("a star", retry_exhausted_for=10.0))
        full = pb.Error(code=pb.RESOURCE_EXHAUSTED, message="full", retry_after_seconds=4.0)
        keys = set()
        for _ in range(3):
            asked = await connection.hears("submit")
            keys.add(asked.message.idempotency_key)
            connection.says(asked.request_id, error=full)
            await _round_trip(client, connection)
            clock.advance(4.0)
        with pytest.raises(RefusedError, match="full"):
            await submitting
        assert len(keys) == 1
        assert connection.heard_nothing()


async def test_cancelling_a_job(reactor: Any) -> None:
    """handle.cancel() gives the state at that moment, and the result is JobCanceledError."""
    async with _connected(reactor) as (client, connection):
        submitting = asyncio.ensure_future(client.submit("a star"))
        asked = await connection.accepts("job-1")
        handle = await submitting
        canceling = asyncio.ensure_future(handle.cancel())
        cancel = await connection.hears("cancel")
        assert cancel.message.job_id == "job-1"
        requested = pb.CancelRequested(job_id="job-1", state=pb.JOB_PROCESSING)
        connection.says(cancel.request_id, cancel_requested=requested)
        assert await canceling == pb.JOB_PROCESSING
        connection.says(asked.request_id, canceled=pb.Canceled(job_id="job-1", event_number=3))
        with pytest.raises(JobCanceledError):
            await handle.result()


async def test_watching_a_job_that_is_not_there(reactor: Any) -> None:
    """watch() raises the refusal itself, not later."""
    async with _connected(reactor) as (client, connection):
        watching = asyncio.ensure_future(client.watch("job-9"))
        asked = await connection.hears("get_job")
        connection.says(asked.request_id, error=pb.Error(code=pb.JOB_NOT_FOUND, field="job_id", message="none"))
        with pytest.raises(RefusedError) as caught:
            await watching
        assert caught.value.code is Code.JOB_NOT_FOUND


async def test_watching_a_job_that_has_ended(reactor: Any) -> None:
    """watch() attaches with its wishes, and gives the outcome of an ended job."""
    async with _connected(reactor) as (client, connection):
        watching = asyncio.ensure_future(client.watch("job-1", from_event=4, progress=False, inline_pictures=False))
        asked = await connection.hears("get_job")
        connection.says(asked.request_id, job=pb.Job(job_id="job-1", state=pb.JOB_SUCCEEDED, seed=11))
        handle = await watching
        watch = await connection.hears("watch")
        assert watch.message == pb.Watch(job_id="job-1", from_event=4, output=True)
        connection.says(watch.request_id, result=result("job-1", 9, PICTURE))
        outcome = await handle.result()
        assert (outcome.pictures, len(outcome.artifacts), handle.seed) == ((), 1, 11)


async def test_questions_have_their_answers(reactor: Any) -> None:
    """get_job, models and status give the server's messages, whatever the order of the answers."""
    async with _connected(reactor) as (client, connection):
        job, models, status = (
            asyncio.ensure_future(client.get_job("job-1")),
            asyncio.ensure_future(client.models()),
            asyncio.ensure_future(client.status()),
        )
        asked = [await connection.hears(kind) for kind in ("get_job", "list_models", "get_server_status")]
        connection.says(asked[2].request_id, server_status=pb.ServerStatus(state=pb.READY))
        connection.says(asked[1].request_id, models=pb.Models(models=[pb.Model(name="demo")]))
        connection.says(asked[0].request_id, job=pb.Job(job_id="job-1", percent=50))
        assert (await job).percent == 50
        assert [model.name for model in await models] == ["demo"]
        assert (await status).state == pb.READY


async def test_a_request_that_is_too_large_is_told_here(reactor: Any) -> None:
    """What the server would not take as a frame is an error at once, and the connection stays."""
    async with _connected(reactor) as (client, connection):
        with pytest.raises(ClientError, match="the peer takes at most"):
            await client.submit("x" * (1 << 20))
        await _round_trip(client, connection)


async def test_closing_ends_what_is_under_way(reactor: Any) -> None:
    """close() hangs up, and whoever waits gets ClientClosedError; nothing can be asked any more."""
    async with _connected(reactor) as (client, connection):
        submitting = asyncio.ensure_future(client.submit("a star"))
        await connection.accepts("job-1")
        handle = await submitting
        pinging = asyncio.ensure_future(client.ping())
        await connection.hears("ping")
        await client.close()
        await connection.lost()
        for waiting in (handle.result(), pinging, client.status()):
            with pytest.raises(ClientClosedError):
                await waiting
        await client.close()


async def test_nothing_can_be_asked_before_connect(reactor: Any) -> None:
    """A client that was never connected says so."""
    with pytest.raises(ClientClosedError, match="connect"):
        await Client(reactor, "tcp:127.0.0.1:1").status()


async def _round_trip(client: Client, connection: FakeConnection) -> None:
    """Once this has come back, the client has heard everything that was said before."""
    pinging = asyncio.ensure_future(client.ping())
    ping = await connection.hears("ping")
    connection.says(ping.request_id, pong=pb.Pong())
    await pinging
