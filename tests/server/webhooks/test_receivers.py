"""From the outbox over a real connection to a backend that answers by a script; and the documentation's own receiver."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import URL
from twisted.internet.task import Clock

from server.addresses import ANYWHERE
from server.job import JobState
from server.outgoing import Outgoing
from server.pools import InlinePool
from server.webhook import CallState, Channel, HookKind, OutboxCall, Webhook
from server.webhooks.calls import HttpCall, calls_of
from server.webhooks.delivery import Delivery
from server.webhooks.outcomes import Retrying
from server.webhooks.sending import Answered, Backend, HttpSender
from tests.server.database.contract import ARTIFACT, FAILURE, a_job
from tests.server.database.opened import Opened, opened
from tests.server.scripted import Asked, Script, answer, partly, scripted, silence

TOKEN = "a-token-of-thirty-two-characters"
PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"
HOOK = Webhook(kind=HookKind.BACKEND, generation_id=17)
SUCCEEDED = a_job(state=JobState.SUCCEEDED, webhook=HOOK, artifacts=(ARTIFACT,), last_event=9)
FAILED = a_job(state=JobState.FAILED, webhook=HOOK, failure=FAILURE, last_event=9)


@pytest.fixture
def database(sqlite_url: URL) -> Iterator[Opened]:
    """An empty outbox."""
    with opened(sqlite_url) as there:
        yield there


def a_sender(reactor: Any, clock: Any, url: str, secret: str = "") -> HttpSender:
    """One whose names all lead to this machine."""
    way = Outgoing(reactor, clock, InlinePool(), networks=ANYWHERE, look_up=lambda host, port: ["127.0.0.1"])
    return HttpSender(
        trusted=way, guarded=way, backend=Backend(url, SecretStr(TOKEN)), secret=SecretStr(secret), clock=clock,
        seconds=10.0, news_seconds=3.0,
    )  # fmt: skip


async def heard(reactor: Any, database: Opened, calls: list[OutboxCall], *scripts: Script) -> list[str]:
    """What a backend hears that answers by the scripts, one after the other, then with 200: until nothing is to be told."""
    clock: Any = Clock()
    clock.advance(1_000.0)
    waiting = list(scripts)

    async def by_script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (waiting.pop(0) if waiting else answer("200 OK", b'{"success":true}'))(asked, writer)

    async with scripted(by_script) as host:
        delivery = Delivery(
            outbox=database.outbox, sender=a_sender(reactor, clock, f"http://backend.test:{host.port}"), clock=clock,
            random=lambda: 0.5, retrying=Retrying(first=2.0, longest=60.0, give_up_after=86_400.0), most=8, each=2,
            claim=600.0, keep=86_400.0,
        )  # fmt: skip
        await database.outbox.add(calls, at=1_000.0, durable=True)
        delivery.begin()
        while await _to_be_made(database):
            clock.advance(0.1)
            await asyncio.sleep(
                0.005
            )  # sockets take real time, the delivery's clock is the test's: neither waits for the other
        await delivery.stop(0.0)
        assert all(asked.headers["authorization"] == f"Bearer {TOKEN}" for asked in host.asked)
        assert len({asked.headers["webhook-id"] for asked in host.asked}) == len({asked.line for asked in host.asked})
    return [asked.line.split()[1].rpartition("/")[2] for asked in host.asked]


async def _to_be_made(database: Opened) -> int:
    counts = await database.outbox.counts()
    return counts[CallState.WAITING] + counts[CallState.SENDING]


async def test_a_backend_that_refuses_is_asked_until_it_takes_the_call(reactor: Any, database: Opened) -> None:
    """Errors of all kinds, a redirect, a time to come again: each a definite answer, and `failed` may be sent again."""
    calls = calls_of(FAILED, "http://backend.test")
    refusals = [
        answer("500 Oops"), answer("401 Who", b"{}"), answer("302 Found", Location="http://elsewhere.test/"),
        answer("503 Busy", Retry_After="30"), answer("400 Bad", b"x" * 300_000),
    ]  # fmt: skip
    assert await heard(reactor, database, calls, *refusals) == ["failed"] * 6


async def test_complete_is_repeated_until_an_answer_comes(reactor: Any, database: Opened) -> None:
    """Silence until the time-out, a reset, half an answer."""
    calls = calls_of(SUCCEEDED, "http://backend.test")
    assert await heard(reactor, database, calls, silence, partly(b""), partly(b"HTTP/1.1 20")) == ["complete"] * 4


@pytest.mark.parametrize("script", [silence, partly(b""), answer("504 Gateway Timeout")])
async def test_failed_that_may_have_arrived_is_left_to_a_person(reactor: Any, database: Opened, script: Script) -> None:
    """It makes the backend refund."""
    assert await heard(reactor, database, calls_of(FAILED, "http://backend.test"), script) == ["failed"]
    assert (await database.outbox.counts())[CallState.UNKNOWN] == 1


async def test_a_backend_that_knows_no_such_generation_hears_no_more(reactor: Any, database: Opened) -> None:
    """Of that job."""
    began = replace(SUCCEEDED, state=JobState.PROCESSING, artifacts=(), last_event=1)
    calls = [*calls_of(began, "http://backend.test"), *calls_of(SUCCEEDED, "http://backend.test")]
    assert await heard(reactor, database, calls, answer("404 Not Found")) == ["progress"]
    assert (await database.outbox.counts())[CallState.DEAD] == 2


async def test_a_receiver_that_hangs_on_progress_hears_the_end(reactor: Any, database: Opened) -> None:
    """After the few seconds that news are worth."""
    began = replace(SUCCEEDED, state=JobState.PROCESSING, artifacts=(), last_event=1)
    calls = [*calls_of(began, "http://backend.test"), *calls_of(SUCCEEDED, "http://backend.test")]
    assert await heard(reactor, database, calls, silence) == ["progress", "complete"]


async def test_the_documentation_s_receiver_verifies_what_it_is_told(reactor: Any, tmp_path: Path) -> None:
    """As it stands there, but for its port; and refuses what another secret has signed."""
    [source] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    [secret] = re.findall(r'SECRET = "(.*)"', source)
    source = source.replace('HTTPServer(("127.0.0.1", 8100), Receiver)', 'HTTPServer(("127.0.0.1", 0), Receiver)')
    source = source.replace(").serve_forever()", ")\n    server.serve_forever()").replace(
        "    HTTPServer(", "    server = HTTPServer("
    )
    source = source.replace("    server.serve", "    print(server.server_port, flush=True)\n    server.serve")
    receiver = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert receiver.stdout is not None
        url = f"http://hooks.test:{int(await receiver.stdout.readline())}/"
        clock: Any = Clock()
        clock.advance(time.time())
        hook = Webhook(kind=HookKind.GENERIC, url=url)
        [call] = calls_of(replace(SUCCEEDED, webhook=hook), "")
        assert HttpCall.from_json(call.payload).url == url
        other = "whsec_b3RoZXItc2VjcmV0LW9mLTI0LWJ5dGVz"
        assert await a_sender(reactor, clock, "", other).send(call, news=False) == Answered(401)
        assert await a_sender(reactor, clock, "", secret).send(call, news=False) == Answered(204)
        said = (await receiver.stdout.readline()).decode()
        assert said == f"msg_job-1_end succeeded ['{ARTIFACT.url}']\n"
    finally:
        receiver.kill()
        await receiver.wait()


def test_a_call_of_webhooks_belongs_to_their_channel() -> None:
    """Nobody else takes it from the outbox."""
    assert {call.channel for call in calls_of(FAILED, "http://backend.test")} == {Channel.WEBHOOK}
