"""A listening socket that several processes accept from: whoever has more connections waits longer before it takes the next.

    readable → wait, the longer the more connections are open here → take a few → watch again

All processes are woken by a connection, and Twisted's own port takes up to a hundred at once: of many that come together one
process would have them all. Nothing is told between the processes: the wait is enough, since one that has fewer connections
has taken what came before the others look again. A connection waits for nobody longer than LONGEST_WAIT, and nobody is
refused: what one process does not take stays with the socket.

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

WAIT = (
    0.0005  # seconds for each open connection: tens of them make a wait that a busy machine's other process wakes up in
)
LONGEST_WAIT = 0.004  # seconds, so that an answer on a new connection is not felt to be later
SHARE = 32  # one more is taken at a time for so many that are open: the more there are, the less a few weigh


class SharedPort(tcp.Port):
    """`open_connections` says how many this process has."""

    open_connections: Callable[[], int]
    _turn: Any = None  # IDelayedCall, which mypy cannot read

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
        self.numberAccepts = 1 + self.open_connections() // SHARE
        super().doRead()  # type: ignore[no-untyped-call]
        if self.connected and not self.disconnecting:  # whoever was let in may have ended it
            self.startReading()  # type: ignore[no-untyped-call]


def listen_together(reactor: Any, bound: socket.socket, factory: Factory, open_connections: Callable[[], int]) -> Any:
    """An IListeningPort on a socket that listens already, here and in other processes; it has a descriptor of its own."""
    port: Any = SharedPort._fromListeningDescriptor(reactor, bound.fileno(), bound.family, factory)  # type: ignore[no-untyped-call]
    port.open_connections = open_connections
    port.startListening()
    return port
