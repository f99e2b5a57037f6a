"""Which addresses may be called, and what they are found by."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from server.addresses import AddressRefused, LookUp, NotSent, check_url, is_public, look_up, resolve_global
from server.pools import InlinePool

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


def names(**addresses: str) -> LookUp:
    """A resolver that knows these names, with dots as underscores."""
    known = {name.replace("_", "."): found.split() for name, found in addresses.items()}

    def find(host: str, port: int) -> list[str]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known[host]

    return find


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
