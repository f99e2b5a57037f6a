"""Outgoing HTTP: where it goes and where not, what comes back, and when it is given up."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.ssl import Certificate
from twisted.internet.task import Clock
from twisted.web.client import BrowserLikePolicyForHTTPS

from server.outgoing import (
    MAX_HEAD,
    AddressRefused,
    LookUp,
    NotSent,
    OutcomeUnknown,
    Outgoing,
    check_url,
    is_public,
    look_up,
    resolve_global,
)
from server.pools import InlinePool
from tests.server.fakes import HoldingPool, settle
from tests.server.scripted import Asked, answer, certify, partly, scripted, silence

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


def names(**addresses: str) -> LookUp:
    """A resolver that knows these names, with dots as underscores."""
    known = {name.replace("_", "."): found.split() for name, found in addresses.items()}

    def find(host: str, port: int) -> list[str]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known[host]

    return find


def outgoing(reactor: Any, clock: Any = None, **given: Any) -> Outgoing:
    """One that may call loopback as hooks.test."""
    given = {"networks": LOOPBACK, "look_up": names(hooks_test="127.0.0.1"), **given}
    return Outgoing(reactor, clock or Clock(), InlinePool(), **given)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "198.18.0.1", "192.0.2.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%lo", "fc00::1", "fec0::1",
        "ff0e::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1",
        "64:ff9b:1::1", "4000::1", "2001:0:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_the_internet_s_are_not_public(address: str) -> None:
    """Private, local, shared, multicast, reserved ones, however an IPv4 address is dressed as IPv6."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "8.8.8.8", "2600:1f18::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_the_internet_s_addresses_are_public(address: str) -> None:
    """IPv4, IPv6, and one inside the other."""
    assert is_public(address)


def test_networks_that_the_operator_allows_count_as_public() -> None:
    """Those and no others; an IPv4 network also where its address is written as IPv6."""
    assert is_public("127.9.9.9", LOOPBACK)
    assert is_public("::ffff:127.0.0.1", LOOPBACK)
    assert not is_public("10.0.0.1", LOOPBACK)


async def test_one_bad_address_of_a_name_is_enough() -> None:
    """A name that has a public and a private address may lead to either; the refusal does not tell which there are."""
    with pytest.raises(AddressRefused) as refused:
        await resolve_global("x.test", 80, pool=InlinePool(), look_up=names(x_test="8.8.8.8 10.1.2.3"))
    assert "10.1.2.3" not in str(refused.value)


async def test_a_name_that_is_not_found_was_not_called() -> None:
    """Nor one without addresses, nor one that no resolver would take."""
    for look in (names(), names(x_test="")):
        with pytest.raises(NotSent, match=r"x\.test"):
            await resolve_global("x.test", 80, pool=InlinePool(), look_up=look)
    with pytest.raises(NotSent, match="not found"):
        await resolve_global("x" * 300, 80, pool=InlinePool())


async def test_numbers_that_are_addresses_in_disguise_are_resolved_like_names() -> None:
    """2130706433 and 127.1 are loopback to the system's resolver."""
    for host in ("2130706433", "127.1", "0x7f.1"):
        assert look_up(host, 80) == ["127.0.0.1"]
        with pytest.raises(AddressRefused):
            await resolve_global(host, 80, pool=InlinePool())


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://x.test/", "must begin with"), ("file:///etc/passwd", "must begin with"), ("x.test", "must begin with"),
        ("https://", "must begin with"), ("https://me:secret@x.test/", "name or a password"),
        ("https://x.test:99999/", "not a URL"),
        ("https://[::1/", "not a URL"), ("https://x.test/a b", "blanks"), ("https://x.test/a\r\nHost: y", "blanks"),
    ],
)  # fmt: skip
def test_what_is_no_url_to_call_is_refused_without_asking_anybody(url: str, reason: str) -> None:
    """And nothing of a password in it is repeated."""
    with pytest.raises(AddressRefused, match=reason) as refused:
        check_url(url)
    assert "secret" not in str(refused.value)


def test_a_url_s_port_is_its_scheme_s_unless_it_says_otherwise() -> None:
    """And schemes can be narrowed."""
    assert check_url("https://X.test/a") == ("x.test", 443)
    assert check_url("http://x.test") == ("x.test", 80)
    assert check_url("http://[::1]:81/") == ("::1", 81)
    with pytest.raises(AddressRefused, match="https://"):
        check_url("http://x.test", ("https",))


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
