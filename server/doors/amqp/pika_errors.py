"""What pika's Deferreds come to, as futures, and what it raises, as the errors of `broker`."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from pika import exceptions
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from server.doors.amqp.broker import Clash, LinkLost

T = TypeVar("T")

_CLASHES = frozenset(
    {403, 404, 405, 406}
)  # access refused, its home node is down, resource locked, precondition failed


def shielded(deferred: Deferred[T]) -> asyncio.Future[T]:
    """A future of its own for what a Deferred comes to: to stop waiting for it does nothing to the Deferred."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def came(result: T) -> None:
        if not future.done():
            future.set_result(result)

    def failed(failure: Failure) -> None:
        if not future.done():
            future.set_exception(lost(failure.value))

    deferred.addCallbacks(came, failed)
    return future


async def asked(ask: Any) -> Any:
    """What pika's Deferred comes to. What pika raises, at once or later, is a LinkLost."""
    try:
        deferred = ask()
    except exceptions.AMQPError as error:
        raise lost(error) from None
    return await shielded(deferred)


def lost(error: BaseException | None) -> LinkLost:
    """What pika says of an end."""
    if isinstance(error, LinkLost):
        return error
    clash = isinstance(error, exceptions.ChannelClosedByBroker) and error.reply_code in _CLASHES
    return (Clash if clash else LinkLost)(words(error))


def words(error: BaseException | None) -> str:
    """Why, for a log: the broker's own words where there are any. Nothing of ours is in them."""
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        return f"{error.reply_code} {error.reply_text}"
    if isinstance(error, exceptions.ConsumerCancelled):
        return "the broker ended the consumer: its queue is gone"
    return str(error or "the connection was closed") or type(error).__name__
