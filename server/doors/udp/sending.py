"""Sends one thing to many: a burst of datagrams, a turn of the loop for everything else, the next burst.

A thousand datagrams take ten milliseconds and more: all at once they would hold up everything else for so long. What is not sent
yet when newer is there is not sent at all: whoever was left out is the first to have the newer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from server.clock import Clock, Timer
from server.doors.udp.parts import Address, UdpCounts

BURST = 100  # datagrams: a millisecond or two of work
PAUSE = 0.001  # seconds, where the system's buffer is full; what is said within so long counts as one burst

SendTo = Callable[[bytes, Address], object]


class Outlet:
    """A socket's sendto, with what the system may say to it."""

    def __init__(self, counts: UdpCounts) -> None:
        self._counts = counts
        self._sendto: SendTo | None = None

    def open(self, sendto: SendTo) -> None:
        """From now on."""
        self._sendto = sendto

    def close(self) -> None:
        """Send nothing more."""
        self._sendto = None

    def send(self, datagram: bytes, address: Address) -> bool:
        """False where the system's buffer is full now. Whatever else is wrong with an address is counted, and not waited for."""
        if self._sendto is None:
            return True
        try:
            self._sendto(datagram, address)
        except BlockingIOError:
            return False
        except OSError:  # no route, a firewall of this machine, an interface that is gone
            self._counts.unsent += 1
            return True
        self._counts.sent += 1
        self._counts.sent_bytes += len(datagram)
        return True


class Audience(Protocol):
    """Those who hear the same."""

    def addresses(self) -> Sequence[Address]:
        """Where they are now."""
        ...


class _Round:
    """What is being sent, how many have it, and how many of its datagrams the next one has."""

    __slots__ = ("addresses", "at", "datagrams", "part")

    def __init__(self, datagrams: Sequence[bytes], addresses: Sequence[Address]) -> None:
        self.datagrams = datagrams
        self.addresses = addresses
        self.at = 0
        self.part = 0

    @property
    def left(self) -> int:
        return (len(self.addresses) - self.at) * len(self.datagrams) - self.part


class Spread:
    """Everything that goes to many, in turns."""

    def __init__(self, clock: Clock, outlet: Outlet, counts: UdpCounts) -> None:
        self._clock = clock
        self._outlet = outlet
        self._counts = counts
        self._rounds: dict[Audience, _Round] = {}
        self._timer: Timer | None = None
        self._budget = BURST
        self._since = 0.0

    def say(self, audience: Audience, datagrams: Sequence[bytes]) -> None:
        """Send each of these to each of them, beginning now. It takes the place of what is still to be sent to them."""
        addresses = audience.addresses()
        if not addresses:
            return
        earlier = self._rounds.get(audience)
        if earlier is not None:
            self._counts.overtaken += earlier.left
            addresses = _from(addresses, earlier.addresses[earlier.at])
        self._rounds[audience] = _Round(datagrams, addresses)  # an earlier round's turn is kept
        if self._timer is None:
            now = self._clock.seconds()
            if not 0 <= now - self._since < PAUSE:
                self._since, self._budget = now, BURST
            self._run()

    def stop(self) -> None:
        """Send nothing more."""
        self._rounds.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        self._timer = None
        self._since = self._clock.seconds()
        self._budget = BURST
        self._run()

    def _run(self) -> None:
        while self._rounds:
            audience, one = next(iter(self._rounds.items()))
            if not self._send(one):
                full = self._budget > 0
                self._timer = self._clock.callLater(PAUSE if full else 0, self._go_on)
                return
            del self._rounds[audience]

    def _send(self, one: _Round) -> bool:
        """Whether all have it."""
        send, datagrams, addresses = self._outlet.send, one.datagrams, one.addresses
        while one.at < len(addresses):
            if self._budget <= 0 or not send(datagrams[one.part], addresses[one.at]):
                return False
            self._budget -= 1
            one.part += 1
            if one.part == len(datagrams):
                one.part = 0
                one.at += 1
        return True


def _from(addresses: Sequence[Address], first: Address) -> Sequence[Address]:
    """The same, beginning with one of them, if it is still there."""
    at = addresses.index(first) if first in addresses else 0
    return [*addresses[at:], *addresses[:at]]
