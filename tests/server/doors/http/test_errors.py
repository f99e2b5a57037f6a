"""Refusals and failures as HTTP."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
from starlette.requests import Request

from server.doors.http.app import make_app
from server.doors.http.errors import STATUSES, answer, documented, explained
from server.errors import Code, Refusal
from tests.server.doors.http.door import Door
from tests.server.house import House


def test_every_code_has_a_status() -> None:
    """The table is total, and everything but OK says that something is wrong."""
    assert set(STATUSES) == set(Code)
    assert all(400 <= status < 600 for code, status in STATUSES.items() if code is not Code.OK)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_every_status_is_documented(code: Code) -> None:
    """A route can say each of them in its OpenAPI responses."""
    assert documented(STATUSES[code])


async def test_a_refusal_names_code_field_limit_and_when_to_come_again() -> None:
    """In the one body, with FastAPI's detail beside it and a whole number of seconds in Retry-After."""
    door = Door(House(pending_per_owner=1))
    await door.job()
    refused = await door.ask("POST", "/v1/jobs", {"prompt": "another"})
    body = refused.json()
    assert refused.status == 429
    assert set(body) == {"error", "detail"}
    assert set(body["error"]) == {"code", "message", "details", "timestamp", "type", "param"}
    assert (body["error"]["type"], body["error"]["param"]) == ("rate_limit_error", None)
    assert body["error"]["code"] == "RESOURCE_EXHAUSTED"
    assert body["detail"] == body["error"]["message"]
    assert body["error"]["timestamp"] == "1970-01-12T13:46:40.000Z"
    assert int(refused.headers["retry-after"]) == math.ceil(body["error"]["details"]["retry_after_seconds"])


@pytest.mark.parametrize(
    ("wishes", "field", "limit"),
    [
        ({"prompt": 5}, "prompt", "a text"),
        ({"prompt": ""}, "prompt", "at least 1 characters"),
        ({"prompt": " "}, "prompt", "at least 1 character other than space"),
        ({"prompt": "\ud800"}, "prompt", "a text of valid characters"),
        ({"width": 1024}, "width", "64 to 512, in steps of 8"),
        ({"width": "64"}, "width", "a whole number"),
        ({"width": 64.5}, "width", "a whole number"),
        ({"width": 10**400}, "width", None),
        ({"guidance_scale": 51}, "guidance_scale", "at most 50.0"),
        ({"guidance_scale": math.nan}, "guidance_scale", "a finite number"),
        ({"guidance_scale": 10**400}, "guidance_scale", None),
        ({"num_images": 5}, "num_images", "at most 4"),
        ({"num_images": True}, "num_images", "a whole number"),
        ({"adapters": [{"name": "ink", "scale": "1"}]}, "adapters[0].scale", "a number"),
        ({"adapters": [{}] * 9}, "adapters", "at most 8"),
        ({"adapters": {}}, "adapters", "a list"),
        ({"nonsense": 1}, "nonsense", "left out: there is no such field"),
        ({"init_image": "%"}, "init_image", "base64"),
        ({"strength": 0.5}, "strength", "left out without an init_image"),
        ({"signature": {}}, "signature", "one of text and image"),
        ({"signature": {"text": "me", "position": "middle"}}, "signature.position", None),
        ({"webhook": {"url": "ftp://x"}}, "webhook.url", None),
        ({"webhook": {"url": "https://x", "events": ["all"]}}, "webhook.events[0]", None),
        ({"deadline_seconds": 0}, "deadline_seconds", "more than 0.0"),
    ],
)
async def test_a_field_that_does_not_fit_is_named_with_what_would(
    wishes: dict[str, Any], field: str, limit: str | None
) -> None:
    """422, whoever found it: the framework, the command, or the server's limits; nothing is clamped, nothing is accepted."""
    door = Door()
    refused = await door.ask("POST", "/v1/jobs", {"prompt": "a star", **wishes})
    body = refused.json()
    assert refused.status == 422, body
    assert body["error"]["code"] == "INVALID_PARAMETER"
    assert body["error"]["details"]["field"] == field
    assert body["error"]["details"]["limit"]
    if limit is not None:
        assert body["error"]["details"]["limit"] == limit
    assert all({"loc", "msg", "type"} == set(problem) for problem in body["detail"])
    assert not door.house.painter.known


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"prompt": ', 400, "MALFORMED_MESSAGE"),
        (b"\xff\xfe\x00", 400, "MALFORMED_MESSAGE"),
        (b"[" * 9000, 400, "MALFORMED_MESSAGE"),
        (b'{"seed": ' + b"9" * 9000 + b"}", 400, "MALFORMED_MESSAGE"),
        (b"5", 422, "INVALID_PARAMETER"),
        (b"null", 422, "INVALID_PARAMETER"),
        (b"", 422, "INVALID_PARAMETER"),
    ],
)
async def test_a_body_that_is_no_request_is_refused(body: bytes, status: int, code: str) -> None:
    """And never an error of ours."""
    refused = await Door().ask("POST", "/v1/jobs", body=body, headers={"content-type": "application/json"})
    assert (refused.status, refused.json()["error"]["code"]) == (status, code)


async def test_what_is_not_there_is_told_in_the_same_body() -> None:
    """Unknown paths, and methods that a path does not know."""
    nowhere = await Door().ask("GET", "/nowhere")
    assert (nowhere.status, nowhere.json()["error"]["code"]) == (404, "UNKNOWN_MESSAGE")
    assert nowhere.json()["detail"] == "there is nothing at /nowhere"
    put = await Door().ask("PUT", "/v1/jobs")
    assert (put.status, put.json()["error"]["code"], put.headers["allow"]) == (405, "UNKNOWN_MESSAGE", "GET, POST")


async def test_an_error_of_ours_tells_nothing_of_itself(logs: list[Any]) -> None:
    """500 without a trace outward; the log has it, with the request's id."""
    door = Door()

    async def broken(command: Any) -> None:
        raise RuntimeError("the cellar is on fire")

    for command in tuple(door.house.handlers):
        cast(dict[Any, Any], door.house.handlers)[command] = broken
    answered = await door.ask("GET", "/v1/jobs/x", headers={"x-request-id": "mine-7"})
    assert answered.status == 500
    assert answered.json()["error"]["code"] == "INTERNAL_ERROR"
    assert b"cellar" not in answered.body
    assert answered.headers["x-request-id"] == "mine-7"
    (line,) = [line for line in logs if line["event"] == "request.broken"]
    assert line["request_id"] == "mine-7"


async def test_an_error_after_the_answer_began_ends_the_connection() -> None:
    """There is no other way left to tell it."""
    door = Door()

    @door.app.get("/half")
    async def half(request: Request) -> Any:
        async def send_half(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError("in the middle")

        from starlette.responses import Response

        response = Response()
        response.__class__ = type("Half", (Response,), {"__call__": lambda self, *given: send_half(*given)})
        return response

    exchange = await door.open("GET", "/half")
    with pytest.raises(RuntimeError, match="in the middle"):
        await exchange.task
    assert exchange.status == 200
    assert not exchange.ended


def test_retry_after_is_never_too_soon() -> None:
    """A part of a second is a whole one."""
    refusal = Refusal(Code.UNAVAILABLE, "later", retry_after_seconds=0.2)
    assert answer(refusal, 0.0).headers["retry-after"] == "1"


def test_values_are_not_told_back() -> None:
    """They may be secrets, or megabytes."""
    problem = {
        "type": "string_type",
        "loc": ("body", "prompt"),
        "msg": "Input should be a valid string",
        "input": "secret",
    }
    _, told = explained([problem])
    assert "secret" not in str(told)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/jobs", {"prompt": "a star"}, "body"),
        ("/v1/jobs", {"prompt": "a star", "signature": {}}, "signature"),
        ("/v1/jobs", {"prompt": "a star", "adapters": [{"name": "ink"}]}, "adapters[0]"),
        ("/v1/jobs/batch", {"jobs": [{"prompt": "a star"}]}, "jobs[0]"),
        ("/v1/images/generations", {"prompt": "a star"}, "body"),
        ("/v1/predictions", {"version": "atelier/demo", "input": {"prompt": "a star"}}, "input"),
    ],
)
async def test_an_object_of_far_too_many_fields_is_refused_whole(path: str, body: dict[str, Any], field: str) -> None:
    """One problem is told, and none for each of them."""
    at: Any = body
    for step in [] if field == "body" else field.replace("[0]", ".0").split("."):
        at = at[int(step) if step.isdigit() else step]
    at.update({f"x{number}": 1 for number in range(65)})
    refused = await Door().ask("POST", path, body)
    told = refused.json()
    status = 400 if path.startswith("/v1/images") else 422  # OpenAI's
    assert (refused.status, told["error"]["code"]) == (status, "INVALID_PARAMETER")
    assert told["error"]["details"] == {"field": field, "limit": "an object of at most 64 fields"}
    assert len(told["detail"]) == 1


async def test_at_most_twenty_problems_are_told() -> None:
    """With the beginning of each name: they are the client's own."""
    wishes = {"x" * 500 + str(number): 1 for number in range(20)}
    refused = await Door().ask("POST", "/v1/jobs", {"prompt": "", **wishes})
    assert (refused.status, len(refused.json()["detail"])) == (422, 20)
    assert refused.json()["error"]["details"]["field"] == "prompt"
    assert max(len(problem["loc"][-1]) for problem in refused.json()["detail"]) == 200


async def test_a_batch_s_problems_are_those_of_its_first_bad_job() -> None:
    """A thousand jobs of sixty unknown fields would be sixty thousand."""
    refused = await Door().ask("POST", "/v1/jobs/batch", {"jobs": [{"prompt": "a star", "x": 1}] * 100})
    assert [problem["loc"] for problem in refused.json()["detail"]] == [["body", "jobs", 0, "x"]]


def test_the_description_is_whole() -> None:
    """Every operation has an id of its own and says what it refuses with; nothing loads scripts from elsewhere."""
    app = make_app(Door().parts)
    description = app.openapi()
    operations = [
        operation
        for path in description["paths"].values()
        for method, operation in path.items()
        if method in ("get", "post", "put", "delete", "patch")
    ]
    assert len({operation["operationId"] for operation in operations}) == len(operations) >= 7
    for operation in operations:
        for status in ("422", "500"):
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith("ErrorResponse")
    assert "/docs" not in {getattr(route, "path", "") for route in app.routes}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs", "GET, POST"),
        ("/v1/jobs/batch", "POST"),
        ("/v1/jobs/x/cancel", "POST"),
        ("/pictures/x/0.png", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_path_does_not_know_is_answered_with_all_it_knows(path: str, allowed: str) -> None:
    """Though they are several routes."""
    assert (await Door().ask("PUT", path)).headers["allow"] == allowed
