"""Connections by real sockets: deadlines by a clock that the test turns, caps, slow readers, the end."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from typing import Any

import pytest
import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from server.doors.http.connections import HttpConnection
from tests.server.doors.http.door import CONNECTION_LIMITS, TOKEN, Door, Served, served
from tests.server.fakes import settle

GET = b"GET /livez HTTP/1.1\r\nhost: paint.test\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    """A submit."""
    lines = [
        b"POST /v1/jobs HTTP/1.1", b"host: paint.test", b"content-type: application/json",
        b"authorization: Bearer " + TOKEN.encode(), b"content-length: %d" % len(body), *headers,
    ]  # fmt: skip
    return b"\r\n".join([*lines, b"", body])


def listen(job_id: str) -> bytes:
    """To a job's events."""
    return f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nhost: x\r\nx-api-key: {TOKEN}\r\n\r\n".encode()


async def gone(house: Served) -> None:
    """Nothing is left of anyone, without a turn of the clock."""
    await house.until(lambda: not house.server.connections)
    await house.until(lambda: not house.server.state.tasks)
    assert len(house.door.listeners) == 0


async def test_requests_follow_one_another_on_a_connection() -> None:
    """Also two that are sent at once."""
    async with served() as house:
        line = await house.connect()
        assert (await line.ask(GET)).json() == {"status": "ok"}
        await line.say(GET + GET)
        assert [(await line.hear()).status for _ in range(2)] == [200, 200]
        assert (await line.ask(post(b'{"prompt": "a star"}'))).status == 202


async def test_nothing_waits_for_an_acknowledgement() -> None:
    """Head and body of an answer are two writes: with Nagle's algorithm the second would come 40 ms later."""
    async with served() as house:
        await (await house.connect()).ask(GET)
        (connection,) = house.server._open
        transport: Any = connection.transport  # type: ignore[attr-defined]
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.1\r\nhost: p"])
async def test_headers_must_come_in_time_however_they_trickle(begun: bytes) -> None:
    """408 ten seconds after connecting; a byte now and then moves nothing."""
    async with served() as house:
        line = await house.connect()
        await line.say(begun)
        for _ in range(9):
            await house.pass_time(1.0)
            await line.say(b"x" if begun else b"")
        assert house.server.connections == 1
        await house.pass_time(1.5)
        assert (await line.hear()).status == 408
        assert await line.rest() == b""


async def test_a_body_must_come_in_time_however_it_trickles() -> None:
    """408 thirty seconds after the headers; nobody works on what never came."""
    async with served() as house:
        line = await house.connect()
        await line.say(post(b"x" * 100)[:-90])
        for _ in range(29):
            await house.pass_time(1.0)
            await line.say(b"x")
        assert house.server.connections == 1
        await house.pass_time(1.5)
        answer = await line.hear()
        assert (answer.status, answer.json()["error"]["code"]) == (408, "FRAME_TIMEOUT")
        assert answer.json()["error"]["details"] == {"field": "body", "limit": "30 s"}
        await house.until(lambda: not house.server.state.tasks)


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    """After its time; one that was begun again has the time of headers, and no more."""
    async with served() as house:
        idle, begun = await house.connect(), await house.connect()
        await idle.ask(GET)
        await begun.ask(GET)
        await house.pass_time(70.0)
        await begun.say(b"GET")
        await house.pass_time(6.0)
        assert await idle.rest() == b""
        assert b" 408 " in (await begun.rest()).split(b"\r\n")[0]


async def test_a_long_answer_has_no_deadline() -> None:
    """Who listens to events for an hour, and reads, stays."""
    async with served() as house:
        job_id = await house.door.job()
        line = await house.connect()
        await line.say(listen(job_id))
        await line.reader.readuntil(b"event: accepted")
        await house.pass_time(200.0)
        house.door.house.painter.paint(job_id)
        assert b"event: succeeded" in await line.reader.readuntil(b"0\r\n\r\n")
        assert (await line.ask(GET)).status == 200


async def test_who_does_not_read_is_cut_off() -> None:
    """A minute after our output was full; the server keeps a bounded part of it."""
    async with served() as house:
        job_id = await house.door.job(preview_every_steps=1)
        line = await house.connect(receive_buffer=4096)
        await line.say(listen(job_id))
        await house.turn()
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        house.door.house.painter.start(job_id)
        (connection,) = house.server._open
        transport: Any = connection.transport  # type: ignore[attr-defined]
        for number in range(60_000):
            house.door.house.painter.step(job_id, number % 20 + 1)
            if number % 50 == 0:
                await settle()
                if transport.get_write_buffer_size() > 65_536:
                    break
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() > 65_536
        assert len(house.door.listeners) == 1
        await house.pass_time(61.0)
        await house.until(lambda: not house.server.connections)
        await house.until(lambda: not len(house.door.listeners))


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez HTTP/1.1\r\nx: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nx: " + b"a" * 5000,
        b"GET /" + b"a" * 5000,
        b"GET /livez HTTP/1.1\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
    ],
)
async def test_headers_have_a_size(sent: bytes) -> None:
    """431, whether they ended or not."""
    async with served() as house:
        line = await house.connect()
        answer = await line.ask(sent)
        assert (answer.status, answer.json()["error"]["code"]) == (431, "FRAME_TOO_LARGE")
        assert await line.rest() == b""


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"]
)
async def test_what_is_no_http_is_refused(sent: bytes) -> None:
    """400 in the one body, and the end."""
    async with served() as house:
        line = await house.connect()
        answer = await line.ask(sent)
        assert (answer.status, answer.json()["error"]["code"]) == (400, "MALFORMED_MESSAGE")


CHUNKED = (
    b"POST /v1/jobs HTTP/1.1\r\nhost: paint.test\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    b'12\r\n{"prompt": "a star"}\r\n'.replace(b"12", b"%x" % len(b'{"prompt": "a star"}'))
)


async def test_a_trailer_is_no_header() -> None:
    """A token that comes behind the body is nobody's."""
    async with served() as house:
        line = await house.connect()
        trailer = b"authorization: Bearer " + TOKEN.encode()
        assert (await line.ask(CHUNKED + b"0\r\n" + trailer + b"\r\n\r\n")).status == 401
        assert (await line.ask(CHUNKED.replace(b"host", trailer + b"\r\nhost") + b"0\r\n\r\n")).status == 202


@pytest.mark.parametrize("endless", [b"0\r\nx: " + b"a" * 5000, b"0\r\n" + b"x: y\r\n" * 1000, b"1;" + b"a" * 5000])
async def test_trailers_have_a_size(endless: bytes) -> None:
    """431, as for headers; so has whatever else is no body; a body in any pieces goes on."""
    async with served() as house:
        line = await house.connect()
        await line.say(CHUNKED.replace(b"host", b"authorization: Bearer " + TOKEN.encode() + b"\r\nhost"))
        for _ in range(5):
            await line.say(b"3e8\r\n" + b" " * 1000 + b"\r\n")
            await house.turn()
        await line.say(endless)
        answer = await line.hear()
        assert (answer.status, answer.json()["error"]["code"]) == (431, "FRAME_TOO_LARGE")
        assert await line.rest() == b""
        await line.close()
        await gone(house)


async def test_the_end_is_noticed_behind_pipelined_requests() -> None:
    """Who asks for more while it listens, and hangs up, leaves nothing: neither the listener nor what waited."""
    async with served() as house:
        job_id = await house.door.job()
        for more in (GET, GET * 16, listen(job_id) * 3, post(b"x" * 15_000), post(b"x" * 15_000)[:-10]):
            line = await house.connect()
            await line.say(listen(job_id) + more)
            await line.reader.readuntil(b"event: accepted")
            assert len(house.door.listeners) == 1
            await line.close()
            await gone(house)


async def test_pipelined_requests_are_answered_after_a_long_answer() -> None:
    """Also those that came bit by bit while it was under way."""
    async with served() as house:
        job_id = await house.door.job()
        line = await house.connect()
        await line.say(listen(job_id))
        await line.reader.readuntil(b"event: accepted")
        for piece in (GET[:9], GET[9:] + post(b'{"prompt": "a star"}')[:-9], b'"a star"}'):
            await line.say(piece)
            await house.turn()
        house.door.house.painter.paint(job_id)
        await line.reader.readuntil(b"0\r\n\r\n")
        assert [(await line.hear()).status for _ in range(2)] == [200, 202]


async def test_bodies_that_wait_hold_their_sender_up_and_are_answered_in_turn() -> None:
    """Beyond 64 KiB of them no more is read, for as long as it takes; then each request has its answer."""
    async with served() as house:
        job_id = await house.door.job()
        line = await house.connect()
        await line.say(listen(job_id))
        await line.reader.readuntil(b"event: accepted")
        (connection,) = house.server._open
        assert isinstance(connection, HttpConnection)

        def held() -> bool:
            return connection.flow.read_paused

        for _ in range(5):
            await line.say(post(b"x" * 19_000))
            await house.turn()
        assert held()
        waiting = len(connection.pipeline)
        assert waiting in (4, 5)  # the last may have come in the same reading as the one that was too much
        for _ in range(5):
            await line.say(post(b"x" * 19_000))
        await house.pass_time(100)
        assert len(connection.pipeline) == waiting
        house.door.house.painter.start(job_id)
        house.door.house.painter.paint(job_id)
        await line.reader.readuntil(b"0\r\n\r\n")
        assert [(await line.hear()).status for _ in range(10)] == [400] * 10
        assert not held()
        await line.close()
        await gone(house)


@pytest.mark.parametrize(
    ("behind", "seconds"),
    [
        (post(b"x" * 100)[:-90], 31.0),  # its body is late
        (GET[:-9], 11.0),  # its headers are
        (b"\x16\x03\x01\r\n\r\n", 0.0),
        (GET * 17, 0.0),
        (CHUNKED + b"0\r\n" + b"x: y\r\n" * 1000, 31.0),
    ],
)
async def test_what_is_refused_behind_an_answer_is_not_told_in_it(behind: bytes, seconds: float) -> None:
    """The answer breaks off without a word, nobody writes on, and nothing is logged as broken."""
    async with served() as house:
        job_id = await house.door.job()
        line = await house.connect()
        with structlog.testing.capture_logs() as logs:
            await line.say(listen(job_id))
            await line.reader.readuntil(b"event: accepted")
            await line.say(behind)
            await house.pass_time(seconds)
            house.door.house.painter.start(job_id)
            house.door.house.painter.paint(job_id)
            assert b"HTTP/1.1" not in await line.rest()
            await house.pass_time(2.5)
            await gone(house)
        assert "request.broken" not in [entry["event"] for entry in logs]


async def test_a_refused_request_is_not_asked_to_go_on() -> None:
    """Who waits for 100 Continue is not told so after the refusal."""
    async with served() as house:
        line = await house.connect()
        with structlog.testing.capture_logs() as logs:
            head = CHUNKED.partition(b"\r\n\r\n")[0]
            await line.say(head + b"\r\nexpect: 100-continue\r\nx-api-key: " + TOKEN.encode() + b"\r\n\r\nnonsense\r\n")
            assert (await line.hear()).status == 400
            assert await line.rest() == b""
            await house.until(lambda: not house.server.state.tasks)
        assert "request.broken" not in [entry["event"] for entry in logs]


async def test_no_socket_begins_behind_an_answer() -> None:
    """Nor after a refusal; the connection is closed, and nothing is left of both."""
    async with served() as house:
        job_id = await house.door.job()
        path = f"GET /v1/jobs/{job_id}/ws HTTP/1.1\r\nhost: x\r\nx-api-key: {TOKEN}\r\n".encode()
        shake = (
            b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n"
        )
        for asked in (listen(job_id) + path + shake + b"\r\n", path + b"x: " + b"a" * 5000 + b"\r\n" + shake + b"\r\n"):
            line = await house.connect()
            await line.say(asked)
            assert b" 101 " not in await line.rest()
            await house.pass_time(2.5)
            await gone(house)
        line = await house.connect()
        await line.say(path + shake + b"\r\n")
        assert b" 101 " in await line.reader.readuntil(b"\r\n\r\n")
        await line.close()
        await gone(house)


@pytest.mark.parametrize("path", ["/static/swagger-ui/swagger-ui-bundle.js", "/openapi.json"])
async def test_a_long_answer_is_kept_in_pieces_for_who_does_not_read(path: str) -> None:
    """What waits in the server's memory is bounded; whoever reads later reads all of it."""
    async with served() as house:
        whole = (await house.door.ask("GET", path)).body
        times = 3
        line = await house.connect(receive_buffer=4096)
        (connection,) = house.server._open
        transport: Any = connection.transport  # type: ignore[attr-defined]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await line.say(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() * times)
        await house.until(lambda: transport.get_write_buffer_size() > 65_536)
        await house.turn()
        assert transport.get_write_buffer_size() < 65_536 + 4096
        line.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(times):
            assert (await line.hear()).body == whole


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes() -> None:
    """And its client, which sends it all the same, reads why."""
    async with served() as house:
        line = await house.connect()
        await line.say(post(b"")[:-4].replace(b"content-length: 0", b"content-length: 300000") + b"\r\n\r\n")
        assert (await line.hear()).status == 413
        await line.say(b"x" * 300_000)
        assert (await line.ask(GET)).status == 200


async def test_one_connection_too_many_is_told_so() -> None:
    """503, and a place is free again when one has gone."""
    async with served(replace(CONNECTION_LIMITS, max_connections=1)) as house:
        first = await house.connect()
        await first.ask(GET)
        second = await house.connect()
        refused = await second.hear()
        assert (refused.status, refused.json()["error"]["code"]) == (503, "TOO_MANY_CONNECTIONS")
        await second.close()
        await first.close()
        await house.until(lambda: not house.server.connections)
        assert (await (await house.connect()).ask(GET)).status == 200


async def test_a_stop_lets_answers_end_and_closes_the_rest() -> None:
    """Idle connections at once; a listener when its job is let go; what never ends, after a time."""
    door = Door()
    house = Served(door)
    await house.__aenter__()
    idle, listening, stuck = await house.connect(), await house.connect(), await house.connect()
    await idle.ask(GET)
    job_id = await door.job()
    await listening.say(listen(job_id))
    await listening.reader.readuntil(b"event: accepted")
    await stuck.say(post(b"x" * 100)[:-90])
    await house.turn()
    door.listeners.leave()
    closing = asyncio.ensure_future(house.server.close_all(5.0))
    await house.turn()
    assert await idle.rest() == b""
    assert (await listening.rest()).endswith(b"0\r\n\r\n")
    assert not closing.done()
    door.clock.advance(5.0)
    await closing
    assert await stuck.rest() == b""
    assert house.server.connections == 0
    assert not house.server.state.tasks
    await house.__aexit__()


async def test_a_client_that_hangs_up_in_any_phase_leaves_nothing() -> None:
    """In its headers, in its body, while it waits, while it listens."""
    async with served() as house:
        job_id = await house.door.job()
        for sent in (
            b"",
            b"GET /li",
            post(b"x" * 100)[:-50],
            post(b'{"prompt": "a star"}'),
            listen(job_id),
        ):
            line = await house.connect()
            await line.say(sent)
            await house.turn()
            await line.close()
            await house.until(lambda: not house.server.connections)
            await house.until(lambda: not house.server.state.tasks)
        assert len(house.door.listeners) == 0


async def test_a_socket_hears_the_same_events() -> None:
    """As text messages; closed with 1000 after the end."""
    async with served() as house:
        job_id = await house.door.job()
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with connect(f"ws://127.0.0.1:{house.port}/v1/jobs/{job_id}/ws", additional_headers=headers) as ear:
            told = [json.loads(await ear.recv())]
            house.door.house.painter.paint(job_id)
            told += [json.loads(message) async for message in ear]
            assert [told[0]["event"], told[-1]["event"]] == ["accepted", "succeeded"]
            assert ear.close_code == 1000
        await house.until(lambda: not house.server.connections)


async def test_a_socket_for_nothing_is_refused_in_the_handshake() -> None:
    """With the status and the body of any other refusal."""
    async with served() as house:
        for headers, status, code in (
            ({"x-api-key": TOKEN}, 404, "JOB_NOT_FOUND"),
            ({}, 401, "UNAUTHENTICATED"),
        ):
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://127.0.0.1:{house.port}/v1/jobs/nobody/ws", additional_headers=headers)
            assert caught.value.response.status_code == status
            assert json.loads(bytes(caught.value.response.body or b""))["error"]["code"] == code


async def test_a_socket_that_goes_away_and_a_server_that_stops() -> None:
    """The one leaves no listener; the other says 1012: come back."""
    async with served() as house:
        job_id = await house.door.job()
        url, headers = f"ws://127.0.0.1:{house.port}/v1/jobs/{job_id}/ws", {"x-api-key": TOKEN}
        async with connect(url, additional_headers=headers) as ear:
            await ear.recv()
            assert len(house.door.listeners) == 1
        await house.until(lambda: not len(house.door.listeners))
        async with connect(url, additional_headers=headers) as ear:
            await ear.recv()
            house.door.listeners.leave()
            await ear.wait_closed()
            assert ear.close_code == 1012
