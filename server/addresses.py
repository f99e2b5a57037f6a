"""Which addresses that users give may be called: public ones, and those in networks that the operator allows.

A name is resolved off the reactor thread. Where one of its addresses is not public, and not allowed, nothing is connected to.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from server.interfaces import Pool

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LookUp = Callable[[str, int], list[str]]
"""Blocks until it has the addresses of a name, or raises OSError."""

ANYWHERE: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
"""For addresses that the operator gives."""

_PORTS = {"http": 80, "https": 443}
_IN_USE = ipaddress.ip_network("2000::/3")  # all of IPv6 that is given to anybody to be reached at
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address, as networks without IPv4 write it


class AddressRefused(OSError):
    """The address may not be called."""


class NotSent(OSError):
    """Nobody was reached, or nobody who could be trusted. Nothing of the request was told."""


def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system's resolver."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def is_public(address: str, networks: Sequence[Network] = ()) -> bool:
    """Whether an address is the public Internet's, or lies in one of `networks`."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = _inner(parsed)
    if any(parsed in network for network in networks):
        return True
    if parsed.version == 6 and parsed not in _IN_USE:
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


async def resolve_global(
    host: str, port: int, *, pool: Pool, networks: Sequence[Network] = (), look_up: LookUp = look_up
) -> tuple[str, ...]:
    """The addresses of a name, all of which are public or in `networks`. Raises AddressRefused, NotSent."""
    try:
        addresses = await pool.run(look_up, host, port)
    except (OSError, UnicodeError) as error:
        raise NotSent(f"{host}: the name was not found") from error
    if not addresses:
        raise NotSent(f"{host}: the name has no address")
    if not all(is_public(address, networks) for address in addresses):
        raise AddressRefused(f"{host}: leads to an address that is not public")  # which, is nobody's business
    return tuple(addresses)


def check_url(url: str, schemes: Sequence[str] = ("http", "https")) -> tuple[str, int]:
    """The host and port of a URL that may be called if its addresses may. Raises AddressRefused. Asks nobody."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressRefused("not a URL") from None
    if parts.scheme not in schemes or not host:
        raise AddressRefused(f"a URL must begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and a host")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused(f"{host}: a URL must not carry a name or a password")
    if any(character <= " " or character == "\x7f" for character in url):
        raise AddressRefused(f"{host}: a URL must not have blanks or control characters in it")
    return host, port or _PORTS[parts.scheme]
