"""How a job becomes one: a place taken, one job for a key, durable before anyone is told. Whatever it asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from server.errors import Code, Refusal
from server.interfaces import Announcer, JobStore
from server.job import Job
from server.jobs.places import Places
from server.limits import LimitReached
from server.metering.cost import cost_of
from server.metering.rates import Charge, Rates
from server.replies import Admitted


class Entrance:
    """`leased` is whether a job is this node's, or waits for one to take it."""

    def __init__(self, *, store: JobStore, places: Places, rates: Rates, announcer: Announcer, leased: bool) -> None:
        self._store = store
        self._places = places
        self._rates = rates
        self._announcer = announcer
        self._leased = leased

    async def enter(
        self, owner: str, key: str, body_hash: str, prepared: Callable[[], Awaitable[Job]], *, costly: bool = False
    ) -> Admitted:
        """The new job, holding the place that `prepared` took for it; or the one that this idempotency key has already.

        That is looked for first where to prepare it is `costly`, or is charged: what is repeated is not charged again. Raises
        Refusal, also what `prepared` raises.
        """
        known = costly or self._rates.limits_jobs
        if known and (older := await self._store.find(owner, key)):
            return _same(older, body_hash)
        try:
            job = await prepared()
        except Refusal:  # a repeated request needs no place, nor anything else that may have changed since
            older = await self._store.find(owner, key)
            if older is None:
                raise
            return _same(older, body_hash)
        kept: Job | None = None
        charge: Charge | None = None
        try:
            charge = await self._rates.charge(owner, cost_of(job.request))
            kept = await self._store.admit(job, self._announcer.calls(job), leased=self._leased)
        except LimitReached as reached:
            if charge is not None:  # it is the day's, of which the rates know nothing
                self._rates.reached(reached.name)
            raise
        finally:
            if kept is None or kept.id != job.id:  # it failed, or there is one with this key
                self._places.release(owner, job.id)
                if charge is not None:
                    await charge.give_back()
        return Admitted(kept, duplicate=False) if kept.id == job.id else _same(kept, body_hash)


def _same(older: Job, body_hash: str) -> Admitted:
    if older.body_hash == body_hash:
        return Admitted(older, duplicate=True)
    raise Refusal(
        Code.IDEMPOTENCY_CONFLICT,
        f"idempotency_key {older.idempotency_key!r} belongs to job {older.id}, which asked for something else",
        field="idempotency_key",
        limit="a key that is new, or the same request again",
    )
