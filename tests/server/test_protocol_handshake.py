"""The TCP door: who may come in."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from proto import atelier_pb2 as pb
from server import __version__
from tests.server.door import LIMITS, TOKEN, Door, kinds
from tests.server.house import BOB, TOKENS, House


async def test_a_good_hello_is_answered_by_welcome() -> None:
    """With the owner that the token stands for, the versions and the limits."""
    welcome = await Door().connect().greet()
    assert (welcome.kind, welcome.message.owner, welcome.message.protocol_version) == ("welcome", "ada", 1)
    assert welcome.message.server_version == __version__
    assert welcome.message.limits == LIMITS.told
    assert welcome.message.session_id


async def test_sessions_are_told_apart() -> None:
    """In the log, by their id."""
    door = Door()
    first, second = await door.connect().greet(), await door.connect().greet()
    assert first.message.session_id != second.message.session_id


async def test_connections_are_kept_alive_and_unbuffered() -> None:
    """A dead peer is noticed by the system; small packets do not wait."""
    assert Door().connect().transport.options == {"nodelay": True, "keepalive": True}


async def test_without_tokens_everyone_here_is_one_owner() -> None:
    """Whatever token is sent."""
    door = Door(House(tokens={}))
    assert (await door.connect().greet("")).message.owner == "local"
    assert (await door.connect().greet("whatever")).message.owner == "local"


@pytest.mark.parametrize(
    ("hello", "code", "field", "limit"),
    [
        ({"protocol_version": 0}, pb.UNSUPPORTED_VERSION, "protocol_version", "1"),
        ({"protocol_version": 2}, pb.UNSUPPORTED_VERSION, "protocol_version", "1"),
        ({"token": "wrong"}, pb.UNAUTHENTICATED, "token", "a valid token"),
        ({"token": ""}, pb.UNAUTHENTICATED, "token", "a valid token"),
        ({"client_name": "x" * 101}, pb.INVALID_PARAMETER, "client_name", "at most 100 characters"),
    ],
)
async def test_a_bad_hello_is_refused_and_may_be_said_again(
    hello: dict[str, Any], code: int, field: str, limit: str
) -> None:
    """Twice; the third good one is welcomed."""
    peer = Door().connect()
    for _ in range(2):
        error = await peer.greet(**hello)
        assert (error.message.code, error.message.field, error.message.limit) == (code, field, limit)
    assert (await peer.greet()).kind == "welcome"


async def test_a_third_refusal_closes() -> None:
    """With the Error, a Goodbye of the same code, and the connection's end; no timer stays."""
    door = Door()
    peer = door.connect()
    for _ in range(2):
        await peer.greet("wrong")
    peer.say(hello=pb.Hello(protocol_version=1, token="wrong"))
    heard = await peer.hear()
    assert kinds(heard) == ["error", "goodbye"]
    assert {one.message.code for one in heard} == {pb.UNAUTHENTICATED}
    assert not peer.transport.connected
    assert door.tcp.connections == 0
    assert door.clock.getDelayedCalls() == []


async def test_nothing_else_may_be_said_first() -> None:
    """HELLO_REQUIRED for every request, and nothing is done; then a Hello works."""
    door = Door()
    peer = door.connect()
    for message in (
        {"submit": pb.Submit(prompt="x")},
        {"ping": pb.Ping()},
        {"get_server_status": pb.GetServerStatus()},
    ):
        assert (await peer.ask(**message)).message.code == pb.HELLO_REQUIRED
    assert door.house.lifecycle.live == 0
    assert (await peer.greet()).kind == "welcome"


async def test_a_second_hello_is_unexpected() -> None:
    """The owner stays."""
    door = Door()
    peer = await door.client()
    error = await peer.ask(hello=pb.Hello(protocol_version=1, token=TOKEN))
    assert error.message.code == pb.UNEXPECTED_MESSAGE
    assert (await peer.ask(ping=pb.Ping())).kind == "pong"


@pytest.mark.parametrize("size", [4097, 2**31, 2**32 - 1])
async def test_a_huge_length_is_refused_on_its_prefix(size: int) -> None:
    """Before Welcome 4 KiB are the limit: Error and Goodbye, and no byte of the body is waited for."""
    peer = Door().connect()
    peer.transport.deliver(struct.pack(">I", size))
    heard = await peer.hear()
    assert kinds(heard) == ["error", "goodbye"]
    assert {one.message.code for one in heard} == {pb.FRAME_TOO_LARGE}
    assert "4096" in heard[0].message.limit
    assert not peer.transport.connected


async def test_after_welcome_the_larger_limit_holds() -> None:
    """A frame of it is taken, one byte more breaks the stream."""
    door = Door()
    peer = await door.client()
    body = pb.Envelope(request_id=9, submit=pb.Submit(prompt="x")).SerializeToString()
    filler = LIMITS.max_frame_bytes - len(body) - 8
    envelope = pb.Envelope(request_id=9, submit=pb.Submit(prompt="x", negative_prompt="y" * filler))
    while (size := envelope.ByteSize()) != LIMITS.max_frame_bytes:
        envelope.submit.negative_prompt += "y" * (LIMITS.max_frame_bytes - size)
    peer.transport.deliver(struct.pack(">I", size) + envelope.SerializeToString())
    (refused,) = await peer.hear()
    assert (refused.message.code, refused.message.field) == (pb.INVALID_PARAMETER, "negative_prompt")
    peer.transport.deliver(struct.pack(">I", size + 1))
    assert kinds(await peer.hear()) == ["error", "goodbye"]


async def test_garbage_in_whole_frames_leaves_the_connection_open() -> None:
    """Each is refused by its code, also before Hello."""
    peer = Door().connect()
    for body, code in (
        (b"\xff\xff", pb.MALFORMED_MESSAGE),
        (b"", pb.UNKNOWN_MESSAGE),
        (b"\x08\x07", pb.UNKNOWN_MESSAGE),
    ):
        peer.transport.deliver(struct.pack(">I", len(body)) + body)
        (error,) = await peer.hear()
        assert error.message.code == code
    assert (await peer.greet()).kind == "welcome"


async def test_a_hello_byte_by_byte_is_a_hello() -> None:
    """However it was cut on its way."""
    peer = Door().connect()
    for byte in peer.frame(1, hello=pb.Hello(protocol_version=1, token=TOKEN)):
        peer.transport.deliver(bytes([byte]))
    assert kinds(await peer.hear()) == ["welcome"]


async def test_an_exclusive_login_puts_the_earlier_one_out() -> None:
    """It is told DUPLICATE_LOGIN and closed; the later one, and those that did not ask for the name alone, stay."""
    door = Door()
    bystander, earlier, later = door.connect(), door.connect(), door.connect()
    await bystander.greet(client_name="studio")
    await earlier.greet(client_name="studio", exclusive=True)
    assert (await later.greet(client_name="studio", exclusive=True)).kind == "welcome"
    (goodbye,) = await earlier.hear()
    assert (goodbye.kind, goodbye.message.code) == ("goodbye", pb.DUPLICATE_LOGIN)
    assert earlier.transport.closing or not earlier.transport.connected
    for peer in (bystander, later):
        assert (await peer.ask(ping=pb.Ping(client_time_us=1))).kind == "pong"


async def test_a_name_is_held_within_one_owner_and_as_long_as_its_connection() -> None:
    """Another owner's is another name; who was put out, or has gone, holds nothing."""
    door = Door()
    ada, bob, again = door.connect(), door.connect(), door.connect()
    await ada.greet(client_name="studio", exclusive=True)
    await bob.greet(TOKENS[BOB].get_secret_value(), client_name="studio", exclusive=True)
    assert (await ada.ask(ping=pb.Ping())).kind == "pong"
    held = door.parts.exclusives
    assert len(held) == 2
    await again.greet(client_name="studio", exclusive=True)
    await ada.hear()
    ada.transport.hang_up()
    assert len(held) == 2, "the loser's end takes nothing from its successor"
    again.transport.hang_up()
    bob.transport.hang_up()
    assert len(held) == 0


async def test_to_be_alone_under_no_name_is_refused() -> None:
    """`exclusive` is about client_name."""
    error = await Door().connect().greet(exclusive=True)
    assert (error.kind, error.message.code, error.message.field) == ("error", pb.INVALID_PARAMETER, "client_name")


async def test_a_slow_reader_is_put_out_too() -> None:
    """An earlier connection that nobody reads at its end (a dead one, say) does not keep the name."""
    door = Door()
    earlier, later = door.connect(), door.connect()
    await earlier.greet(client_name="studio", exclusive=True)
    earlier.protocol.pauseProducing()
    await later.greet(client_name="studio", exclusive=True)
    door.clock.advance(3.0)
    assert not earlier.transport.connected
    assert len(door.parts.exclusives) == 1
