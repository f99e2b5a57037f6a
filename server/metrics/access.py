"""Who may read the metrics: whoever has the token; without one, this machine's own programs.

A proxy on this machine would make everybody one of those, so a request that was forwarded is refused without a token.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from pydantic import SecretStr

from server.errors import Code, Refusal
from server.identity import comes_from_here, is_loopback


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
        elif not is_loopback(host) or not comes_from_here(headers):
            raise Refusal(
                Code.PERMISSION_DENIED,
                "metrics are for this machine's own programs, unless ATELIER_METRICS_TOKEN is set",
            )
