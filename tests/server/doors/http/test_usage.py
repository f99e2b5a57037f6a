"""Usage and models' figures over HTTP: whose they are, which days, and what is no day."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from server.doors.http.usage import MOST_DAYS, csv_of
from server.identity import Identities
from server.metering.usage import By, Figures, UsageLine, UsageQuery
from server.principal import EVERYDAY, Principal, Role, Scope
from tests.server.doors.http.door import Door
from tests.server.house import ADA, TOKENS, House

LINE = UsageLine(
    day="1970-01-12", owner=None, model="demo", jobs=3, succeeded=2, failed=1, canceled=0, cached=1, pictures=4, tokens=0,
    cost=8.5, gpu_seconds=1.25, price=0.5,
)  # fmt: skip
FIGURES = Figures(
    jobs=3, succeeded=2, failed=1, canceled=0, cached=1, success_share=2 / 3, queue_seconds=(1.0, 2.0, 3.0), predict_seconds=None,
    total_seconds=None, pictures=4, gpu_seconds=1.25,
)  # fmt: skip


class Books:
    """`UsageRecords` that note what they are asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def usage(self, query: UsageQuery) -> list[UsageLine]:
        """One line."""
        self.asked.append(query)
        return [LINE]

    async def figures(self, models: Collection[str], owner: str | None, since: float) -> Figures:
        """Some."""
        self.asked.append((models, owner, since))
        return FIGURES

    async def forget(self, ended_before: float) -> None:
        """Nobody asks for that here."""
        raise AssertionError


class Admins(Identities):
    """Everybody with a token is an admin."""

    async def principal(self, token: str) -> Principal:
        """Whose a token is."""
        found = await super().principal(token)
        return replace(found, roles=frozenset({Role.ADMIN}), scopes=EVERYDAY | {Scope.ADMIN})


def a_door(*, admin: bool = False, tokens: Mapping[str, SecretStr] = TOKENS) -> tuple[Door, Books]:
    """One with books. The clock stands at 1970-01-12 13:46:40."""
    house, books = House(tokens=tokens), Books()
    if admin:
        house.identities = Admins(tokens)
    return Door(house, usage=books), books


async def test_an_owner_sees_their_own_last_thirty_days() -> None:
    """Day by day, model by model, until today."""
    door, books = a_door()
    answer = await door.ask("GET", "/v1/usage")
    assert books.asked == [UsageQuery(owner=ADA, since=0, until=11, by=(By.DAY, By.MODEL))]
    assert answer.json() == {
        "owner": "ada", "from": "1970-01-01", "to": "1970-01-12",
        "items": [{
            "day": "1970-01-12", "owner": None, "model": "demo", "jobs": 3, "succeeded": 2, "failed": 1, "canceled": 0,
            "cached": 1, "pictures": 4, "tokens": 0, "cost": 8.5, "gpu_seconds": 1.25, "price": 0.5,
        }],
    }  # fmt: skip


async def test_days_and_sums_may_be_chosen() -> None:
    """What stands twice counts once."""
    door, books = a_door()
    await door.ask("GET", "/v1/usage?from=1970-01-03&to=1970-01-05&by=model&by=model")
    assert books.asked == [UsageQuery(owner=ADA, since=2, until=4, by=(By.MODEL,))]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"), ("from=1970-02-30", "from"), ("from=1970-01-09&to=1970-01-08", "from"),
        ("to=1969-12-31", "to"),
        ("from=0001-01-01&to=9999-12-31", "from"), ("from=1970-01-02&to=9999-12-31", "from"), ("by=week", "by[0]"),
        ("by=day&by=day&by=day&by=day", "by"), ("from=1969-12-31", "from"),
    ],
)  # fmt: skip
async def test_what_is_no_span_of_days_is_refused_by_name(query: str, field: str) -> None:
    """Status 422; and so is more than MOST_DAYS at once."""
    door, books = a_door()
    answer = await door.ask("GET", f"/v1/usage?{query}")
    assert (answer.status, answer.json()["error"]["details"]["field"], books.asked) == (422, field, [])
    assert MOST_DAYS > 366


async def test_others_usage_is_for_admins() -> None:
    """One's, or everybody's."""
    door, books = a_door()
    assert (await door.ask("GET", "/v1/usage?owner=ada")).status == 200
    for owner in ("bob", "*"):
        assert (await door.ask("GET", f"/v1/usage?owner={owner}")).status == 403
        assert (await door.ask("GET", f"/v1/usage.csv?owner={owner}")).status == 403
    assert [query.owner for query in books.asked] == ["ada"]
    door, books = a_door(admin=True)
    assert (await door.ask("GET", "/v1/usage?owner=*&by=owner")).json()["owner"] == "*"
    await door.ask("GET", "/v1/usage?owner=bob")
    assert [query.owner for query in books.asked] == [None, "bob"]
    assert (await door.ask("GET", "/v1/usage", token="")).status == 401


async def test_usage_comes_as_csv_too() -> None:
    """With a line of names; a name that a spreadsheet would take for a formula is none."""
    door, _ = a_door()
    answer = await door.ask("GET", "/v1/usage.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(io.StringIO(answer.body.decode()))
    assert (row["day"], row["model"], row["owner"], row["pictures"], row["price"]) == (
        "1970-01-12",
        "demo",
        "",
        "4",
        "0.5",
    )
    (row,) = csv.DictReader(io.StringIO(csv_of([replace(LINE, owner="=1+1")])))
    assert row["owner"] == "'=1+1"


async def test_a_model_s_figures_are_of_a_window() -> None:
    """One's own jobs; for admins everybody's."""
    door, books = a_door()
    answer = await door.ask("GET", "/v1/models/demo/metrics?window=1h")
    assert answer.status == 200
    assert (answer.json()["scope"], answer.json()["queue_seconds"]) == ("own", {"p50": 1.0, "p90": 2.0, "p99": 3.0})
    assert (answer.json()["predict_seconds"], answer.json()["since"]) == (None, "1970-01-12T12:46:40.000Z")
    assert books.asked == [(["demo"], "ada", 1_000_000.0 - 3600)]
    door, books = a_door(admin=True)
    assert (await door.ask("GET", "/v1/models/demo/metrics")).json()["scope"] == "all"
    assert books.asked == [(["demo"], None, 1_000_000.0 - 86_400)]


async def test_a_model_that_is_not_here_has_no_figures() -> None:
    """Nor a window that there is not."""
    door, books = a_door()
    assert (await door.ask("GET", "/v1/models/nobody/metrics")).status == 404
    assert (await door.ask("GET", "/v1/models/nobody/s/metrics")).status == 404
    answer = await door.ask("GET", "/v1/models/demo/metrics?window=1y")
    assert (answer.status, answer.json()["error"]["details"]["field"]) == (422, "window")
    assert books.asked == []
