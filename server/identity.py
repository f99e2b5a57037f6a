"""Who is speaking: tokens and accounts to owners. Where none is asked for, only loopback addresses are served, as one owner."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from server.errors import Code, Refusal
from server.principal import Principal

LOCAL_OWNER = "local"
LOCAL = Principal(owner=LOCAL_OWNER)

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


class Accounts(Protocol):
    """Credentials that the records know: API keys and access tokens of accounts (server.accounts)."""

    def knows(self, credential: str) -> bool:
        """Whether it has the form of one of ours, good or not."""
        ...

    def known(self, credential: str) -> Principal | None:
        """Whose it is, None where the records have to be asked. Raises Refusal (UNAUTHENTICATED)."""
        ...

    async def principal(self, credential: str) -> Principal:
        """Whose it is. Raises Refusal (UNAUTHENTICATED, UNAVAILABLE)."""
        ...

    def fresh(self, principal: Principal) -> bool:
        """Whether what was said of it still holds."""
        ...


class Identities:
    """Tokens of the settings and credentials of accounts, to their owners.

    Of the settings' tokens only digests are kept, and all of them are compared, each in constant time. `required`: nobody is
    served without a credential, whatever their address.
    """

    def __init__(
        self, tokens: Mapping[str, SecretStr], accounts: Accounts | None = None, *, required: bool = False
    ) -> None:
        self._digests = [(Principal(owner=owner), _digest(token.get_secret_value())) for owner, token in tokens.items()]
        self._accounts = accounts
        self.authenticates = bool(tokens) or required
        self.owners = frozenset(tokens)

    def serves(self, host: str) -> bool:
        """Whether an address may speak to us at all."""
        return self.authenticates or is_loopback(host)

    def is_ours(self, token: str) -> bool:
        """Whether a token has the form of an account's: then it counts, also where none is needed."""
        return self._accounts is not None and self._accounts.knows(token)

    def known(self, token: str) -> Principal | None:
        """Whose a token is; None where the records have to be asked. Raises Refusal (UNAUTHENTICATED)."""
        if self._accounts is not None and self._accounts.knows(token):
            return self._accounts.known(token)
        if not self.authenticates:
            return LOCAL
        given = _digest(token)
        found = None
        for principal, digest in self._digests:
            if hmac.compare_digest(given, digest):
                found = principal
        if found is None:
            raise unknown_token()
        return found

    async def principal(self, token: str) -> Principal:
        """Whose a token is. Raises Refusal (UNAUTHENTICATED, UNAVAILABLE)."""
        found = self.known(token)
        if found is not None:
            return found
        assert self._accounts is not None
        return await self._accounts.principal(token)

    def fresh(self, principal: Principal) -> bool:
        """Whether what was said of it still holds; else it is to be asked again."""
        return not principal.user_id or (self._accounts is not None and self._accounts.fresh(principal))


def unknown_token() -> Refusal:
    """For a token that is not, or no longer, good: which of these is nobody's business."""
    return Refusal(Code.UNAUTHENTICATED, "this token is not known here", field="token", limit="a valid token")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
