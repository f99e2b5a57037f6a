"""Keys of the UDP door: each signs the datagrams of one client, for as long as it holds.

The TCP door hands them out to whoever has said Hello there (ConnectUdp); the UDP door finds them by their ids. Both run in one
process: a key is good at the port that came with it, and nowhere else.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from server.errors import Code, Refusal
from server.principal import Principal
from server.wire.datagrams import ID_BYTES, KEY_BYTES
from server.wire.replay import ReplayWindow


@dataclass(slots=True, eq=False)
class UdpKey:
    """`principal` is whose it is, and what they may; `token` the credential that it was asked for with, to be asked of again."""

    id: int
    secret: bytes = field(repr=False)
    principal: Principal
    token: str = field(repr=False)
    expires_at: float  # seconds since 1970
    window: ReplayWindow = field(default_factory=ReplayWindow, repr=False)

    @property
    def owner(self) -> str:
        """Whose sessions and jobs it opens."""
        return self.principal.owner


class UdpKeys:
    """At most so many in all and of one owner, each for `seconds`. `now` gives seconds since 1970."""

    def __init__(self, now: Callable[[], float], *, seconds: float, most: int, most_per_owner: int) -> None:
        self._now = now
        self._most = most
        self._most_per_owner = most_per_owner
        self._keys: dict[int, UdpKey] = {}  # the oldest first, so that what is over stands in front
        self._of_owner: Counter[str] = Counter()
        self.seconds = seconds

    def __len__(self) -> int:
        """How many hold, or have ended only just."""
        return len(self._keys)

    def __iter__(self) -> Iterator[UdpKey]:
        """All of them, as they were when this was asked."""
        return iter(tuple(self._keys.values()))

    def issue(self, principal: Principal, token: str) -> UdpKey:
        """A new key. Raises Refusal (RESOURCE_EXHAUSTED)."""
        self.forget_ended()
        owner = principal.owner
        if self._of_owner[owner] >= self._most_per_owner:
            raise self._too_many(f"{self._most_per_owner} UDP keys of one owner")
        if len(self._keys) >= self._most:
            raise self._too_many(f"{self._most} UDP keys")
        key = UdpKey(self._new_id(), secrets.token_bytes(KEY_BYTES), principal, token, self._now() + self.seconds)
        self._keys[key.id] = key
        self._of_owner[owner] += 1
        return key

    def find(self, key_id: int) -> UdpKey | None:
        """The key of that id, while it holds."""
        key = self._keys.get(key_id)
        return key if key is not None and key.expires_at > self._now() else None

    def revoke(self, key: UdpKey) -> None:
        """It holds no more."""
        if self._keys.pop(key.id, None) is None:
            return
        self._of_owner[key.owner] -= 1
        if not self._of_owner[key.owner]:
            del self._of_owner[key.owner]

    def forget_ended(self) -> None:
        """Let go of those whose time is over."""
        now = self._now()
        while self._keys:
            oldest = next(iter(self._keys.values()))
            if oldest.expires_at > now:
                break
            self.revoke(oldest)

    def _new_id(self) -> int:
        while True:
            key_id = secrets.randbits(8 * ID_BYTES)
            if key_id and key_id not in self._keys:  # 0 stands for no key
                return key_id

    def _too_many(self, limit: str) -> Refusal:
        return Refusal(
            Code.RESOURCE_EXHAUSTED,
            f"the limit of {limit} is reached; one that is no longer used is forgotten when it ends",
            limit=limit,
            retry_after_seconds=min(10.0, self.seconds),
        )
