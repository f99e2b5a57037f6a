"""`atelier dlq`: messages that were refused, in the broker of the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from atelier.output import print_json
from atelier.records import own_settings
from atelier.running import say
from config import SettingsError
from factory.amqp import rabbitmq
from server.doors.amqp.broker import LinkLost, NotPublished
from server.doors.amqp.burying_ground import BuryingGround, DeadLetter
from server.doors.amqp.queues import Queues

_NAMED = 10  # generations, in a line for a person; --json has them all
NO_SETTING = 2  # exit status, as `atelier serve` has it


async def show(reactor: Any, most: int, *, as_json: bool) -> int:
    """List them, the oldest first."""

    async def look(ground: BuryingGround) -> None:
        letters = await ground.letters(most)
        if as_json:
            for letter in letters:
                print_json(asdict(letter))
        elif letters:
            Console().print(_table(letters))
            for line in _told(letters):
                say(line)
        else:
            say("there are none")

    return await _work(reactor, look)


async def replay(reactor: Any, key: str, code: str) -> int:
    """Publish them anew."""

    async def work(ground: BuryingGround) -> None:
        letters = await ground.replay(key=key, code=code)
        for line in (f"{len(letters)} published anew", *_told(letters)):
            say(line)

    return await _work(reactor, work)


async def purge(reactor: Any) -> int:
    """Throw them away."""

    async def work(ground: BuryingGround) -> None:
        say(f"{await ground.purge()} thrown away")

    return await _work(reactor, work)


async def _work(reactor: Any, work: Any) -> int:
    try:
        async with _ground(reactor) as ground:
            await work(ground)
    except SettingsError as error:
        say(str(error))
        return NO_SETTING
    except (LinkLost, NotPublished) as error:
        say(f"RabbitMQ: {error}")
        return 1
    return 0


@asynccontextmanager
async def _ground(reactor: Any) -> AsyncIterator[BuryingGround]:
    settings = own_settings()
    if not settings.rabbitmq_host:
        raise SettingsError("RABBITMQ_HOST: not set; there is no broker to look into")
    link = await rabbitmq(settings, reactor).connect("dead letters")
    try:
        yield BuryingGround(link, Queues(settings.rabbitmq_queue))
    finally:
        await link.close()


def _told(letters: Sequence[DeadLetter]) -> list[str]:
    """What a replay cannot undo."""
    ended = [str(letter.generation_id) for letter in letters if letter.generation_id is not None]
    if not ended:
        return []
    named = ", ".join(ended[:_NAMED]) + (f" and {len(ended) - _NAMED} more" if len(ended) > _NAMED else "")
    return [
        f"the end of generation {named} has been told: a replay is painted, and its backend hears nothing of it;"
        " to be told, publish it under a new generation_id"
    ]


def _table(letters: list[DeadLetter]) -> Table:
    table = Table("refused", "key", "code", "field", "reason", "bytes", box=None)
    for letter in letters:
        when = datetime.fromtimestamp(letter.at).astimezone().isoformat(" ", "seconds") if letter.at else ""
        table.add_row(when, letter.key, letter.code, letter.field, letter.reason, str(letter.size))
    return table
