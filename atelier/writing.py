"""Texts on the command line: `atelier predict`, and the prompts of `atelier generate --surprise`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ai.types import Json
from atelier.output import print_json
from atelier.running import connected, say
from bot.client import Client
from bot.events import Outcome
from server.errors import Code, Refusal
from server.events import Output

WRITES = "text-generation"


async def predict(
    reactor: Any, server: str, token: str, model: str, given: Mapping[str, Json], *, as_json: bool
) -> int:
    """Ask a model, and print what it gives: a text as it is written. Raises CannotConnectError, NotWelcomeError, RefusedError."""
    async with connected(reactor, server, token) as client:
        handle = await client.predict(model or await writer_of(client), given)
        async for event in handle:
            if isinstance(event, Output) and not as_json:
                print(event.text, end="", flush=True)
        outcome = await handle.result()
    _print(outcome, handle.text, as_json=as_json)
    return 0


def _print(outcome: Outcome, told: str, *, as_json: bool) -> None:
    """What is left to be said: a text has been told as it came."""
    for warning in outcome.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json({"job_id": outcome.job_id, "output": outcome.output, "figures": dict(outcome.figures)})
    elif isinstance(outcome.output, str):
        print(outcome.output[len(told) :])
    else:
        json.dump(outcome.output, sys.stdout, ensure_ascii=False, indent=2)
        print()


async def surprises(client: Client, beginnings: Sequence[str], seed: int | None) -> list[str]:
    """A prompt that goes on from each of these, by the server's first model that writes; the i-th by seed + i."""
    model = await writer_of(client)
    handles = []
    for index, beginning in enumerate(beginnings):
        given: dict[str, Json] = {"prompt": beginning}
        if seed is not None:
            given["seed"] = seed + index
        handles.append(await client.predict(model, given))
    written = [
        beginning + str((await handle.result()).output) for beginning, handle in zip(beginnings, handles, strict=True)
    ]
    return [" ".join(prompt.split()) for prompt in written]


async def writer_of(client: Client) -> str:
    """The server's first model that writes. Raises Refusal where there is none."""
    for model in await client.models():
        if model.model_type == WRITES:
            return model.name
    raise Refusal(Code.MODEL_NOT_FOUND, "the server has no model that writes texts", field="model", limit=WRITES)
