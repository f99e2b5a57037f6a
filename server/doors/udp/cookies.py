"""Cookies by which an address shows that it hears what is sent to it: nothing is kept for those that were given out.

A cookie is a MAC over the key's id, the address and the half minute; whoever names a victim's address as its own never sees it.
(DTLS's cookies, RFC 9147, and QUIC's Retry do the same.)
"""

from __future__ import annotations

import hmac
import secrets

from server.doors.udp.parts import Address

SLOT = 30.0  # seconds; a cookie is good in its own slot and in the next
COOKIE_BYTES = 8


class Cookies:
    """Made and known by a secret of this process."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def make(self, key_id: int, address: Address, now: float) -> int:
        """The cookie for this address now; never 0."""
        return self._of(key_id, address, int(now // SLOT))

    def good(self, cookie: int, key_id: int, address: Address, now: float) -> bool:
        """Whether it is one that this address was given, half a minute or a little more ago at most."""
        slot = int(now // SLOT)
        return cookie in (self._of(key_id, address, slot), self._of(key_id, address, slot - 1))

    def _of(self, key_id: int, address: Address, slot: int) -> int:
        said = f"{key_id} {address[0]} {address[1]} {slot}".encode()
        return int.from_bytes(hmac.digest(self._secret, said, "sha256")[:COOKIE_BYTES], "big") or 1
