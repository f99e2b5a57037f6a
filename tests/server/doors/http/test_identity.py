"""Whose request it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.server.doors.http.door import TOKEN, Door
from tests.server.house import BOB, TOKENS, House

BOBS = TOKENS[BOB].get_secret_value()
HERE = {"host": "127.0.0.1:8001"}


async def asked(door: Door, headers: Mapping[str, str], client: str = "127.0.0.1") -> tuple[int, str]:
    """The status of a request for a job that is not there, and the code in the answer."""
    answer = await door.ask("GET", "/v1/jobs/none", headers=headers, token="", client=client)
    return answer.status, answer.json()["error"]["code"]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"Token {TOKEN}"},
        {"authorization": f"bearer  {TOKEN} "},
        {"x-api-key": TOKEN},
    ],
)
async def test_a_token_is_taken_in_each_of_its_forms(headers: dict[str, str]) -> None:
    """From anywhere, and from any web page's script that has it."""
    door = Door()
    assert await asked(door, {**headers, "origin": "https://shop.test"}, "203.0.113.9") == (404, "JOB_NOT_FOUND")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong-token-0123456789"},
        {"authorization": f"Basic {TOKEN}"},
        {"x-api-key": "wrong"},
        {"authorization": "Bearer \xff\xfe"},
    ],
)
async def test_without_a_known_token_nobody_is_served(headers: dict[str, str]) -> None:
    """401, and how to do better."""
    door = Door(anonymous_owner="") if headers else Door()
    answer = await door.ask("GET", "/v1/jobs/none", headers=headers, token="")
    assert (answer.status, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_another_s_job_is_not_there() -> None:
    """To look at, to follow or to cancel."""
    door = Door()
    job_id = await door.job()
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
        answer = await door.ask(method, f"/v1/jobs/{job_id}{path}", token=BOBS)
        assert (answer.status, answer.json()["error"]["code"]) == (404, "JOB_NOT_FOUND")
    assert door.house.painter.cancels == []


async def test_without_tokens_this_machine_is_served_under_its_own_names() -> None:
    """Whatever token a client sends: some cannot do without one."""
    door = Door(House(tokens={}))
    for host in ("127.0.0.1:8001", "localhost", "localhost:8001", "[::1]:8001"):
        assert await asked(door, {"host": host}) == (404, "JOB_NOT_FOUND")
        assert await asked(door, {"host": host, "authorization": "Bearer r8_any"}) == (404, "JOB_NOT_FOUND")


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        (HERE, "203.0.113.9"),
        ({"host": "rebound.test:8001"}, "127.0.0.1"),
        ({**HERE, "x-forwarded-for": "203.0.113.9"}, "127.0.0.1"),
        ({**HERE, "forwarded": "for=203.0.113.9"}, "127.0.0.1"),
        ({**HERE, "origin": "https://evil.test"}, "127.0.0.1"),
        ({**HERE, "origin": "null"}, "127.0.0.1"),
        ({"host": "rebound.test", "origin": "http://rebound.test"}, "127.0.0.1"),
    ],
)
async def test_without_tokens_nobody_else_is_served(headers: dict[str, str], client: str) -> None:
    """Other machines, names that a web page has pointed here, proxies, and pages of other origins."""
    assert await asked(Door(House(tokens={})), headers, client) == (403, "PERMISSION_DENIED")


async def test_a_page_that_cors_origins_has_may_call() -> None:
    """It may read the answers, too, refusals included."""
    door = Door(House(tokens={}), cors_origins=("https://shop.test",))
    origin = {**HERE, "origin": "https://shop.test"}
    assert await asked(door, origin) == (404, "JOB_NOT_FOUND")
    answer = await door.ask("GET", "/v1/jobs/none", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://shop.test"
    asking = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert (await door.ask("OPTIONS", "/v1/jobs", headers=asking)).status == 200
    other = await door.ask("GET", "/v1/jobs/none", headers={**HERE, "origin": "https://evil.test"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("tokens", [TOKENS, {}])
async def test_an_anonymous_owner_owns_what_comes_without_a_token(tokens: Any) -> None:
    """From any machine; a token that is known still says who asks."""
    door = Door(House(tokens=tokens), anonymous_owner="guest")
    answer = await door.ask("POST", "/v1/jobs", {"prompt": "a star"}, token="", client="203.0.113.9")
    assert answer.status == 202
    job = await door.house.kept(answer.json()["id"])
    assert job.owner == "guest"
    if tokens:
        assert (await door.ask("GET", f"/v1/jobs/{job.id}")).status == 404
        assert await asked(door, {"x-api-key": "wrong"}) == (401, "UNAUTHENTICATED")
