"""What is asked for most, past the framework: the same answers, and the framework's own word on all that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fastapi.dependencies import utils
from fastapi.routing import APIRoute

from server.doors.http.parts import HttpLimits
from server.doors.http.shortcuts import MOST_BYTES
from tests.server.doors.http.door import LIMITS, Answer, Door
from tests.server.doors.http.test_measured import MeasuredDoor
from tests.server.fakes import settle

NEAR = "application/json"
FAR = "application/json; charset=utf-8"  # which the framework reads
ROOMY = HttpLimits(max_body_bytes=1 << 20, max_bodies_bytes=1 << 20, chunk_bytes=1024)


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the framework solved a route's dependencies, so that it is known which way a request went."""
    count = 0
    whole = utils.solve_dependencies

    async def counting(**given: Any) -> Any:
        nonlocal count
        count += 1
        return await whole(**given)

    monkeypatch.setattr("fastapi.routing.solve_dependencies", counting)
    return lambda: count


async def asked(
    kind: str, body: bytes, limits: HttpLimits = LIMITS, **given: Any
) -> tuple[int, Mapping[str, str], Any]:
    """A new door's answer to a POST of a job, without what no two requests have in common."""
    headers = {"content-type": kind, "x-request-id": "one", **given.pop("headers", {})}
    answer = await Door(limits=limits).ask("POST", "/v1/jobs", body=body, headers=headers, **given)
    return answer.status, answer.headers, json.loads(answer.body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "a star"}',
        b'{"prompt": "a star", "seed": 3, "width": 64, "height": 64, "num_inference_steps": 2, "idempotency_key": "k"}',
        b'{"prompt": "a star", "width": "64"}',
        b'{"prompt": "a star", "nothing": 1}',
        b'{"prompt": "a star", "guidance_scale": NaN}',
        b'{"prompt": "a star", "width": 1' + b"0" * 5000 + b"}",
        b'{"prompt": "\\ud800"}',
        b'{"prompt": " "}',
        b'{"prompt": "a star", "model": "nobody"}',
        b'{"prompt": ',
        b'"\xff"',
        b"[" * 5000,
        b"[]",
        b"null",
        b"",
        '{"prompt": "ein Stern ☆"}'.encode("utf-16"),
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
async def test_a_job_is_answered_as_the_framework_does(body: bytes) -> None:
    """To the byte, whether it is taken or refused."""
    assert await asked(NEAR, body) == await asked(FAR, body)


@pytest.mark.parametrize(
    "given",
    [
        {"token": ""},
        {"token": "nobody-s-token-0123456789"},
        {"headers": {"authorization": "Basic YTpi"}},
        {"headers": {"idempotency-key": "k" * 201}},
        {"headers": {"idempotency-key": "k" * 200}},
        {"headers": {"host": "paint.test, more"}},
    ],
    ids=str,
)
async def test_so_are_headers(given: dict[str, Any]) -> None:
    """Who asks, and under which key."""
    body = b'{"prompt": "a star", "idempotency_key": "another"}'
    assert await asked(NEAR, body, **given) == await asked(FAR, body, **given)


async def test_only_what_is_right_goes_past_the_framework(solved: Callable[[], int]) -> None:
    """A POST that fits and a route that takes nothing do; what does not fit is told by the framework."""
    door = Door()
    await door.ask("POST", "/v1/jobs", {"prompt": "a star"})
    for path in ("/health", "/", "/livez", "/readyz"):
        assert (await door.ask("GET", path)).status in (200, 503)
    assert solved() == 0
    assert (await door.ask("POST", "/v1/jobs", {"prompt": 1})).status == 422
    assert solved() > 0


async def test_a_long_body_is_left_to_the_framework(solved: Callable[[], int]) -> None:
    """With all that was read of it, in whatever pieces it came."""
    door = Door(limits=ROOMY)
    body = b'{"prompt": "a star"' + b" " * (MOST_BYTES + 10) + b"}"
    exchange = await door.open("POST", "/v1/jobs", headers={"content-type": NEAR}, withheld=True)
    for begin in range(0, len(body), 20_000):
        exchange.send(body[begin : begin + 20_000], more=begin + 20_000 < len(body))
        await settle()
    answer: Answer = await exchange.answer()
    assert (answer.status, answer.json()["prompt"]) == (202, "a star")
    assert solved() > 0


async def test_a_client_that_goes_away_in_its_body_makes_no_job() -> None:
    """499, for those who count; the room of its body is free."""
    door = MeasuredDoor()
    exchange = await door.open("POST", "/v1/jobs", headers={"content-type": NEAR}, withheld=True)
    exchange.send(b'{"prompt": ')
    exchange.hang_up()
    assert (await exchange.answer()).status == 499
    assert door.counted("/v1/jobs", 499, "POST") == 1
    assert not door.house.places.taken


async def test_too_much_is_refused_while_it_is_read() -> None:
    """413, as everywhere."""
    body = b'{"prompt": "a star"' + b" " * LIMITS.max_body_bytes + b"}"
    exchange = await Door().open("POST", "/v1/jobs", headers={"content-type": NEAR}, withheld=True)
    exchange.send(body[:15_000])
    exchange.send(body[15_000:], more=False)
    assert (await exchange.answer()).status == 413


async def test_metrics_have_the_route() -> None:
    """Of both kinds."""
    door = MeasuredDoor()
    await door.ask("GET", "/health")
    await door.job()
    assert door.counted("/health", 200) == 1
    assert door.counted("/v1/jobs", 202, "POST") == 1


async def test_every_other_method_is_the_framework_s() -> None:
    """A path's shortcut is one method's."""
    door = Door()
    assert (await door.ask("POST", "/health")).status == 405
    assert (await door.ask("GET", "/v1/jobs")).status == 200


def test_a_shortcut_is_a_route_that_is_described() -> None:
    """Which it cannot be without one."""
    door = Door()
    paths = door.app.openapi()["paths"]
    assert paths["/health"]["get"]["operationId"] == "is_healthy"
    assert paths["/v1/jobs"]["post"]["requestBody"]["content"][NEAR]
    assert any(isinstance(route, APIRoute) and route.operation_id == "submit_job" for route in door.app.state.routes)
