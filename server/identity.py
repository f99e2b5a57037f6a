"""Who is speaking: tokens to owners. With no token configured, only loopback addresses are served, as one owner."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

from server.errors import Code, Refusal

LOCAL_OWNER = "local"

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")  # what proxies add, each its own


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address in text, that of an IPv4 client as IPv4; None where it is a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether `host`, an address in text, can only be this machine. A UNIX socket has no host and counts as such."""
    address = address_of(host)
    return address.is_loopback if address else host in ("", "localhost")


def host_name(authority: str) -> str | None:
    """The host of an HTTP Host header, or of an origin after its scheme, in lower case; "" where it has none, None where it
    cannot be read."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return None


def comes_from_here(headers: Mapping[str, str]) -> bool:
    """Whether an HTTP request that came over loopback is of this machine's own programs: a web page can have a name of its own
    lead here, and a proxy on this machine would make everybody one of them. `headers` by their names in lower case."""
    name = host_name(headers.get("host", ""))
    return name is not None and is_loopback(name) and not any(header in headers for header in FORWARDED)


class Identities:
    """The owners and their tokens. Only digests are kept, and all of them are compared, each in constant time."""

    def __init__(self, tokens: Mapping[str, SecretStr]) -> None:
        self._digests = [(owner, _digest(token.get_secret_value())) for owner, token in tokens.items()]

    @property
    def has_tokens(self) -> bool:
        """Whether a token means anything here."""
        return bool(self._digests)

    @property
    def several(self) -> bool:
        """Whether there is more than one owner."""
        return len({owner for owner, _ in self._digests}) > 1

    def serves(self, host: str) -> bool:
        """Whether an address may speak to us at all."""
        return bool(self._digests) or is_loopback(host)

    def owner_of(self, token: str) -> str:
        """The owner that a token stands for. Raises Refusal (UNAUTHENTICATED)."""
        if not self._digests:
            return LOCAL_OWNER
        given = _digest(token)
        found = ""
        for owner, digest in self._digests:
            if hmac.compare_digest(given, digest):
                found = owner
        if not found:
            raise Refusal(Code.UNAUTHENTICATED, "this token is not known here", field="token", limit="a valid token")
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
