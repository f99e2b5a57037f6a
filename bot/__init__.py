"""Talking to an Atelier server from Python: the asynchronous client, for bots and tools."""

from bot.client import Client
from bot.errors import (
    CannotConnectError,
    ClientClosedError,
    ClientError,
    ConnectionLostError,
    JobCanceledError,
    JobFailedError,
    NotWelcomeError,
    PictureBrokenError,
    RefusedError,
)
from bot.events import Outcome
from bot.jobs import JobHandle
from bot.patience import Patience

__all__ = [
    "CannotConnectError",
    "Client",
    "ClientClosedError",
    "ClientError",
    "ConnectionLostError",
    "JobCanceledError",
    "JobFailedError",
    "JobHandle",
    "NotWelcomeError",
    "Outcome",
    "Patience",
    "PictureBrokenError",
    "RefusedError",
]
