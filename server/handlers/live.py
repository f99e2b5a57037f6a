"""OpenLive, LiveFrame, CloseLive, WatchLive: live sessions; and ConnectUdp where there is no UDP door."""

from __future__ import annotations

from server.commands import CloseLive, ConnectUdp, LiveFrame, OpenLive, WatchLive
from server.errors import Code, Refusal
from server.live.events import Live
from server.replies import LiveEnded, LiveFollowed, UdpAddress


class LiveHandlers:
    """One a command; each raises what `Live` does."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def open(self, command: OpenLive) -> LiveFollowed:
        """Answers when the model is loaded."""
        opened = await self._live.open(
            command.owner, command.model, echo_input=command.echo_input, source=command.source
        )
        return LiveFollowed(opened, opened_here=True)

    def frame(self, command: LiveFrame) -> None:
        """Is not answered: its result comes with the tick."""
        self._live.frame(command.owner, command.live_id, command.frame)

    def close(self, command: CloseLive) -> LiveEnded:
        """Answers at once."""
        return LiveEnded(self._live.close(command.owner, command.live_id))

    async def watch(self, command: WatchLive) -> LiveFollowed:
        """Finds the session; its door then follows it."""
        return LiveFollowed(self._live.find(command.owner, command.live_id), opened_here=False)


def no_udp(command: ConnectUdp) -> UdpAddress:
    """For a server without a UDP door. Raises Refusal (UNAVAILABLE)."""
    raise Refusal(Code.UNAVAILABLE, "this server has no UDP door")
