"""A server without stream models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from server.errors import Code, Refusal
from server.live.events import Frame, LiveClosed, LiveListener, LiveOpened, StreamModel


class NoLive:
    """A `Live` that opens nothing."""

    def models(self) -> Sequence[StreamModel]:
        """None."""
        return ()

    async def open(self, owner: str, model: str, *, echo_input: bool = False, source: str = "") -> LiveOpened:
        """Raises Refusal (MODEL_NOT_FOUND)."""
        raise unknown_model(model, ())

    def frame(self, owner: str, live_id: str, frame: Frame) -> None:
        """Raises Refusal (LIVE_NOT_FOUND)."""
        _unknown(live_id)

    def close(self, owner: str, live_id: str) -> LiveClosed:
        """Raises Refusal (LIVE_NOT_FOUND)."""
        _unknown(live_id)

    def find(self, owner: str, live_id: str) -> LiveOpened:
        """Raises Refusal (LIVE_NOT_FOUND)."""
        _unknown(live_id)

    def watch(self, owner: str, live_id: str, listener: LiveListener) -> Callable[[], None]:
        """Raises Refusal (LIVE_NOT_FOUND)."""
        _unknown(live_id)


def unknown_model(name: str, known: Sequence[str]) -> Refusal:
    """For a stream model that there is not."""
    limit = ", ".join(known) or "none: this server has no stream models"
    return Refusal(Code.MODEL_NOT_FOUND, f"there is no stream model {name[:60]!r}", field="model", limit=limit)


def unknown_session(live_id: str) -> Refusal:
    """For a session that there is not, or that is another's."""
    return Refusal(Code.LIVE_NOT_FOUND, f"there is no live session {live_id[:60]!r}", field="live_id")


def _unknown(live_id: str) -> NoReturn:
    raise unknown_session(live_id)
