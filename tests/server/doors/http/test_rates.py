"""What a client of the HTTP door is told of its limits."""

from __future__ import annotations

from server.doors.http.rates import rate_headers
from server.limits import COST, REQUESTS, Rate, Standing
from tests.server.doors.http.door import Door
from tests.server.house import House

TWO, COSTING = Rate(REQUESTS, 2, 60), Rate(COST, 100, 3600)


def test_the_least_is_told_as_most_clients_know_it() -> None:
    """And all of them as the IETF's draft has it; numbers are whole, rounded to the client's safe side."""
    standings = [Standing(Rate(REQUESTS, 5, 1), 4.0, 0.4), Standing(Rate(COST, 2000, 3600), 99.9, 3119.2)]
    assert dict(rate_headers(standings)) == {
        b"ratelimit-policy": b'"requests";q=5;w=1, "cost";q=2000;w=3600',
        b"ratelimit": b'"requests";r=4;t=1, "cost";r=99;t=3120',
        b"x-ratelimit-limit": b"2000",
        b"x-ratelimit-remaining": b"99",
        b"x-ratelimit-reset": b"3120",
    }


async def test_every_answer_to_a_job_says_what_is_left() -> None:
    """And the one that refuses says when to come again, with its code."""
    door = Door(House(rates=[TWO, COSTING]))
    first = await door.ask("POST", "/v1/jobs", {"prompt": "a star"})
    assert first.status == 202
    assert first.headers["ratelimit-policy"] == '"requests";q=2;w=60, "cost";q=100;w=3600'
    assert first.headers["ratelimit"] == '"requests";r=1;t=60, "cost";r=99;t=3600'
    await door.ask("POST", "/v1/jobs", {"prompt": "a star"})
    door.clock.advance(15)
    refused = await door.ask("POST", "/v1/jobs", {"prompt": "a star"})
    assert refused.status == 429
    assert refused.json()["error"]["code"] == "RESOURCE_EXHAUSTED"
    assert refused.json()["error"]["details"] == {
        "limit": "2 jobs a minute",
        "retry_after_seconds": 45.0,
    }
    told = {name: refused.headers[name] for name in ("retry-after", "x-ratelimit-remaining", "x-ratelimit-reset")}
    assert told == {"retry-after": "45", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "45"}


async def test_other_routes_and_servers_without_limits_say_nothing() -> None:
    """One request's standing is never another's."""
    door = Door(House(rates=[TWO]))
    await door.ask("POST", "/v1/jobs", {"prompt": "a star"})
    assert "ratelimit" not in (await door.ask("GET", "/v1/jobs")).headers
    assert "ratelimit" not in (await Door().ask("POST", "/v1/jobs", {"prompt": "a star"})).headers


async def test_a_batch_is_charged_job_by_job() -> None:
    """What is beyond the limit is refused by itself; the headers have the last word."""
    door = Door(House(rates=[TWO]))
    answer = await door.ask("POST", "/v1/jobs/batch", {"prompts": ["one", "two", "three"]})
    assert answer.status == 202
    assert answer.json()["accepted"] == 2
    assert answer.json()["items"][2]["error"]["code"] == "RESOURCE_EXHAUSTED"
    assert answer.headers["ratelimit"] == '"requests";r=0;t=60'


async def test_each_dialect_has_its_own_words_for_it() -> None:
    """Status 429 and Retry-After everywhere."""
    for path, body in (
        ("/api/v1/generate", {"prompt": "a star"}),
        ("/v1/predictions", {"model": "demo", "input": {"prompt": "a star"}}),
        ("/v1/images/generations", {"prompt": "a star", "model": "demo", "size": "64x72"}),
    ):
        door = Door(House(rates=[Rate(REQUESTS, 1, 60)]))
        await door.ask("POST", "/v1/jobs", {"prompt": "a star"})
        answer = await door.ask("POST", path, body)
        assert (answer.status, answer.headers["retry-after"]) == (429, "60"), (path, answer.body)
