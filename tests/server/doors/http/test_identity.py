"""Whose request it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.server.doors.http.door import TOKEN, Door, served
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
        ({**HERE, "x-real-ip": "203.0.113.9"}, "127.0.0.1"),
        ({**HERE, "via": "1.1 proxy"}, "127.0.0.1"),
        ({**HERE, "origin": "https://evil.test"}, "127.0.0.1"),
        ({**HERE, "origin": "null"}, "127.0.0.1"),
        ({**HERE, "origin": "http://["}, "127.0.0.1"),
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
    door = Door(House(tokens=tokens), anonymous_owner="guest", base_url="https://paint.test")
    answer = await door.ask("POST", "/v1/jobs", {"prompt": "a star"}, token="", client="203.0.113.9")
    assert answer.status == 202
    job = await door.house.kept(answer.json()["id"])
    assert job.owner == "guest"
    if tokens:
        assert (await door.ask("GET", f"/v1/jobs/{job.id}")).status == 404
        assert await asked(door, {"x-api-key": "wrong"}) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("host", "origin", "served"),
    [
        ("localhost:8001", "http://localhost:8001", True),
        ("127.0.0.1:8001", "http://127.0.0.1:8001", True),
        ("192.0.2.7:8001", "http://192.0.2.7:8001", True),  # where it came in
        ("paint.test", "https://paint.test", True),
        ("shop.test:8001", "https://pages.test", True),  # CORS_ORIGINS has it
        ("rebound.test:8001", "http://rebound.test:8001", False),
        ("192.0.2.8:8001", "http://192.0.2.8:8001", False),
        ("localhost:8001", "http://localhost:3000", False),
        ("", "http://", False),
        ("", "null", False),
        ("localhost:8001", "http://[", False),
    ],
)
@pytest.mark.parametrize("local", ["192.0.2.7", "::ffff:192.0.2.7"])
async def test_an_anonymous_owner_s_pages_are_those_of_names_that_are_ours(
    host: str, origin: str, served: bool, local: str
) -> None:
    """Origin and Host agree under any name that a stranger has lead here; only ours, and those of CORS_ORIGINS, are taken."""
    door = Door(anonymous_owner="guest", base_url="https://paint.test/x", cors_origins=("https://pages.test",))
    answer = await door.ask(
        "GET", "/v1/jobs/none", headers={"host": host, "origin": origin}, token="", server=(local, 8001)
    )
    assert answer.status == (404 if served else 403)


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost:8001", True),
        ("127.0.0.1:8001", True),
        ("192.0.2.8:8001", True),  # no page of another has an address for its name
        ("[2001:db8::1]:8001", True),
        ("atelier:8001", True),  # a name of a network's own
        ("PAINT.test", True),
        ("rebound.test:8001", False),
        ("rebound.test.", False),
        ("127.0.0.1.rebound.test", False),
        ("", True),  # HTTP/1.0; browsers have one
    ],
)
@pytest.mark.parametrize("tokens", [TOKENS, {}])
async def test_a_page_that_has_its_name_lead_here_reads_nothing_of_the_anonymous_owner_s(
    tokens: Any, host: str, served: bool
) -> None:
    """A browser sends no Origin where a page reads what it was itself loaded from; the page cannot change Host."""
    door = Door(House(tokens=tokens), anonymous_owner="guest", base_url="https://paint.test/x")
    own = {"host": "localhost:8001"}
    job_id = (await door.ask("POST", "/v1/jobs", {"prompt": "a star"}, headers=own, token="")).json()["id"]
    for path in (f"/v1/jobs/{job_id}", "/v1/jobs", "/v1/predictions"):
        answer = await door.ask("GET", path, headers={"host": host}, token="")
        assert answer.status == (200 if served else 403)
        assert served or answer.json()["error"]["details"]["field"] == "Host"
    assert (await door.ask("GET", f"/v1/jobs/{job_id}", headers={"host": host})).status == (
        404 if tokens else answer.status
    )


async def test_where_every_page_may_call_every_name_is_served() -> None:
    """As the profiles for front ends have it: CORS_ORIGINS=*."""
    door = Door(anonymous_owner="guest", cors_origins=("*",))
    for headers in ({"host": "any.test"}, {"host": "any.test", "origin": "https://shop.test"}):
        assert await asked(door, headers, "203.0.113.9") == (404, "JOB_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/jobs"), ("POST", "/v1/jobs/batch"), ("PUT", "/v1/predictions/mine"),
                         ("POST", "/v1/predictions"), ("POST", "/v1/images/generations"), ("POST", "/v1/images/edits"),
                         ("POST", "/api/v1/generate"), ("POST", "/api/v1/img2img")],
)  # fmt: skip
@pytest.mark.parametrize("token", ["", "wrong-token-0123456789"])
async def test_no_byte_of_a_stranger_s_body_is_read(method: str, path: str, token: str) -> None:
    """He is refused as if it had come, though it never does."""
    exchange = await Door().open(method, path, {"prompt": "x"}, token=token, withheld=True)
    assert exchange.task.done()
    answer = await exchange.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_page_of_another_origin_is_refused_before_its_body_is_read() -> None:
    """403, in the one body."""
    headers = {**HERE, "origin": "https://evil.test"}
    exchange = await Door(House(tokens={})).open("POST", "/v1/jobs", {"prompt": "x"}, headers=headers, withheld=True)
    assert exchange.task.done()
    answer = await exchange.answer()
    assert (answer.status, answer.json()["error"]["code"]) == (403, "PERMISSION_DENIED")


async def test_what_reads_no_body_is_told_to_strangers_as_before() -> None:
    """A path that is not there, or that does not know the method."""
    assert (await Door().ask("POST", "/nowhere", {"a": 1}, token="")).status == 404
    assert (await Door().ask("PUT", "/v1/jobs", {"a": 1}, token="")).status == 405


@pytest.mark.parametrize("host", ["[", "[::1", "]"])
async def test_a_host_that_cannot_be_read_is_refused_before_anything_happens(host: str, logs: list[Any]) -> None:
    """400, whoever asks; nothing was admitted, and nothing broke."""
    door = Door()
    answer = await door.ask("POST", "/v1/jobs", {"prompt": "a star"}, headers={"host": host})
    assert (answer.status, answer.json()["error"]["code"]) == (400, "MALFORMED_MESSAGE")
    assert answer.json()["error"]["details"]["field"] == "Host"
    assert not door.house.painter.known
    assert "request.broken" not in [line["event"] for line in logs]


async def test_a_stranger_with_a_body_hears_it_before_he_sent_any() -> None:
    """Over a real connection, also where he waits for leave to send (RFC 9110, 10.1.1)."""
    head = (b"POST /v1/jobs HTTP/1.1", b"host: paint.test", b"content-type: application/json", b"content-length: 9000")
    async with served() as here:
        for more in ((), (b"expect: 100-continue",)):
            line = await here.connect()
            answer = await line.ask(b"\r\n".join((*head, *more, b"", b"")))
            assert (answer.status, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
