"""Access tokens: JWTs (RFC 7519) signed with HS256 by a key made of the settings' secret, good for a short time.

The header's `kid` says by which secret; those of earlier secrets are taken until they end. The algorithm is fixed, every claim is
required, and times are compared with the injected clock.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from server.clock import Clock
from server.identity import unknown_token

ALGORITHM = "HS256"
AUDIENCE = "atelier"
LEEWAY = 5.0  # seconds that another node's clock may be ahead
CLAIMS = ("exp", "iat", "sub", "aud", "iss", "jti")
_FORM = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_PURPOSE = b"atelier access tokens"


def looks_like_one(text: str) -> bool:
    """Whether it has the form of a JWT, whoever made it."""
    return _FORM.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Claims:
    """Of a token that is good: whose it is (an account's id), since when and until when (seconds since 1970)."""

    user_id: str
    issued_at: float
    expires_at: float


class AccessTokens:
    """Good for `seconds`. Until `sign_with` has told it by what, it neither signs nor knows anything."""

    def __init__(self, clock: Clock, *, issuer: str, seconds: float) -> None:
        self._keys: dict[str, bytes] = {}
        self._clock = clock
        self._issuer = issuer
        self.seconds = seconds

    def sign_with(self, server_secrets: Sequence[bytes]) -> None:
        """The present secret, then earlier ones."""
        keys = [hmac.digest(secret, _PURPOSE, hashlib.sha256) for secret in server_secrets]
        self._keys = {hashlib.sha256(key).hexdigest()[:16]: key for key in keys}

    def issue(self, user_id: str) -> str:
        """A new token of an account."""
        key_id, key = next(iter(self._keys.items()))
        now = self._clock.seconds()
        claims = {
            "sub": user_id,
            "iss": self._issuer,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + self.seconds,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id})

    def read(self, token: str) -> Claims:
        """What a token says. Raises Refusal (UNAUTHENTICATED) for one that is not ours, or no longer or not yet good."""
        try:
            key = self._keys.get(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                raise unknown_token()
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self._issuer,
                options={
                    "require": list(CLAIMS),
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },  # below
            )
        except jwt.InvalidTokenError:
            raise unknown_token() from None
        now, issued, expires = self._clock.seconds(), _time(claims["iat"]), _time(claims["exp"])
        if not now < expires or not issued <= now + LEEWAY or not 0 < expires - issued <= self.seconds + LEEWAY:
            raise unknown_token()
        return Claims(str(claims["sub"]), issued, expires)


def _time(value: Any) -> float:
    """NaN, which compares as false, for what is no time."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
