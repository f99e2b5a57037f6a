"""Outgoing HTTP: where it goes and where not, what comes back, and when it is given up."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.ssl import Certificate
from twisted.internet.task import Clock
from twisted.web.client import BrowserLikePolicyForHTTPS

from server.addresses import AddressRefused, NotSent, look_up
from server.outgoing import MAX_HEAD, OutcomeUnknown, Outgoing
from server.pools import InlinePool
from tests.server.fakes import HoldingPool, settle
from tests.server.scripted import Asked, answer, certify, partly, scripted, silence
from tests.server.test_addresses import LOOPBACK, names


def outgoing(reactor: Any, clock: Any = None, **given: Any) -> Outgoing:
    """One that may call loopback as hooks.test."""
    given = {"networks": LOOPBACK, "look_up": names(hooks_test="127.0.0.1"), **given}
    return Outgoing(reactor, clock or Clock(), InlinePool(), **given)


async def test_a_request_goes_to_the_address_that_was_checked(reactor: Any) -> None:
    """The name is resolved once, and stays in Host; method, headers and body arrive, and the answer comes back."""
    asked = []

    def find(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    async with scripted(answer("207 Multi-Status", b'{"ok": 1}', X_Kind="a")) as host:
        url = f"http://hooks.test:{host.port}/a?b=c"
        caller = outgoing(reactor, look_up=find)
        async with caller.request("PATCH", url, seconds=9, headers={"X-Of": "me"}, body=b"{}") as got:
            assert (got.status, got.header("x-kind"), got.header("x-none")) == (207, "a", "")
            assert got.length == 9
            assert await got.read_at_most(100) == b'{"ok": 1}'
        assert asked == [("hooks.test", host.port)]
        assert host.asked[0].line == "PATCH /a?b=c HTTP/1.1"
        assert host.asked[0].headers["host"] == f"hooks.test:{host.port}"
        assert host.asked[0].headers["x-of"] == "me"
        assert host.asked[0].headers["accept-encoding"] == "identity"
        assert host.asked[0].body == b"{}"


async def test_loopback_is_not_called_unless_it_is_allowed(reactor: Any) -> None:
    """Neither by its name nor by another's: nothing arrives."""
    async with scripted(answer()) as host:
        caller = outgoing(reactor, networks=(), look_up=look_up)
        for name in ("localhost", "127.0.0.1", "[::ffff:127.0.0.1]"):
            with pytest.raises(AddressRefused, match="not public"):
                async with caller.request("GET", f"http://{name}:{host.port}/", seconds=9):
                    pass
        assert host.asked == []


async def test_the_metadata_service_is_not_called(reactor: Any) -> None:
    """169.254.169.254 gives away a machine's keys to whoever asks from it."""
    with pytest.raises(AddressRefused):
        async with outgoing(reactor, look_up=look_up).request("GET", "http://169.254.169.254/latest", seconds=9):
            pass


async def test_a_redirect_is_an_answer_like_others(reactor: Any) -> None:
    """Where it leads was not checked."""
    async with scripted(answer("302 Found", Location="http://127.0.0.1/")) as host:
        async with outgoing(reactor).request("GET", f"http://hooks.test:{host.port}/", seconds=9) as got:
            assert (got.status, got.header("location")) == (302, "http://127.0.0.1/")
        assert len(host.asked) == 1


async def test_the_next_address_is_tried_where_nobody_listens_at_the_first(reactor: Any) -> None:
    """As for a name with IPv6 that is served by IPv4 alone."""
    async with scripted(answer(body=b"here")) as host:
        caller = outgoing(reactor, look_up=names(hooks_test="127.0.0.2 127.0.0.1"))
        async with caller.request("GET", f"http://hooks.test:{host.port}/", seconds=9) as got:
            assert await got.read_at_most(9) == b"here"


async def test_nothing_was_sent_where_nobody_listens(reactor: Any) -> None:
    """Whoever must not send twice may send again."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NotSent, match="cannot be connected to"):
            async with outgoing(reactor).request("GET", f"http://hooks.test:{taken.getsockname()[1]}/", seconds=9):
                pass


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nConte", b"what?\r\n\r\n"])
async def test_a_connection_that_ends_before_an_answer_leaves_the_outcome_unknown(reactor: Any, said: bytes) -> None:
    """Also one that says something else than HTTP."""
    async with scripted(partly(said)) as host:
        with pytest.raises(OutcomeUnknown, match=r"hooks\.test"):
            async with outgoing(reactor).request("POST", f"http://hooks.test:{host.port}/", seconds=9, body=b"x"):
                pass


async def test_a_body_that_ends_too_early_is_noticed(reactor: Any) -> None:
    """After what did come."""
    async with (
        scripted(partly(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")) as host,
        outgoing(reactor).request("GET", f"http://hooks.test:{host.port}/", seconds=9) as got,
    ):
        assert await got.read() == b"abc"
        with pytest.raises(OutcomeUnknown, match="in the middle"):
            await got.read()


async def test_no_more_of_a_body_is_read_than_is_wanted(reactor: Any) -> None:
    """One without an end is held up, and cut off when the block is left."""

    async def pour(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with scripted(pour) as host:
        async with outgoing(reactor).request("GET", f"http://hooks.test:{host.port}/", seconds=9) as got:
            assert got.length is None
            assert await got.read_at_most(1000) == b"x" * 1000
        await host.until(lambda: host.open == 0)


@pytest.mark.parametrize("safe", [False, True])
async def test_headers_without_an_end_are_cut_off(reactor: Any, tmp_path: Path, safe: bool) -> None:
    """A receiver cannot make the server hold more than MAX_HEAD of them, by TLS neither; the outcome of the call is unknown."""
    certify(tmp_path, "hooks.test")
    own = Certificate.loadPEM((tmp_path / "cert.pem").read_bytes())
    trusting = BrowserLikePolicyForHTTPS(own)  # type: ignore[no-untyped-call]
    written = 0

    async def pour(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: " + b"x" * 8000 + b"\r\n")
            await asyncio.sleep(0)  # asyncio's TLS does not hold the writer up
            await writer.drain()
            written += 8000

    async with scripted(pour, certified=tmp_path if safe else None) as host:
        caller = outgoing(reactor, tls=trusting)
        with pytest.raises(OutcomeUnknown, match="headers of its answer have more than"):
            async with caller.request("GET", f"http{'s' * safe}://hooks.test:{host.port}/", seconds=60):
                pass
        await host.until(lambda: host.open == 0)
        assert written + 20_000 >= MAX_HEAD


async def test_many_headers_and_a_long_body_are_taken(reactor: Any) -> None:
    """What ends within MAX_HEAD is an answer like others, and its body has no such limit."""
    many = {f"X_{number}": "x" * 8000 for number in range(20)}
    async with (
        scripted(answer(body=b"y" * (2 * MAX_HEAD), **many)) as host,
        outgoing(reactor).request("GET", f"http://hooks.test:{host.port}/", seconds=60) as got,
    ):
        assert len(await got.read_at_most(3 * MAX_HEAD)) == 2 * MAX_HEAD
        assert got.header("X-19") == "x" * 8000


async def test_nothing_is_unpacked(reactor: Any) -> None:
    """A server that packs what it was asked to send as it is does not make us hold a gigabyte."""
    async with (
        scripted(answer(body=b"\x1f\x8b not gzip at all", Content_Encoding="gzip")) as host,
        outgoing(reactor).request("GET", f"http://hooks.test:{host.port}/", seconds=9) as got,
    ):
        assert await got.read_at_most(100) == b"\x1f\x8b not gzip at all"


async def test_time_is_up_before_anybody_was_reached(reactor: Any) -> None:
    """A resolver that does not answer: nothing was sent."""
    clock = Clock()
    caller = Outgoing(reactor, clock, HoldingPool())
    call = asyncio.ensure_future(caller.request("GET", "http://hooks.test/", seconds=10).__aenter__())
    await settle()
    clock.advance(9.9)
    await settle()
    assert not call.done()
    clock.advance(0.2)
    with pytest.raises(NotSent, match="within 10 s"):
        await call


async def test_time_is_up_before_an_answer(reactor: Any) -> None:
    """The connection is cut."""
    clock = Clock()
    async with scripted(silence) as host:
        caller = outgoing(reactor, clock).request("GET", f"http://hooks.test:{host.port}/", seconds=10)
        call = asyncio.ensure_future(caller.__aenter__())
        await host.until(lambda: len(host.asked) == 1)
        clock.advance(10)
        with pytest.raises(TimeoutError, match="no answer within 10 s"):
            await call
        assert clock.getDelayedCalls() == []


async def test_time_is_up_in_the_middle_of_a_body(reactor: Any) -> None:
    """However many bytes trickle: the seconds are for all of it."""

    async def trickle(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await silence(asked, writer)

    clock = Clock()
    async with scripted(trickle) as host:
        async with outgoing(reactor, clock).request("GET", f"http://hooks.test:{host.port}/", seconds=10) as got:
            assert await got.read() == b"abc"
            reading = asyncio.ensure_future(got.read())
            await settle()
            clock.advance(10)
            with pytest.raises(TimeoutError, match="no whole answer"):
                await reading
        assert clock.getDelayedCalls() == []


async def test_a_call_that_is_given_up_is_cut(reactor: Any) -> None:
    """The server stops: nobody waits for a receiver that does not answer."""
    async with scripted(silence) as host:
        caller = outgoing(reactor).request("GET", f"http://hooks.test:{host.port}/", seconds=10)
        call = asyncio.ensure_future(caller.__aenter__())
        await host.until(lambda: len(host.asked) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_tls_asks_for_the_name_and_checks_it(reactor: Any, tmp_path: Path) -> None:
    """Though the connection goes to an address."""
    certify(tmp_path, "hooks.test")
    own = Certificate.loadPEM((tmp_path / "cert.pem").read_bytes())
    trusting = BrowserLikePolicyForHTTPS(own)  # type: ignore[no-untyped-call]
    async with scripted(answer(body=b"safe"), certified=tmp_path) as host:
        look = names(hooks_test="127.0.0.1", other_test="127.0.0.1")
        caller = outgoing(reactor, tls=trusting, look_up=look)
        async with caller.request("GET", f"https://hooks.test:{host.port}/", seconds=9) as got:
            assert await got.read_at_most(9) == b"safe"
        assert host.names == ["hooks.test"]
        with pytest.raises(NotSent, match="not trusted"):
            async with caller.request("GET", f"https://other.test:{host.port}/", seconds=9):
                pass


async def test_a_certificate_that_nobody_vouches_for_gets_nothing(reactor: Any, tmp_path: Path) -> None:
    """The request was not told to it."""
    certify(tmp_path, "hooks.test")
    async with scripted(answer(), certified=tmp_path) as host:
        with pytest.raises(NotSent, match="not trusted"):
            async with outgoing(reactor).request("GET", f"https://hooks.test:{host.port}/", seconds=9):
                pass
        assert host.asked == []
