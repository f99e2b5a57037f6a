"""Server connections that write at once what the socket takes, instead of one turn of the reactor later.

Twisted's `write` only buffers: the reactor then watches the socket, sends in the next turn, and stops watching. For a small
answer that is two system calls and a turn of the loop more than sending it, a third of the server's time for a Ping
(docs/decisions.md has the figures). What the socket does not take goes Twisted's own way, with its back-pressure.

This reads attributes that Twisted does not document (its version is pinned); tests/factory/test_eager.py holds what is relied on.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import tcp


class EagerServer(tcp.Server):
    """A TCP connection on the server's side."""

    def write(self, data: bytes) -> None:
        """Send what can be sent now; leave the rest, or everything where something waits already, to Twisted."""
        busy = self.dataBuffer or self._tempDataBuffer or self.TLS  # order must be kept; TLS has buffers of its own
        if busy or not data or not self.connected or self.disconnecting or self._writeDisconnected:
            super().write(data)  # type: ignore[no-untyped-call]
            return
        sent: Any = self.writeSomeData(data)
        if not isinstance(sent, int):  # an error; Twisted meets it again, and ends the connection by its rules
            super().write(data)  # type: ignore[no-untyped-call]
        elif sent < len(data):
            super().write(data[sent:])  # type: ignore[no-untyped-call]


def write_eagerly(port: Any) -> None:
    """Let the connections that a listening port accepts from now on be eager. Ports that are not TCP stay as they are."""
    if getattr(port, "transport", None) is tcp.Server:
        port.transport = EagerServer
