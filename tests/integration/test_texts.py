"""Texts by a whole server: as it is written, over TCP, the command line, and beyond a kill."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atelier.child import ChildServer
from bot.client import Client
from bot.errors import JobCanceledError, JobFailedError
from bot.events import Outcome
from models.training.world import all_scenes, prompt_of
from server.errors import Code
from server.events import Output
from tests.atelier.command import run
from tests.integration.conftest import ALICE
from tests.integration.served import serving

WRITER = "text-demo"
SENTENCES = frozenset(
    prompt_of(replace(scene, ground=ground)) for scene in all_scenes() for ground in (scene.ground, scene.colour)
)


async def client_of(reactor: Any, address: tuple[str, int], token: str = "") -> Client:
    """One that is connected."""
    client = Client(reactor, f"tcp:{address[0]}:{address[1]}", token=token)
    await client.connect()
    return client


async def written(client: Client, **given: Any) -> Outcome:
    """One text."""
    return await (await client.predict(WRITER, given)).result()


async def test_a_text_is_told_as_it_is_written_and_is_its_seed_s(reactor: Any, server: tuple[str, int]) -> None:
    """Alone or among twenty, to whoever asked and to whoever came later; it is a prompt that the painter knows."""
    client = await client_of(reactor, server, ALICE)
    handle = await client.predict(WRITER, {"prompt": "a big", "seed": 5})
    pieces = [event.text async for event in handle if isinstance(event, Output)]
    outcome = await handle.result()
    assert "".join(pieces) == outcome.output
    assert "a big" + outcome.output in SENTENCES
    assert outcome.figures["output_token_count"] > 3
    together = await asyncio.gather(*(written(client, prompt="a big", seed=5 + number) for number in range(20)))
    assert together[0].output == outcome.output
    assert len({one.output for one in together}) > 15
    again = await client.watch(handle.job_id)
    assert (await again.result()).output == outcome.output
    job = await client.get_job(handle.job_id)
    assert (json.loads(job.output), json.loads(job.input)["seed"]) == (outcome.output, 5)
    await client.close()


async def test_a_prompt_beyond_the_context_and_a_cancel(reactor: Any, server: tuple[str, int]) -> None:
    """The one fails by its field and limit, the other ends as canceled, or was faster."""
    client = await client_of(reactor, server, ALICE)
    long = await client.predict(WRITER, {"prompt": "a star " * 100})
    with pytest.raises(JobFailedError) as failed:
        await long.result()
    assert (failed.value.code, failed.value.field) == (Code.INVALID_PARAMETER, "input.prompt")
    assert failed.value.limit == "at most 127 tokens"
    handle = await client.predict(WRITER, {"prompt": "", "temperature": 5, "top_p": 1, "top_k": 0, "max_length": 127})
    await handle.cancel()
    with suppress(JobCanceledError):
        await handle.result()
    assert handle.ended
    await client.close()


async def test_what_a_kill_cuts_short_is_written_again_and_the_same(reactor: Any, tmp_path: Path) -> None:
    """Every accepted text ends, once, with what its seed makes."""
    count = 60
    async with serving(tmp_path) as served:
        client = await client_of(reactor, served.address)
        handles = [
            await client.predict(WRITER, {"seed": seed}, idempotency_key=f"text-{seed}") for seed in range(count)
        ]
        served.signal(signal.SIGKILL)
        await served.ended()
        await client.close()
    async with serving(tmp_path) as served:
        client = await client_of(reactor, served.address)
        ends = [await (await client.watch(handle.job_id)).result() for handle in handles]
        anew = [await written(client, seed=seed) for seed in range(count)]
        assert [end.output for end in ends] == [end.output for end in anew]
        await client.close()


async def test_surprise_me_from_the_terminal(tmp_path: Path) -> None:
    """A text model writes a prompt, the demo model paints it; a text alone is printed."""
    async with ChildServer(tmp_path) as server:
        out = tmp_path / "pictures"
        ended = await run(
            "generate", "--surprise", "--seed=3", "--steps=2", "a big", f"--out={out}", ATELIER_SERVER=server.address
        )
        assert ended.status == 0, ended.err
        (prompt,) = [
            line.removeprefix("surprise: ") for line in ended.err.splitlines() if line.startswith("surprise: ")
        ]
        assert prompt in SENTENCES
        assert prompt.startswith("a big ")
        assert len(list(out.glob("*.png"))) == 1
        told = await run("predict", "a small", "--input=seed=4", "--input=temperature=0", ATELIER_SERVER=server.address)
        assert "a small" + told.out.rstrip("\n") in SENTENCES
        asked = await run("predict", "--json", "--input=seed=4", ATELIER_SERVER=server.address)
        assert json.loads(asked.out)["output"] in SENTENCES
        refused = await run("predict", "--input=min_p=1", ATELIER_SERVER=server.address)
        assert (refused.status, "input.min_p" in refused.err) == (1, True)
