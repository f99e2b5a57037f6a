"""One call, to a receiver that answers as it likes."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError
from twisted.internet.task import Clock

from server.addresses import ANYWHERE
from server.outgoing import Outgoing
from server.pools import InlinePool
from server.webhook import Care, Channel, HookKind, OutboxCall
from server.webhook_secrets import owner_secret
from server.webhooks.calls import TRUSTED, HttpCall
from server.webhooks.sending import (
    LONGEST_RETRY_AFTER,
    Answered,
    Backend,
    Forbidden,
    HttpSender,
    Outcome,
    Unreached,
    Unsure,
)
from tests.server.fakes import settle
from tests.server.scripted import Asked, Script, answer, partly, scripted, silence

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
TOKEN = "a-token-of-thirty-two-characters"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_700_000_000.0
BODY = {"generation_id": 17, "별": "✨"}


def a_sender(
    reactor: Any, url: str = "http://backend.test", *, clock: Any = None, networks: Any = LOOPBACK, secret: str = SECRET
) -> HttpSender:
    """One whose names all lead to loopback, where `networks` let it go."""
    clock = clock or _at(NOW)
    ways = {
        name: Outgoing(reactor, clock, InlinePool(), networks=allowed, look_up=lambda host, port: ["127.0.0.1"])
        for name, allowed in (("trusted", ANYWHERE), ("guarded", networks))
    }
    return HttpSender(
        **ways, backend=Backend(url, SecretStr(TOKEN)), secret=SecretStr(secret), clock=clock, seconds=10.0, news_seconds=3.0
    )  # fmt: skip


def _at(now: float) -> Any:
    clock = Clock()
    clock.advance(now)
    return clock


def a_call(
    url: str = "/api/webhooks/inference/failed",
    *,
    kind: HookKind = HookKind.BACKEND,
    target: str = TRUSTED,
    method: str = "POST",
) -> OutboxCall:
    """A call to the backend of the settings, or to somebody else."""
    return OutboxCall(
        id="generation-17-end",
        job_id="job-1",
        name="end",
        channel=Channel.WEBHOOK,
        payload=HttpCall(kind, method, url, BODY).to_json(),
        position=1,
        target=target,
        care=Care.REPEATED,
    )


def generic(url: str) -> OutboxCall:
    """A call to somebody's address."""
    return a_call(url, kind=HookKind.GENERIC, target="whose")


async def told(reactor: Any, script: Script, **given: Any) -> tuple[Outcome, list[Asked]]:
    """What became of a call to the backend that answers so, and what it heard."""
    async with scripted(script) as host:
        sender = a_sender(reactor, f"http://backend.test:{host.port}", **given)
        return await sender.send(a_call(), news=False), host.asked


async def test_the_backend_hears_what_it_knows(reactor: Any) -> None:
    """Its path, the method, JSON, the token and where it comes from; and an id to tell a repetition by."""
    async with scripted(answer("200 OK", b'{"success":true}')) as host:
        sender = a_sender(reactor, f"http://backend.test:{host.port}/")
        call = a_call("/api/webhooks/inference/progress", method="PATCH")
        assert await sender.send(call, news=True) == Answered(200)
    [asked] = host.asked
    assert asked.line == "PATCH /api/webhooks/inference/progress HTTP/1.1"
    assert json.loads(asked.body) == BODY
    given = {name: asked.headers[name] for name in ("authorization", "x-request-source", "content-type", "webhook-id")}
    assert given == {
        "authorization": f"Bearer {TOKEN}",
        "x-request-source": "inference-server",
        "content-type": "application/json",
        "webhook-id": "generation-17-end",
    }


async def test_the_backend_s_own_address_may_come_with_the_message(reactor: Any) -> None:
    """Then that is called, and given the token: its origin was compared when the call was recorded."""
    async with scripted(answer()) as host:
        base = f"http://backend.test:{host.port}"
        assert await a_sender(reactor, base).send(a_call(f"{base}/v2/x"), news=False) == Answered(200)
    assert host.asked[0].line == "POST /v2/x HTTP/1.1"
    assert "authorization" in host.asked[0].headers


async def test_nobody_else_is_given_the_token(reactor: Any) -> None:
    """Neither a backend of another address, nor a webhook on the backend's own host."""
    async with scripted(answer()) as host:
        base = f"http://backend.test:{host.port}"
        sender = a_sender(reactor, base)
        await sender.send(a_call(f"{base}/x", target=base), news=False)
        await sender.send(generic(f"{base}/admin"), news=False)
        await sender.send(a_call("/admin", kind=HookKind.GENERIC), news=False)
    assert len(host.asked) == 2, "a path alone is no address of a user's"
    assert not any(TOKEN in str(asked) for asked in host.asked)
    assert host.asked[0].headers["x-request-source"] == "inference-server"


async def test_others_are_sent_a_signature_that_the_standard_s_library_verifies(reactor: Any) -> None:
    """Over the very bytes that went out; the secret itself does not."""
    async with scripted(answer("204 No Content")) as host:
        sender = a_sender(reactor, clock=_at(time.time()))
        assert await sender.send(generic(f"http://hooks.test:{host.port}/jobs?a=b"), news=False) == Answered(204)
    [asked] = host.asked
    assert asked.line == "POST /jobs?a=b HTTP/1.1"
    assert Verifier(SECRET).verify(asked.body, asked.headers) == BODY
    assert asked.headers["webhook-id"] == "generation-17-end"
    assert SECRET.removeprefix("whsec_") not in str(asked)


async def test_an_owner_s_receivers_verify_with_the_owner_s_secret(reactor: Any) -> None:
    """Or with the server's own, which some were given before owners had theirs; another owner's fits nothing."""
    async with scripted(answer("204 No Content")) as host:
        call = generic(f"http://hooks.test:{host.port}/jobs")
        told = replace(HttpCall.from_json(call.payload), owner="ada")
        sender = a_sender(reactor, clock=_at(time.time()))
        await sender.send(replace(call, payload=told.to_json()), news=False)
    [asked] = host.asked
    for secret in (owner_secret(SecretStr(SECRET), "ada"), SECRET):
        assert Verifier(secret).verify(asked.body, asked.headers) == BODY
    with pytest.raises(WebhookVerificationError):
        Verifier(owner_secret(SecretStr(SECRET), "bob")).verify(asked.body, asked.headers)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "127.0.0.1",
        "10.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fd00::1]",
        "0.0.0.0",
    ],
)
async def test_an_address_that_is_not_public_is_never_called(reactor: Any, address: str) -> None:
    """However it is written."""
    clock = _at(NOW)
    straight = Outgoing(reactor, clock, InlinePool(), look_up=lambda host, port: [host])
    sender = HttpSender(
        trusted=straight, guarded=straight, backend=Backend("", SecretStr("")), secret=SecretStr(SECRET), clock=clock,
        seconds=10.0, news_seconds=3.0,
    )  # fmt: skip
    outcome = await sender.send(generic(f"http://{address}/latest/meta-data"), news=False)
    assert isinstance(outcome, Forbidden)


@pytest.mark.parametrize("host", ["localtest.test", "2130706433", "0x7f.1", "127.1"])
async def test_a_name_that_leads_to_loopback_is_never_called(reactor: Any, host: str) -> None:
    """Nor a number that does; there is somebody who would have heard it."""
    async with scripted(answer()) as there:
        outcome = await a_sender(reactor, networks=()).send(generic(f"http://{host}:{there.port}/"), news=False)
        assert isinstance(outcome, Forbidden)
        assert there.asked == []


@pytest.mark.parametrize("url", ["ftp://hooks.test/", "http://u:p@hooks.test/", "not a url"])
async def test_what_is_no_address_is_never_called(reactor: Any, url: str) -> None:
    """And the reason has no password in it."""
    outcome = await a_sender(reactor).send(generic(url), news=False)
    assert isinstance(outcome, Forbidden)
    assert "u:p" not in outcome.reason


async def test_a_redirect_is_an_answer(reactor: Any) -> None:
    """Nobody follows it."""
    outcome, asked = await told(reactor, answer("302 Found", Location="http://169.254.169.254/"))
    assert outcome == Answered(302)
    assert len(asked) == 1


async def test_the_first_words_of_a_refusal_are_kept_without_the_token(reactor: Any) -> None:
    """In one line, however much there is of it."""
    body = f'{{"message":"no\nsuch {TOKEN}"}}'.encode() + b"\x00\xff" * 50_000
    outcome, _ = await told(reactor, answer("400 Bad Request", body))
    assert isinstance(outcome, Answered)
    assert outcome.excerpt.startswith('{"message":"no such ***"}')
    assert len(outcome.excerpt) <= 200


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0), (" 7 ", 7.0), ("999999999999999999", LONGEST_RETRY_AFTER), ("-5", 0.0), ("soon", 0.0), ("", 0.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0), ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0), ("²", 0.0),
        ("Tue, 14 Nov 99999 22:00:00 GMT", 0.0),
    ],
)  # fmt: skip
async def test_a_receiver_may_say_when_to_come_again(reactor: Any, header: str, seconds: float) -> None:
    """In seconds or as a date; what is neither says nothing."""

    async def refuse(asked: Asked, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: {header}\r\n\r\n"
        writer.write(head.encode("utf-8"))

    outcome, _ = await told(reactor, refuse)
    assert outcome == Answered(503, seconds)


async def test_who_cannot_be_reached_was_told_nothing(reactor: Any) -> None:
    """Nobody listens there."""
    async with scripted(answer()) as host:
        port = host.port
    outcome = await a_sender(reactor, f"http://backend.test:{port}").send(a_call(), news=False)
    assert isinstance(outcome, Unreached)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200", b"nonsense\r\n\r\n"])
async def test_where_no_answer_comes_it_may_have_arrived(reactor: Any, head: bytes) -> None:
    """The connection ends instead, before or in the middle of one."""
    outcome, asked = await told(reactor, partly(head))
    assert isinstance(outcome, Unsure)
    assert len(asked) == 1


@pytest.mark.parametrize(("news", "seconds"), [(False, 10.0), (True, 3.0)])
async def test_who_is_silent_is_waited_for_so_long(reactor: Any, news: bool, seconds: float) -> None:
    """News are worth less time. What is sent by then may have arrived."""
    clock = _at(NOW)
    async with scripted(silence) as host:
        sender = a_sender(reactor, f"http://backend.test:{host.port}", clock=clock)
        sending = asyncio.ensure_future(sender.send(a_call(), news=news))
        await host.until(lambda: len(host.asked) == 1)
        clock.advance(seconds - 0.1)
        await settle()
        assert not sending.done()
        clock.advance(0.2)
        assert isinstance(await sending, Unsure)


async def test_a_status_is_an_answer_whatever_becomes_of_the_body(reactor: Any) -> None:
    """One that never ends, and one that breaks off."""
    head = b"HTTP/1.1 %s\r\nContent-Length: 100\r\n\r\nhalf"

    def slowly(status: bytes) -> Script:
        async def say(asked: Asked, writer: asyncio.StreamWriter) -> None:
            writer.write(head % status)
            await silence(asked, writer)

        return say

    assert (await told(reactor, slowly(b"200 OK")))[0] == Answered(200)
    assert (await told(reactor, partly(head % b"500 No")))[0] == Answered(500)
    clock = _at(NOW)
    async with scripted(slowly(b"500 No")) as host:
        sender = a_sender(reactor, f"http://backend.test:{host.port}", clock=clock)
        sending = asyncio.ensure_future(sender.send(a_call(), news=False))
        await host.until(lambda: len(host.asked) == 1)
        while not sending.done():
            clock.advance(1.0)
            await asyncio.sleep(0)
        assert await sending == Answered(500)


async def test_what_is_not_set_up_is_told_later(reactor: Any) -> None:
    """Without a backend, and without a secret, calls that need them wait."""
    assert isinstance(await a_sender(reactor, "").send(a_call(), news=False), Unreached)
    assert isinstance(await a_sender(reactor, secret="").send(generic("http://hooks.test"), news=False), Unreached)


def test_no_secret_is_shown() -> None:
    """By what holds them."""
    assert TOKEN not in repr(Backend("http://backend.test", SecretStr(TOKEN)))
