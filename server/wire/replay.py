"""Which sequence numbers of a key were there already: a window over the latest ones, as in RFC 6479 and WireGuard."""

from __future__ import annotations

WINDOW = 1024  # numbers; thirty datagrams a second that a network turns round by half a minute still fit
MOST = 2**64 - 1


class ReplayWindow:
    """Takes each number once. One int holds the window: bit i is the number `highest - i`."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest = 0
        self._seen = 1  # 0 is no number: it counts as seen

    def take(self, sequence: int) -> bool:
        """Whether it is new; then it is not, any more."""
        ahead = sequence - self._highest
        if ahead > 0:
            if ahead < WINDOW:
                self._seen = ((self._seen << ahead) | 1) & ((1 << WINDOW) - 1)
            else:
                self._seen = 1
            self._highest = sequence
            return True
        bit = 1 << -ahead if -ahead < WINDOW else 0
        if not bit or self._seen & bit:
            return False
        self._seen |= bit
        return True
