"""Who may read the metrics: whoever has the token; without one, this machine's own programs.

A proxy on this machine would make everybody one of those, so a request that was forwarded is refused without a token.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

from server.errors import Code, Refusal
from server.identity import is_loopback

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Access:
    """The rule. `token` may be empty."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token.get_secret_value().encode()

    def check(self, host: str, headers: Mapping[str, str]) -> None:
        """`headers` by their names in lower case. Raises Refusal: UNAUTHENTICATED, or PERMISSION_DENIED."""
        if self._token:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            known = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)
            if scheme.lower() != "bearer" or not known:
                raise Refusal(
                    Code.UNAUTHENTICATED, "metrics are for whoever has ATELIER_METRICS_TOKEN, as a bearer token"
                )
        elif not is_loopback(host) or not _is_ours(headers) or any(name in headers for name in _FORWARDED):
            raise Refusal(
                Code.PERMISSION_DENIED,
                "metrics are for this machine's own programs, unless ATELIER_METRICS_TOKEN is set",
            )


def _is_ours(headers: Mapping[str, str]) -> bool:
    """Whether we are called by a name of this machine: a web page can have a name of its own lead here."""
    return is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or "")
