"""`atelier generate`: all prompts at once over one connection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atelier.display import display_for
from atelier.output import print_json
from atelier.painting import Order, Painting, Report, tell_failures
from atelier.running import connected, say
from atelier.writing import surprises
from bot.orders import SubmitFields


async def generate(
    reactor: Any,
    server: str,
    token: str,
    prompts: Sequence[str],
    fields: SubmitFields,
    out: Path,
    *,
    as_json: bool,
    surprise: bool = False,
) -> int:
    """The exit status: 0 when every prompt was painted. With `surprise` a text model goes on from the prompts first.

    Raises CannotConnectError, NotWelcomeError.
    """
    async with connected(reactor, server, token) as client:
        if surprise:
            prompts = await surprises(client, prompts, fields.get("seed"))
            for prompt in prompts:
                say(f"surprise: {prompt}")
        with display_for(as_json=as_json) as display:
            painting = Painting(client, display, out, _print_report if as_json else _nothing)
            reports = await painting.paint([Order(prompt, fields) for prompt in prompts])
    if not as_json:
        for report in reports:
            for path in report.files:
                print(path)
    return 0 if tell_failures(reports) else 1


def _print_report(report: Report) -> None:
    print_json(report.as_plain())


def _nothing(report: Report) -> None:
    """Reports are told at the end."""
