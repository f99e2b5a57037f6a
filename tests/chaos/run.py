"""The run itself: lives of the server that end at seeded moments, faults of everything else, and the count in the end."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from tests.chaos.parts import Parts, a_message, wait
from tests.integration.crashing import MOMENTS, NEVER

LIFE = 180.0  # seconds within which a life has come to its moment, on a slow machine
END = 900.0  # seconds within which the last life has ended every job
PER_LIFE = 12  # of a moment's occurrences, the most that are waited for
AWAY = 3.0  # seconds


@dataclass(frozen=True, slots=True)
class Count:
    """What became of the jobs. `lost` have no end that the backend heard, `doubled` more than one; `resent` are repetitions of
    the same call under the same id."""

    jobs: int
    succeeded: int
    failed: int
    lost: int
    doubled: int
    resent: int
    unacked: int
    dead_lettered: int
    kills: int
    objects: int
    wrong: int

    def json(self) -> dict[str, int]:
        """For the last line."""
        return asdict(self)


def run(parts: Parts, *, jobs: int, kills: int, seed: int, engine: str, say: Callable[[str], None]) -> Count:
    """Everything, from the publishing to the count. Raises AssertionError where something does not come to its end."""
    chance = random.Random(seed)
    styles = sorted(parts.put_styles())
    messages = [a_message(number, styles[number % len(styles)], number) for number in range(1, jobs + 1)]
    first = jobs // 2
    parts.publish(messages[:first])
    faults = _faults(parts, kills)
    killed = 0
    for life in range(kills):
        if life == kills // 2:
            parts.publish(messages[first:])
        moment = MOMENTS[life % len(MOMENTS)]
        nth = 1 if moment == "taken up" else chance.randint(1, PER_LIFE)
        parts.serve(engine, moment, nth)
        next(faults)
        wait(lambda: parts.status is not None or _done(parts, jobs), LIFE, lambda: parts.log()[-3000:])
        if parts.status is None:
            break
        assert parts.status == -signal.SIGKILL, parts.log()[-5000:]
        killed += 1
        say(f"life {life + 1}: killed at {moment!r} ({nth}); {_ended(parts)} of {jobs} jobs have ended")
    if parts.status is not None:
        parts.serve(engine, NEVER, 1)
    wait(lambda: _done(parts, jobs), END, lambda: f"{_ended(parts)} ended; {parts.log()[-5000:]}")
    wait(lambda: not any(unacked for _, unacked in parts.queues().values()), LIFE, lambda: str(parts.queues()))
    status = parts.stop_server(LIFE)
    assert status == 0, parts.log()[-5000:]
    return _count(parts, jobs, killed)


def _faults(parts: Parts, kills: int) -> Iterator[None]:
    """What happens in each life beside its end: broker and database killed twice each, storage and backend away for a while."""
    plan: dict[int, Callable[[], None]] = {}
    kinds = [_kill_rabbit, _kill_postgres, _storage_away, _backend_away, _kill_postgres, _kill_rabbit]
    for number, kind in enumerate(kinds):
        plan[(number + 1) * kills // (len(kinds) + 1)] = lambda kind=kind: kind(parts)  # type: ignore[misc]
    for life in range(kills + 1):
        plan.get(life, lambda: None)()
        yield


def _kill_rabbit(parts: Parts) -> None:
    parts.rabbit.stop()
    parts.rabbit.start()


def _kill_postgres(parts: Parts) -> None:
    parts.postgres.stop()
    parts.postgres.start()


def _storage_away(parts: Parts) -> None:
    parts.storage.stop()
    _pass(AWAY)
    parts.storage.start()


def _backend_away(parts: Parts) -> None:
    parts.receiver.away()
    _pass(AWAY)
    parts.receiver.back()


def _pass(seconds: float) -> None:
    import time

    time.sleep(seconds)  # the fault lasts so long; nothing depends on how long


def _ended(parts: Parts) -> int:
    rows = parts.records("SELECT count(*) FROM jobs WHERE completed_at IS NOT NULL")
    return int(rows[0][0]) if rows else 0


def _done(parts: Parts, jobs: int) -> bool:
    """Every job has ended, and all has been told."""
    told = parts.records("SELECT count(*) FROM outbox WHERE state IN ('waiting', 'sending')")
    return _ended(parts) == jobs and bool(told) and told[0][0] == 0


def _count(parts: Parts, jobs: int, killed: int) -> Count:
    states = dict(parts.records("SELECT state, count(*) FROM jobs GROUP BY state"))
    ends = {number: parts.receiver.ends[number] for number in range(1, jobs + 1)}
    queues = parts.queues()
    dead = [ready for name, (ready, _) in queues.items() if "dead" in name]
    return Count(
        jobs=jobs,
        succeeded=states.get("succeeded", 0),
        failed=states.get("failed", 0) + states.get("canceled", 0),
        lost=sum(not heard for heard in ends.values()),
        doubled=sum(len(heard) > 1 for heard in ends.values()),
        resent=sum(times - 1 for heard in ends.values() for times in heard.values()),
        unacked=sum(unacked for _, unacked in queues.values()),
        dead_lettered=sum(dead),
        kills=killed,
        objects=len(parts.objects()),
        wrong=len(parts.receiver.wrong),
    )
