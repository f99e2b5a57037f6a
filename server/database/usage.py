"""Usage in the database: recorded with the ends of jobs, added up for owners, models and daily quotas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, case, delete, func, insert, select, text

from server.database.reading import Reader
from server.database.schema import IS_LIVE, jobs, quotas, usage
from server.database.writing import GroupWriter
from server.errors import Code, Refusal
from server.job import Job, JobState
from server.limits import DAILY_COST, DAILY_PICTURES, LimitReached
from server.metering.cost import cost_of, pictures_of
from server.metering.usage import (
    DAY,
    By,
    DeviceTimes,
    Figures,
    Prices,
    Quota,
    Usage,
    UsageLine,
    UsageQuery,
    day_text,
    usage_of,
)

MOST_JOBS = 50_000  # the latest of a model in a window, of which percentiles are taken
_SHARES = (0.5, 0.9, 0.99)
_USAGE = tuple(entry.name for entry in fields(Usage))
_OWNERS: BindParameter[str] = bindparam("of_owners", expanding=True)

_QUOTAS = select(quotas).where(quotas.c.owner.in_(_OWNERS))
_USED = (
    select(usage.c.owner, func.sum(usage.c.pictures), func.sum(usage.c.cost))
    .where(usage.c.owner.in_(_OWNERS), usage.c.asked_at >= bindparam("since"))
    .group_by(usage.c.owner)
)
_UNDER_WAY = (
    select(jobs.c.owner, func.sum(jobs.c.pictures), func.sum(jobs.c.cost))
    .where(jobs.c.owner.in_(_OWNERS), jobs.c.created_at >= bindparam("since"), IS_LIVE)
    .group_by(jobs.c.owner)
)
_KEYS = select(jobs.c.owner, jobs.c.idempotency_key).where(
    jobs.c.owner.in_(_OWNERS), jobs.c.idempotency_key.in_(bindparam("keys", expanding=True))
)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('atelier quota ' || :owner, 0))")


@dataclass(frozen=True, slots=True)
class Metering:
    """What the store has to know to record usage and to hold quotas; `quota` is of owners that have none of their own."""

    times: DeviceTimes
    prices: Prices = field(default_factory=Prices)
    quota: Quota = field(default_factory=Quota)

    def row(self, job: Job) -> dict[str, Any]:
        """The usage of a job that has ended."""
        return usage_row(usage_of(job, self.times.of(job.id), self.prices))


def usage_row(used: Usage) -> dict[str, Any]:
    """One of `usage`."""
    row = {name: getattr(used, name) for name in _USAGE}
    row.update(state=used.state.value, day=used.day)
    return row


def over_quota(connection: Connection, news: Sequence[tuple[Job, str | None]], quota: Quota) -> dict[str, Refusal]:
    """By their ids, the new jobs that their owners' days have no room for. With each job goes its key as the column has it.

    What ended counts as it was recorded, what has not as it was asked for. On PostgreSQL nodes that admit jobs of the same owner
    do it one after the other.
    """
    owners = sorted({job.owner for job, _ in news})
    limits = _limits(connection, owners, quota) if owners else {}
    if not limits:
        return {}
    if connection.dialect.name == "postgresql":
        for owner in sorted(limits):
            connection.execute(_LOCK, {"owner": owner})
    refused: dict[str, Refusal] = {}
    used: dict[str, list[float]] = {}
    known = _known(connection, news, limits)
    for job, key in news:
        limit = limits.get(job.owner)
        if limit is None or (key is not None and (job.owner, key) in known):
            continue
        if job.owner not in used:
            used[job.owner] = _used(connection, job.owner, job.created_at - job.created_at % DAY)
        refusal = _refusal(job, used[job.owner], limit)
        if refusal is not None:
            refused[job.id] = refusal
        else:
            used[job.owner][0] += pictures_of(job.request)
            used[job.owner][1] += cost_of(job.request)
    return refused


def _limits(connection: Connection, owners: Sequence[str], quota: Quota) -> dict[str, Quota]:
    own = {row.owner: Quota(row.pictures, row.cost) for row in connection.execute(_QUOTAS, {"of_owners": owners})}
    found = {owner: own.get(owner, quota) for owner in owners}
    return {owner: limit for owner, limit in found.items() if limit != Quota()}


def _known(
    connection: Connection, news: Sequence[tuple[Job, str | None]], limits: Mapping[str, Quota]
) -> set[tuple[str, str]]:
    keys = [key for job, key in news if key is not None and job.owner in limits]
    if not keys:
        return set()
    return {(row[0], row[1]) for row in connection.execute(_KEYS, {"of_owners": list(limits), "keys": keys})}


def _used(connection: Connection, owner: str, since: float) -> list[float]:
    total = [0.0, 0.0]
    for statement in (_USED, _UNDER_WAY):
        for _, pictures, cost in connection.execute(statement, {"of_owners": [owner], "since": since}):
            total[0] += float(pictures or 0)
            total[1] += float(cost or 0)
    return total


def _refusal(job: Job, used: Sequence[float], quota: Quota) -> Refusal | None:
    wanted = (
        (DAILY_PICTURES, "num_images", "pictures", quota.pictures, used[0], float(pictures_of(job.request))),
        (DAILY_COST, "cost", "of cost", quota.cost, used[1], cost_of(job.request)),
    )
    for name, asked_for, unit, limit, so_far, asked in wanted:
        if limit is None or not asked or so_far + asked <= limit + 1e-6:
            continue
        told = f"{limit:g} {unit} a day (UTC)"
        if asked > limit:
            text_ = f"the request asks for {asked:.4g} {unit}, and the quota is {told}"
            return Refusal(Code.INVALID_PARAMETER, text_, field=asked_for, limit=told)
        left = DAY - job.created_at % DAY
        begins = day_text(int(job.created_at // DAY) + 1)
        text_ = f"the quota of {told} has no room for {asked:.4g} more ({so_far:.4g} used); it begins anew at {begins}T00:00Z"
        return LimitReached(name, text_, limit=told, retry_after_seconds=left)
    return None


def own_quotas(connection: Connection) -> dict[str, Quota]:
    """Of owners that have their own."""
    rows = connection.execute(select(quotas).order_by(quotas.c.owner))
    return {row.owner: Quota(row.pictures, row.cost) for row in rows}


def set_quota(connection: Connection, owner: str, quota: Quota | None) -> None:
    """An owner's own quota, in place of the settings'; None: the settings' again."""
    connection.execute(delete(quotas).where(quotas.c.owner == owner))
    if quota is not None:
        connection.execute(insert(quotas), {"owner": owner, "pictures": quota.pictures, "cost": quota.cost})


def forget_usage(connection: Connection, ended_before: float) -> None:
    """Of jobs that ended so long ago."""
    connection.execute(delete(usage).where(usage.c.day < int(ended_before // DAY)))


class SqlUsage:
    """`UsageRecords` in the database."""

    def __init__(self, reader: Reader, writer: GroupWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def usage(self, query: UsageQuery) -> list[UsageLine]:
        """Sums."""
        return await self._reader.read(lambda connection: usage_lines(connection, query))

    async def figures(self, models: Collection[str], owner: str | None, since: float) -> Figures:
        """Of some models."""
        return await self._reader.read(lambda connection: model_figures(connection, models, owner, since))

    async def forget(self, ended_before: float) -> None:
        """What ended on days before that one."""
        await self._writer.write(lambda connection: forget_usage(connection, ended_before), durable=False)


_COLUMNS = {By.DAY: usage.c.day, By.MODEL: usage.c.model, By.OWNER: usage.c.owner}


def usage_lines(connection: Connection, query: UsageQuery) -> list[UsageLine]:
    """Sums, in the order of what they are added up by."""
    by = list(dict.fromkeys(query.by))
    columns = [_COLUMNS[one] for one in by]

    def ended(state: JobState) -> Any:
        return func.sum(case((usage.c.state == state.value, 1), else_=0))

    sums = [
        func.count(),
        *map(ended, (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)),
        func.sum(case((usage.c.cached, 1), else_=0)),
        *(func.sum(column) for column in (usage.c.pictures, usage.c.tokens)),
        *(func.sum(column) for column in (usage.c.cost, usage.c.gpu_seconds, usage.c.price)),
    ]
    statement = select(*columns, *sums).where(usage.c.day >= query.since, usage.c.day <= query.until)
    if query.owner is not None:
        statement = statement.where(usage.c.owner == query.owner)
    if columns:
        statement = statement.group_by(*columns).order_by(*columns)
    return [_line(by, row) for row in connection.execute(statement) if row[len(by)]]


def _line(by: Sequence[By], row: Any) -> UsageLine:
    names: dict[By, Any] = dict(zip(by, row, strict=False))
    counts = row[len(by) :]
    return UsageLine(
        day=day_text(names[By.DAY]) if By.DAY in names else None,
        owner=names.get(By.OWNER),
        model=names.get(By.MODEL),
        jobs=int(counts[0]),
        succeeded=int(counts[1]),
        failed=int(counts[2]),
        canceled=int(counts[3]),
        cached=int(counts[4]),
        pictures=int(counts[5]),
        tokens=int(counts[6]),
        cost=round(float(counts[7]), 6),
        gpu_seconds=round(float(counts[8]), 6),
        price=round(float(counts[9]), 9),
    )


def model_figures(connection: Connection, models: Collection[str], owner: str | None, since: float) -> Figures:
    """Of the latest MOST_JOBS that ended from then on."""
    read = (
        usage.c.state,
        usage.c.asked_at,
        usage.c.started_at,
        usage.c.ended_at,
        usage.c.pictures,
        usage.c.gpu_seconds,
        usage.c.cached,
    )
    statement = select(*read).where(usage.c.model.in_(models), usage.c.ended_at >= since)
    if owner is not None:
        statement = statement.where(usage.c.owner == owner)
    rows = connection.execute(statement.order_by(usage.c.ended_at.desc()).limit(MOST_JOBS)).all()
    ends: dict[str, int] = defaultdict(int)
    for row in rows:
        ends[row.state] += 1
    painted = [row for row in rows if row.state == JobState.SUCCEEDED.value and not row.cached]
    good = [row for row in painted if row.started_at is not None]
    succeeded, failed = ends[JobState.SUCCEEDED.value], ends[JobState.FAILED.value]
    return Figures(
        jobs=len(rows),
        succeeded=succeeded,
        failed=failed,
        canceled=ends[JobState.CANCELED.value],
        cached=sum(row.cached for row in rows),
        success_share=round(succeeded / (succeeded + failed), 6) if succeeded + failed else None,
        queue_seconds=_percentiles([row.started_at - row.asked_at for row in good]),
        predict_seconds=_percentiles([row.ended_at - row.started_at for row in good]),
        total_seconds=_percentiles([row.ended_at - row.asked_at for row in good]),
        pictures=sum(row.pictures for row in rows),
        gpu_seconds=round(sum(row.gpu_seconds for row in rows), 6),
    )


def _percentiles(seconds: list[float]) -> tuple[float, float, float] | None:
    """By the nearest rank; a clock that was set back makes no time negative."""
    if not seconds:
        return None
    seconds.sort()
    half, most, nearly_all = (seconds[int(share * (len(seconds) - 1) + 0.5)] for share in _SHARES)
    return round(max(0.0, half), 6), round(max(0.0, most), 6), round(max(0.0, nearly_all), 6)
