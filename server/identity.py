"""Who is speaking: tokens to owners. With no token configured, only loopback addresses are served, as one owner."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping

from pydantic import SecretStr

from server.errors import Code, Refusal

LOCAL_OWNER = "local"


def is_loopback(host: str) -> bool:
    """Whether `host`, an address in text, can only be this machine. A UNIX socket has no host and counts as such."""
    if not host:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


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
