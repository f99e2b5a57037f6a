"""A listening socket that several processes accept from: whoever has more connections waits longer before it takes the next.

    readable → wait, the longer the more connections are open here → take a few → watch again

All processes are woken by a connection, and Twisted's own port takes up to a hundred at once: of many that come together one
process would have them all. Nothing is told between the processes: the wait is enough, since one that has fewer connections
has taken what came before the others look again. What one process does not take stays with the socket: a connection that
comes alone waits for LONGEST_WAIT at most, one of many for as many turns as those before it take.

    everything taken that waited → the next turn takes 1, and one more for every SHARE that are open
    two turns that left something → those after them take twice as many, up to MOST

So a process that is alone, or slower than what comes, takes 32,000 a second if it can: MOST each LONGEST_WAIT. Whoever connects
faster than that, or than the processes serve, fills the socket's queue, and is then refused or kept waiting by the kernel.

A socket for each process (SO_REUSEPORT) would share them out in the kernel, but what waits at the socket of a process that ends
is reset with it: a roll would refuse connections.

This reads what Twisted does not document (its version is pinned); tests/factory/test_shared_port.py holds what is relied on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.internet.protocol import Factory

# Seconds for each open connection: tens of them make a wait that a busy machine's other process wakes up in.
WAIT = 0.0005
# Seconds, so that an answer on a new connection is not felt to be later.
LONGEST_WAIT = 0.004
# One more is taken at a time for so many that are open: the more there are, the less a few weigh.
SHARE = 32
# Connections that a turn takes where many wait: tens of milliseconds of work, in which nothing else has its turn.
MOST = 128


class SharedPort(tcp.Port):
    """`open_connections` says how many this process has."""

    open_connections: Callable[[], int]
    _turn: Any = None  # IDelayedCall, which mypy cannot read
    _left_some = 0  # turns in a row after which somebody may have waited still

    def doRead(self) -> None:  # noqa: N802  # Twisted's name
        """Somebody comes: give the other processes their turn first."""
        self.stopReading()  # type: ignore[no-untyped-call]
        wait = min(LONGEST_WAIT, WAIT * self.open_connections())
        self._turn = self.reactor.callLater(wait, self._take)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """It listens no more."""
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _take(self) -> None:
        if self.disconnecting or not self.connected:
            return
        share = self._share()
        self.numberAccepts = share
        super().doRead()  # type: ignore[no-untyped-call]
        # Twisted raises the number where all were there, and else sets it to how many were.
        self._left_some = self._left_some + 1 if self.numberAccepts > share else 0
        if self.connected and not self.disconnecting:  # whoever was let in may have ended it
            self.startReading()  # type: ignore[no-untyped-call]

    def _share(self) -> int:
        """Connections to take in this turn."""
        usual = 1 + self.open_connections() // SHARE
        doubled = min(self._left_some // 2, MOST.bit_length())
        return max(usual, min(MOST, usual << doubled))


def listen_together(reactor: Any, bound: socket.socket, factory: Factory, open_connections: Callable[[], int]) -> Any:
    """An IListeningPort on a socket that listens already, here and in other processes; it has a descriptor of its own."""
    port: Any = SharedPort._fromListeningDescriptor(reactor, bound.fileno(), bound.family, factory)  # type: ignore[no-untyped-call]
    port.open_connections = open_connections
    port.startListening()
    return port
