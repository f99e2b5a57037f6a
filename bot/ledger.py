"""The accounts of a run: every visit is entered before it is sent, and every one has to come out once, with what it asked for.

Pictures are checked on threads of their own, and kept only where they are in the sample that is compared and shown.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bot.checking import wrongs_of
from bot.choosing import Order
from bot.figures import Figures
from bot.visit import End, Visit

LONGEST_REASON = 300  # characters
CHECKING_THREADS = 2  # decoding a small PNG takes a millisecond, most of it outside of Python's lock


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the verdict. `ids` are those concerned: jobs, or keys where there was no job."""

    name: str
    passed: bool
    text: str
    ids: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        return {"name": self.name, "passed": self.passed, "text": self.text, "ids": list(self.ids)}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Finding:
        """From a report."""
        return cls(told["name"], told["passed"], told["text"], tuple(told["ids"]))


@dataclass(slots=True)
class Accounts:
    """What the books say in the end: ids with a reason each. They add up over processes."""

    visits: int = 0
    lost: dict[str, str] = field(default_factory=dict)  # no end was heard
    doubled: dict[str, str] = field(default_factory=dict)  # more than one end, or events out of order
    wrong: dict[str, str] = field(default_factory=dict)  # a picture is not what was asked for
    failed: dict[str, str] = field(default_factory=dict)
    misjudged: dict[str, str] = field(default_factory=dict)  # refused for another reason than want of room
    unsent: dict[str, str] = field(default_factory=dict)  # the bots could not come in to ask
    unfinished: dict[str, str] = field(default_factory=dict)  # under way at the server when the run was stopped
    pictures: int = 0
    bad_packets: int = 0
    babbled: list[str] = field(default_factory=list)  # bad packets that the server did not cope with

    def findings(self) -> list[Finding]:
        """The verdict on losses; failures are for objectives to judge."""
        return [
            _finding("nothing lost", f"{self.visits} visits, every one with its end", "without an end", self.lost),
            _finding("one end each, events in order", "as promised", "not so", self.doubled),
            _finding("pictures as asked for", f"{self.pictures} checked", "wrong", self.wrong),
            _finding("everybody came in", "as it should be", "never sent", self.unsent),
            _finding("refused only for want of room", "as it should be", "refused otherwise", self.misjudged),
            Finding(
                "bad packets coped with",
                not self.babbled,
                "; ".join(sorted(set(self.babbled))) or f"{self.bad_packets} said",
            ),
        ]

    def merge(self, other: Accounts) -> None:
        """Add another process's."""
        self.visits += other.visits
        self.pictures += other.pictures
        self.bad_packets += other.bad_packets
        self.babbled += other.babbled
        for name in ("lost", "doubled", "wrong", "failed", "misjudged", "unsent", "unfinished"):
            getattr(self, name).update(getattr(other, name))


def _finding(name: str, good: str, bad: str, reasons: dict[str, str]) -> Finding:
    if not reasons:
        return Finding(name, True, good)
    first = next(iter(reasons.values()))
    return Finding(name, False, f"{len(reasons)} {bad}: {first}", tuple(reasons))


class Ledger:
    """The books of one process. `now` is the run's clock; `keep` pictures stay in the sample, chosen by `seed`."""

    def __init__(self, now: Callable[[], float], figures: Figures, *, seed: int, keep: int) -> None:
        self._now = now
        self.figures = figures
        self._seed = seed
        self._keep = keep
        self._under_way: set[Visit] = set()
        self._sample: list[tuple[float, int, Visit]] = []  # a heap: the first to be put out of it first
        self._checking: set[asyncio.Future[list[str]]] = set()
        self._threads = ThreadPoolExecutor(CHECKING_THREADS, "checking")
        self._ends_of_jobs: dict[str, End] = {}
        self.accounts = Accounts()

    @property
    def under_way(self) -> list[Visit]:
        """Those that have not come out."""
        return list(self._under_way)

    @property
    def sample(self) -> list[Visit]:
        """Visits that succeeded, with their pictures, in the order of their numbers."""
        return sorted((visit for _, _, visit in self._sample), key=lambda visit: visit.order.number)

    def open_still(self, visit: Visit) -> bool:
        """Whether it has not come out yet."""
        return visit in self._under_way

    def enter(self, order: Order, key: str, intended: float) -> Visit:
        """Somebody means to come."""
        visit = Visit(order, key, intended, self._now, complain=self._complaint)
        self.accounts.visits += 1
        self.figures.intended(visit)
        self._under_way.add(visit)
        return visit

    def settle(self, visit: Visit) -> None:
        """Somebody has come out, however."""
        self._under_way.discard(visit)
        self.figures.ended(visit)
        name = visit.job_id or visit.key
        if visit.end is End.LOST:
            self.accounts.lost[name] = visit.reason or "nothing was heard of it"
        elif visit.end is End.UNSENT:
            self.accounts.unsent[name] = visit.reason
        elif visit.end is End.FAILED:
            self.accounts.failed[name] = f"{visit.code.name if visit.code else ''}: {visit.reason}"
        elif visit.end is End.REFUSED:
            self._judge_refusal(visit)
        if visit.job_id and visit.end in (End.SUCCEEDED, End.FAILED, End.CANCELED):
            self._compare_ends(visit, visit.end)
        if visit.end is End.CANCELED and not visit.cancel_asked:
            visit.wrong("it was cancelled, and nobody here asked for that")
        if visit.pictures:
            self._check(visit)

    def leave(self, visit: Visit, state: str) -> None:
        """The run was stopped before somebody came out; `state` is what the server says of the job."""
        self._under_way.discard(visit)
        self.accounts.unfinished[visit.job_id or visit.key] = state

    async def close(self) -> None:
        """Until every picture is checked."""
        while self._checking:
            await asyncio.wait(self._checking)
        self._threads.shutdown()

    def _judge_refusal(self, visit: Visit) -> None:
        assert visit.code is not None
        if visit.code.name not in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
            self.accounts.misjudged[visit.key] = f"{visit.code.name}: {visit.reason}"
        elif visit.code.name == "RESOURCE_EXHAUSTED" and visit.retry_after <= 0:
            self.accounts.misjudged[visit.key] = "RESOURCE_EXHAUSTED without retry_after_seconds"

    def _compare_ends(self, visit: Visit, end: End) -> None:
        """All who follow one job hear the same end."""
        other = self._ends_of_jobs.setdefault(visit.job_id, end)
        if other is not end:
            visit.wrong(f"one who followed it heard {other.value}, another {end.value}")

    def _complaint(self, visit: Visit, wrong: str) -> None:
        reasons = self.accounts.doubled
        name = visit.job_id or visit.key
        reasons[name] = f"{reasons[name]}; {wrong}" if len(reasons.get(name, "")) in range(1, LONGEST_REASON) else wrong

    def _check(self, visit: Visit) -> None:
        pictures = visit.pictures
        self.accounts.pictures += len(pictures)
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, wrongs_of, visit.order, visit.job_id, visit.artifacts, pictures
        )
        self._checking.add(work)
        work.add_done_callback(lambda done: self._checked(visit, done))

    def _checked(self, visit: Visit, done: asyncio.Future[list[str]]) -> None:
        self._checking.discard(done)
        if not done.cancelled() and done.result():
            self.accounts.wrong[visit.job_id] = "; ".join(done.result()[:3])
        rank = random.Random(f"{self._seed}:{visit.order.number}:sample").random()  # noqa: S311
        heapq.heappush(self._sample, (-rank, visit.order.number, visit))
        if len(self._sample) > self._keep:
            _, _, dropped = heapq.heappop(self._sample)
            dropped.pictures = ()
