"""Who may see a stored picture: whoever owns its job, everybody where it was made public, and whoever has an address that the
server has signed, until it ends. The signature is of the job, so that it fits every door's address of its pictures.

    ?expires=1763856000&signature=…       expires: seconds since 1970
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from server.clock import Clock

_PURPOSE = b"atelier picture addresses"
DAY = 86_400.0  # addresses end at midnight: those of one day are alike, and caches know them again


class Published(Protocol):
    """Whose pictures are everybody's. Raises RecordsUnavailable."""

    async def is_public(self, job_id: str) -> bool:
        """Whether a job's are."""
        ...

    async def set_public(self, job_id: str, public: bool, *, at: float) -> None:
        """From now on, or no more."""
        ...


class PictureAccess:
    """Signed addresses hold for `seconds`, and to the end of that day. What belongs to `everybody` (owners without a credential)
    needs no signature."""

    def __init__(self, published: Published, clock: Clock, *, seconds: float, everybody: Collection[str] = ()) -> None:
        self.published = published
        self._clock = clock
        self._seconds = seconds
        self._everybody = frozenset(everybody)
        self._keys: list[bytes] = []

    def sign_with(self, server_secrets: Sequence[bytes]) -> None:
        """The present secret; what earlier ones signed holds as well. Before this, nothing is signed."""
        self._keys = [hmac.digest(secret, _PURPOSE, hashlib.sha256) for secret in server_secrets]

    def query(self, job_id: str, owner: str) -> str:
        """What an address of this owner's job ends with; "" where it needs nothing."""
        if owner in self._everybody or not self._keys:
            return ""
        expires = int(math.ceil((self._clock.seconds() + self._seconds) / DAY) * DAY)
        return f"?expires={expires}&signature={_signature(self._keys[0], job_id, expires)}"

    def is_signed(self, job_id: str, query: Mapping[str, str]) -> bool:
        """Whether an address is one of ours, and holds."""
        expires, given = query.get("expires", ""), query.get("signature", "")
        if not (expires.isascii() and expires.isdigit() and len(expires) < 16 and given.isascii()):
            return False
        right = any(hmac.compare_digest(given, _signature(key, job_id, int(expires))) for key in self._keys)
        return right and self._clock.seconds() < int(expires)


def _signature(key: bytes, job_id: str, expires: int) -> str:
    told = f"{job_id} {expires}".encode(errors="surrogatepass")
    return hmac.digest(key, told, hashlib.sha256).hex()[:40]
