"""Models, for OpenAI's clients and for a prediction platform's."""

from __future__ import annotations

from server.replies import ModelState
from tests.server.doors.http.door import Door


async def test_one_list_answers_three_kinds_of_client() -> None:
    """`data` (OpenAI) and `models` (the platform) are one list, the default first; `results` are Replicate's."""
    door = Door()
    body = (await door.ask("GET", "/v1/models")).json()
    assert set(body) == {"object", "data", "models", "next", "previous", "results"}
    assert body["object"] == "list"
    assert body["data"] == body["models"]
    assert [model["id"] for model in body["data"]] == ["demo", "other"]
    first = body["data"][0]
    assert (first["object"], first["created"], first["owned_by"]) == ("model", 1_000_000, "atelier")
    assert (first["name"], first["model_type"], first["version"], first["hardware"]) == (
        "demo",
        "text-to-image",
        "1.0.0",
        "auto",
    )
    assert first["input_schema"]["width"] == {
        "type": "integer",
        "description": "",
        "default": 64,
        "minimum": 64,
        "maximum": 512,
    }
    assert first["input_schema"]["scheduler"]["enum"] == first["solvers"] == ["dpmpp_2m", "euler"]
    assert [(model["owner"], model["name"]) for model in body["results"]] == [("atelier", "demo"), ("atelier", "other")]
    version = body["results"][0]["latest_version"]["openapi_schema"]["components"]["schemas"]["Input"]
    assert set(version["properties"]) == set(first["input_schema"])


async def test_a_page_of_models_can_be_asked_for() -> None:
    """By skip and limit, which hold for both lists; what they cannot be is refused."""
    door = Door()
    page = (await door.ask("GET", "/v1/models?skip=1&limit=1")).json()
    assert [model["id"] for model in page["models"]] == [model["id"] for model in page["data"]] == ["other"]
    assert (await door.ask("GET", "/v1/models?skip=2")).json()["data"] == []
    assert (await door.ask("GET", "/v1/models?limit=0")).status == 422


async def test_a_model_is_told_by_its_name_with_what_it_offers_and_how_it_is() -> None:
    """Adapters and its state; no path of its files."""
    door = Door()
    body = (await door.ask("GET", "/v1/models/other")).json()
    assert body["id"] == "other"
    assert "ink" in body["adapters"]
    assert body["state"] == "on_disk"
    assert "models/other" not in str(body)
    door.house.health._set("other", ModelState.UNAVAILABLE, "its files are gone")
    body = (await door.ask("GET", "/v1/models/other")).json()
    assert (body["state"], body["problem"]) == ("unavailable", "its files are gone")


async def test_a_model_that_is_not_here_is_refused() -> None:
    """With the names of those that are; and strangers learn nothing."""
    door = Door()
    refused = await door.ask("GET", "/v1/models/gpt-image-2")
    error = refused.json()["error"]
    assert (refused.status, error["code"], error["type"], error["param"]) == (
        404,
        "MODEL_NOT_FOUND",
        "not_found_error",
        "model",
    )
    assert error["details"]["limit"] == "one of demo, other"
    assert (await door.ask("GET", "/v1/models", token="")).status == 401
