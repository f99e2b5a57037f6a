"""Models and their versions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ai.types import ModelLoadError, ModelUnavailable
from server.doors.http.predictions.asking import PredictionInput
from server.doors.http.predictions.models import input_properties, openapi_schema
from server.model_names import version_of
from tests.server.doors.http.door import Door
from tests.server.fakes import CARD
from tests.server.house import LIMITS

VERSION = version_of("demo")


async def test_a_model_is_described_with_its_version() -> None:
    """At its own address, as this request calls us."""
    found = (await Door().ask("GET", "/v1/models/atelier/demo")).json()
    assert (found["owner"], found["name"], found["url"]) == (
        "atelier",
        "demo",
        "http://paint.test/v1/models/atelier/demo",
    )
    assert found["latest_version"] == (await Door().ask("GET", f"/v1/models/atelier/demo/versions/{VERSION}")).json()
    versions = (await Door().ask("GET", "/v1/models/atelier/demo/versions")).json()
    assert versions == {"previous": None, "next": None, "results": [found["latest_version"]]}


async def test_a_model_that_cannot_be_loaded_has_no_version() -> None:
    """It is there all the same."""
    door = Door()
    door.house.health.engine_events([ModelUnavailable("demo", ModelLoadError("no file"))])
    assert (await door.ask("GET", "/v1/models/atelier/demo")).json()["latest_version"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/atelier/nope",
        "/v1/models/x/demo",
        f"/v1/models/atelier/other/versions/{VERSION}",
        "/v1/models/a/b/versions",
    ],
)
async def test_what_is_not_here_is_not_found(path: str) -> None:
    """A version of another model neither."""
    answer = await Door().ask("GET", path)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")


async def test_nobody_sees_them_without_a_token() -> None:
    """As everything here."""
    assert (await Door().ask("GET", "/v1/models/atelier/demo", token="")).status == 401


def test_the_schema_has_what_is_taken() -> None:
    """Every field of a request, in an order, and no other."""
    schema: Any = openapi_schema(CARD, LIMITS)["components"]["schemas"]
    properties = schema["Input"]["properties"]
    assert set(properties) == set(PredictionInput.model_fields)
    assert [one["x-order"] for one in properties.values()] == list(range(len(properties)))
    assert (schema["Input"]["required"], schema["Input"]["additionalProperties"]) == (["prompt"], False)
    assert schema["Output"]["type"] == "array"
    assert "x-cog-array-type" not in schema["Output"]  # pictures come all at once


def test_the_schema_s_limits_are_the_card_s_and_the_server_s() -> None:
    """Those that a request is refused by."""
    found = input_properties(replace(CARD, most_steps={"euler": 7}), replace(LIMITS, default_width=128))
    assert (found["width"]["minimum"], found["width"]["maximum"], found["width"]["multipleOf"]) == (64, 512, 8)
    assert (found["width"]["default"], found["height"]["default"]) == (128, CARD.defaults.height)
    assert (found["height"]["maximum"], found["num_inference_steps"]["maximum"]) == (256, 50)
    assert found["scheduler"]["enum"] == list(CARD.solvers)
    assert "euler makes 7 steps at most" in found["scheduler"]["description"]
    assert found["prompt"]["maxLength"] == 100


async def test_the_schema_s_defaults_are_what_a_prediction_gets() -> None:
    """Nothing is said that is not so."""
    told = (await Door().ask("POST", "/v1/predictions", {"version": VERSION, "input": {"prompt": "a star"}})).json()[
        "input"
    ]
    found = input_properties(CARD, LIMITS)
    defaults = {name: one["default"] for name, one in found.items() if "default" in one}
    assert {name: told[name] for name in defaults} == defaults
