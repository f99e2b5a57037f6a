"""Duplicate logins: many clients that want one name for themselves, and whether one alone has it in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bot.client import Client
from bot.errors import ConnectionLostError
from bot.waiting import pause
from server.clock import Clock
from server.errors import Code

TOLD_WITHIN = 5.0  # seconds from the last login until everybody else knows
LOOKED_AT = 0.05  # seconds


async def usurped(clock: Clock, rivals: Sequence[Client], bystander: Client) -> str:
    """Let all rivals log in at once. "" if one is left, all others were told DUPLICATE_LOGIN and stay away, and the bystander,
    who has the same name but does not want it alone, noticed nothing. Raises CannotConnectError, NotWelcomeError."""
    try:
        await bystander.connect()
        await asyncio.gather(*(rival.connect() for rival in rivals))
        until = clock.seconds() + TOLD_WITHIN
        while sum(rival.connected for rival in rivals) > 1 and clock.seconds() < until:
            await pause(clock, LOOKED_AT)
        fates = [await _fate(rival) for rival in rivals]
        left = fates.count("")
        others = {fate for fate in fates if fate not in ("", Code.DUPLICATE_LOGIN.name)}
        if left != 1:
            return f"{left} of {len(rivals)} have the name, not one"
        if others:
            return f"put out with {', '.join(sorted(others))} and not with {Code.DUPLICATE_LOGIN.name}"
        unhurt = await _fate(bystander)
        return f"one who had not asked for the name alone was put out with {unhurt}" if unhurt else ""
    finally:
        await asyncio.gather(*(client.close() for client in (*rivals, bystander)))


async def _fate(client: Client) -> str:
    """The code with which it was put out, "" if it is there."""
    try:
        await client.ping()
    except ConnectionLostError as lost:
        return lost.code.name if lost.code is not None else str(lost)
    return ""
