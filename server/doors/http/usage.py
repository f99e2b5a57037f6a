"""What was used: sums over days, models and owners, as JSON or CSV; and how a model's jobs fare."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import asdict
from datetime import date, timedelta
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, BeforeValidator, Field

from server.commands import GetModel
from server.doors.http.errors import documented, time_text
from server.doors.http.identity import Asker
from server.doors.http.parts import HttpParts, carry_out
from server.errors import Code, Refusal
from server.metering.usage import DAY, By, UsageLine, UsageQuery, day_of, day_text
from server.model_names import version_of
from server.model_records import VersionRecord
from server.principal import Principal
from server.replies import FoundModel, ModelView

EVERYBODY = "*"
DAYS = 30  # that are told where nobody says which
MOST_DAYS = 800  # in one answer: two years, with each model of each day
FIRST = date(1970, 1, 1)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Window(StrEnum):
    """How far back a model's figures reach."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"


_SECONDS = {Window.HOUR: 3600.0, Window.DAY: DAY, Window.WEEK: 7 * DAY, Window.MONTH: 30 * DAY}


def _only_dates(value: object) -> object:
    """As the description has them: of a number pydantic would make the day of so many seconds after 1970."""
    if isinstance(value, str) and not _DATE.fullmatch(value):
        raise ValueError("a date is YYYY-MM-DD")
    return value


Day = Annotated[date, BeforeValidator(_only_dates)]
From = Annotated[
    Day | None, Query(alias="from", description="The first day (UTC); 30 days before the last, if not given.")
]
To = Annotated[Day | None, Query(description="The last day (UTC), today if not given.")]
Sums = Annotated[list[By], Query(max_length=3, description="What is added up by; `owner` tells admins' owners apart.")]
OfOwner = Annotated[
    str, Query(max_length=100, description="Whose: your own, or, for admins, anybody's, or * for everybody's.")
]
ModelId = Annotated[str, Path(min_length=1, max_length=100, description="As GET /v1/models has it.", examples=["demo"])]
Part = Annotated[str, Path(min_length=1, max_length=100)]


class UsageItem(BaseModel):
    """A sum. What it was not added up by is null."""

    day: str | None
    owner: str | None
    model: str | None
    jobs: int
    succeeded: int
    failed: int
    canceled: int
    cached: int = Field(description="Of those that succeeded: answered as the same was before, without being made.")
    pictures: int
    tokens: int
    cost: float = Field(description="Megapixels × steps × images.")
    gpu_seconds: float = Field(description="Its share of the time of the passes on the device.")
    price: float


class UsageBody(BaseModel):
    """Usage of jobs that ended from `from` to `to`."""

    owner: str = Field(description="* for everybody.")
    since: str = Field(alias="from")
    to: str
    items: list[UsageItem]


class Spread(BaseModel):
    """Seconds: half of the jobs took at most p50."""

    p50: float
    p90: float
    p99: float


class JobFigures(BaseModel):
    """How jobs fared that ended in a window."""

    jobs: int
    succeeded: int
    failed: int
    canceled: int
    cached: int = Field(description="Answered as the same was before; their times are not among those below.")
    success_share: float | None = Field(description="Of those that succeeded or failed.")
    queue_seconds: Spread | None = Field(description="From acceptance to a place in a batch, of jobs that succeeded.")
    predict_seconds: Spread | None
    total_seconds: Spread | None
    pictures: int
    gpu_seconds: float


class VersionFigures(JobFigures):
    """Of one version's."""

    version: str
    id: str
    weight: int = Field(description="Its share of the requests that name no version, in all weights together.")


class _OfModel(BaseModel):
    model: str
    window: Window
    since: str
    scope: str = Field(json_schema_extra={"enum": ["own", "all"]})


class ModelFigures(JobFigures, _OfModel):
    """How a model's jobs fared that ended in the window, all versions' together or those of the one that was named. `scope`: your
    own jobs, or (admins, and of your own model) everybody's."""

    versions: list[VersionFigures] = Field(
        description="Each by itself, where several share the requests or did so before the last change."
    )


_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}


def routes(parts: HttpParts) -> APIRouter:
    """/v1/usage, and /v1/models/…/metrics."""
    router = APIRouter(tags=["usage"])
    records = parts.usage
    if records is None:
        return router

    @router.get(
        "/v1/usage",
        response_model=UsageBody,
        response_model_by_alias=True,
        responses=documented(403),
        operation_id="get_usage",
    )
    async def get_usage(
        asker: Asker,
        since: From = None,
        to: To = None,
        by: Sums = [By.DAY, By.MODEL],  # noqa: B006
        owner: OfOwner = "",
    ) -> Response:
        """What was used, day by day and model by model; of the jobs that have ended."""
        query = _query(asker, owner, since, to, by, parts.clock.seconds())
        items = [UsageItem(**asdict(line)) for line in await records.usage(query)]
        body = UsageBody(
            owner=query.owner or EVERYBODY, **{"from": day_text(query.since)}, to=day_text(query.until), items=items
        )
        return Response(body.model_dump_json(by_alias=True), media_type="application/json")

    @router.get(
        "/v1/usage.csv", response_class=Response, responses={**_CSV, **documented(403)}, operation_id="get_usage_csv"
    )
    async def get_usage_csv(
        asker: Asker,
        since: From = None,
        to: To = None,
        by: Sums = [By.DAY, By.MODEL],  # noqa: B006
        owner: OfOwner = "",
    ) -> Response:
        """The same as comma-separated values."""
        query = _query(asker, owner, since, to, by, parts.clock.seconds())
        return Response(csv_of(await records.usage(query)), media_type="text/csv")

    async def told(asker: Principal, model: str, window: Window) -> Response:
        since = max(0.0, parts.clock.seconds() - _SECONDS[window])
        found: FoundModel = await carry_out(parts, GetModel(owner=asker.owner, model=model))
        record = found.model.record
        sees_all = asker.is_admin or (record is not None and record.owner == asker.owner)

        async def numbers(cards: list[str]) -> dict[str, Any]:
            figures = await records.figures(cards, None if sees_all else asker.owner, since)
            return {name: _spread(value) for name, value in asdict(figures).items()}

        body = ModelFigures(
            model=model,
            window=window,
            since=time_text(since),
            scope="all" if sees_all else "own",
            versions=[
                VersionFigures(version=one.version, id=version_of(card), weight=one.weight, **await numbers([card]))
                for card, one in _compared(found)
            ],
            **await numbers(_cards_of(found)),
        )
        return Response(body.model_dump_json(), media_type="application/json")

    responses = documented(404)

    @router.get(
        "/v1/models/{model}/metrics", response_model=ModelFigures, responses=responses, operation_id="get_model_metrics"
    )
    async def get_model_metrics(asker: Asker, model: ModelId, window: Window = Window.DAY) -> Response:
        """How a model's jobs fared: how many, how many succeeded, how long they took, and the device's seconds."""
        return await told(asker, model, window)

    @router.get(
        "/v1/models/{owner}/{name}/metrics",
        response_model=ModelFigures,
        responses=responses,
        operation_id="get_named_model_metrics",
    )
    async def get_named_model_metrics(asker: Asker, owner: Part, name: Part, window: Window = Window.DAY) -> Response:
        """The same of a model whose name has two parts."""
        return await told(asker, f"{owner}/{name}", window)

    return router


def _compared(found: FoundModel) -> list[tuple[str, VersionRecord]]:
    """The versions that share a model's requests, or did before that was last changed, by what jobs of them are recorded with;
    none where it was always one."""
    record = found.model.record
    if record is None or found.version is not None:
        return []
    sharing = [one for one in record.versions if not one.deleted and (one.weight or record.previous.get(one.version))]
    return [(record.card_name(one.version), one) for one in sharing] if len(sharing) > 1 else []


def _cards_of(found: FoundModel) -> list[str]:
    """What jobs of a model are recorded with: those of all its versions, or of the one that was named."""
    model, version = found.model, found.version
    if isinstance(model, ModelView) and model.record is None:
        return [model.card.name]
    assert model.record is not None, "one that is not offered was registered"
    versions = [version.version] if version is not None else model.record.versions
    return [model.record.card_name(one.version) for one in versions]


def csv_of(lines: list[UsageLine]) -> str:
    """With a line of names. A text that a spreadsheet would take for a formula is told by a quote before it."""
    written = io.StringIO()
    writer = csv.DictWriter(written, list(UsageItem.model_fields), lineterminator="\r\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({name: _safe(value) for name, value in asdict(line).items()})
    return written.getvalue()


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _spread(value: Any) -> Any:
    return Spread(p50=value[0], p90=value[1], p99=value[2]) if isinstance(value, tuple) else value


def _query(asker: Principal, owner: str, since: date | None, to: date | None, by: list[By], now: float) -> UsageQuery:
    """Raises Refusal."""
    if owner not in ("", asker.owner) and not asker.is_admin:
        raise Refusal(Code.PERMISSION_DENIED, "only admins see what others used", field="owner", limit="your own")
    last = to or FIRST + timedelta(days=int(now // DAY))
    first = since or max(FIRST, last - timedelta(days=min(DAYS - 1, (last - date.min).days)))
    for name, day in (("from", first), ("to", last)):
        if day < FIRST:
            raise Refusal.invalid(name, "1970-01-01 or later", day.isoformat())
    if first > last:
        raise Refusal.invalid("from", f"at most `to`, {last.isoformat()}", first.isoformat())
    if (last - first).days >= MOST_DAYS:
        raise Refusal.invalid("from", f"at most {MOST_DAYS} days before `to`", first.isoformat())
    whose = None if owner == EVERYBODY else owner or asker.owner
    return UsageQuery(owner=whose, since=day_of(first), until=day_of(last), by=tuple(dict.fromkeys(by)))
