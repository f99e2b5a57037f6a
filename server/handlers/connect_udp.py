"""ConnectUdp: a key for the UDP door, and where that is."""

from __future__ import annotations

from collections.abc import Callable

from server.commands import ConnectUdp
from server.errors import Code, Refusal
from server.principal import Principal
from server.replies import UdpAddress
from server.udp_keys import UdpKeys

Where = Callable[[], tuple[str, int] | None]
"""Host ("": the one that was reached) and port; None while the door is shut."""


class ConnectUdpHandler:
    """Gives a key for what the asker's credential may do, and no more."""

    def __init__(self, keys: UdpKeys, where: Where, *, heartbeat: float) -> None:
        self._keys = keys
        self._where = where
        self._heartbeat = heartbeat

    def __call__(self, command: ConnectUdp) -> UdpAddress:
        """Raises Refusal (RESOURCE_EXHAUSTED, UNAVAILABLE)."""
        where = self._where()
        if where is None:
            raise Refusal(Code.UNAVAILABLE, "this server has no UDP door")
        key = self._keys.issue(command.principal or Principal(owner=command.owner, scopes=frozenset()), command.token)
        return UdpAddress(*where, key.id, key.secret, self._keys.seconds, self._heartbeat)
