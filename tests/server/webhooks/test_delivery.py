"""Calls from the outbox to their receivers: order, patience, and what a crash leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, select
from twisted.internet.task import Clock

from server.database.schema import outbox as table
from server.errors import RecordsUnavailable
from server.interfaces import Outbox
from server.webhook import CallState, Care, Channel, HookKind, OutboxCall
from server.webhooks.breaker import FAILURES, FIRST_REST
from server.webhooks.calls import TRUSTED, HttpCall
from server.webhooks.delivery import HOUSEKEEPING, LOOK_EVERY, SETTLE_AGAIN, Delivery
from server.webhooks.outcomes import Retrying
from server.webhooks.sending import Answered, Unreached, Unsure
from tests.server.database.opened import Opened, opened
from tests.server.fakes import settle
from tests.server.webhooks.sender import FakeSender

HOST = "https://hooks.test:443"
CLAIM = 30.0
DAY = 86_400.0


def a_call(job: int = 1, name: str = "end", position: int = 99, **changes: Any) -> OutboxCall:
    """A call of a job."""
    given: dict[str, Any] = {
        "id": f"msg_{job}_{name}",
        "job_id": f"job-{job}",
        "name": name,
        "channel": Channel.WEBHOOK,
        "payload": HttpCall(HookKind.BACKEND, "POST", "/x", {}).to_json(),
        "position": position,
        "target": HOST,
        **changes,
    }
    return OutboxCall(**given)


class Post:
    """A delivery on a real outbox, with a sender that does what the test wants."""

    def __init__(self, database: Opened, clock: Any, outbox: Outbox | None = None, **given: Any) -> None:
        self.database = database
        self.clock = clock
        self.sender = FakeSender()
        settings = {"most": 8, "each": 2, "claim": CLAIM, "keep": 30 * DAY, **given}
        self.delivery = Delivery(
            outbox=outbox or database.outbox,
            sender=self.sender,
            clock=clock,
            random=lambda: 0.5,
            retrying=Retrying(first=2.0, longest=3600.0, give_up_after=DAY),
            **settings,
        )
        database.bell.wake(Channel.WEBHOOK, self.delivery.wake)

    async def add(self, *calls: OutboxCall) -> None:
        """They were recorded just now; everything that follows at once has happened."""
        await self.database.outbox.add(calls, at=self.clock.seconds(), durable=True)
        await settle()

    async def pass_time(self, seconds: float) -> None:
        """In steps, as it passes."""
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.clock.advance(min(LOOK_EVERY, until - self.clock.seconds()))
            await settle()

    def states(self) -> dict[str, str]:
        """Every call's state, by its id without its beginning."""
        with self.database.reading.connect() as connection:
            rows = connection.execute(select(table.c.id, table.c.state))
            return {row.id.removeprefix("msg_"): row.state for row in rows}

    def error(self, call_id: str) -> str:
        """A call's last error."""
        with self.database.reading.connect() as connection:
            return str(connection.execute(select(table.c.last_error).where(table.c.id == call_id)).scalar_one())


@pytest.fixture
def clock() -> Any:
    """Which stands still."""
    clock = Clock()
    clock.advance(1_000.0)
    return clock


@pytest.fixture
def post(sqlite_url: URL, clock: Any) -> Iterator[Post]:
    """One that has begun when the test asks for it."""
    with opened(sqlite_url) as database:
        yield Post(database, clock)


async def test_a_call_is_made_as_soon_as_it_is_recorded(post: Post) -> None:
    """Nobody waits for a timer."""
    post.delivery.begin()
    await post.add(a_call())
    assert post.sender.names == ["end"]
    assert post.states() == {"1_end": "delivered"}
    assert post.delivery.made[CallState.DELIVERED] == 1
    await post.delivery.stop(1.0)


async def test_what_was_recorded_before_the_start_is_made_at_the_start(post: Post) -> None:
    """By whatever node, in whatever life."""
    await post.add(a_call())
    post.sender.sent.clear()
    post.delivery.begin()
    await settle()
    await post.delivery.stop(1.0)
    assert post.states() == {"1_end": "delivered"}


async def test_nothing_is_made_before_the_start(post: Post) -> None:
    """Or a claim of this life would be taken for one of the life before."""
    post.delivery.wake()
    await post.add(a_call(care=Care.ONCE))
    assert post.sender.sent == []
    post.delivery.begin()
    post.delivery.wake()
    await settle()
    assert post.states() == {"1_end": "delivered"}
    await post.delivery.stop(1.0)


async def test_calls_of_a_job_come_in_order_and_one_at_a_time(post: Post) -> None:
    """Other jobs' calls to the same receiver beside them, as many as it has places."""
    gate = post.sender.hold(HOST)
    post.delivery.begin()
    await post.add(*(a_call(job, f"part-{part}", part) for job in (1, 2, 3) for part in (1, 2, 3)))
    assert len(post.sender.sent) == 2
    gate.set()
    await settle()
    assert post.sender.most == {HOST: 2}
    for job in (1, 2, 3):
        assert [call.name for call in post.sender.sent if call.job_id == f"job-{job}"] == ["part-1", "part-2", "part-3"]
    await post.delivery.stop(1.0)


async def test_a_refused_call_is_made_again_until_it_is_taken(post: Post) -> None:
    """With pauses that grow; the same call, under the same id."""
    post.sender.outcomes[HOST] = [Answered(500), Answered(401), Answered(302), Answered(200)]
    post.delivery.begin()
    await post.add(a_call(care=Care.ONCE))
    assert post.states() == {"1_end": "waiting"}
    await post.pass_time(1.0)
    assert len(post.sender.sent) == 1
    await post.pass_time(20.0)
    assert [call.id for call in post.sender.sent] == ["msg_1_end"] * 4
    assert post.states() == {"1_end": "delivered"}
    await post.delivery.stop(1.0)


async def test_an_unknown_generation_ends_its_calls(post: Post) -> None:
    """The backend has said 404: nothing more is told of the job."""
    post.sender.outcomes[HOST] = [Answered(404, excerpt="no such generation"), Answered(200)]
    post.delivery.begin()
    await post.add(a_call(name="progress-0", position=1, care=Care.FLEETING))
    await post.add(a_call(), a_call(2))
    assert post.states() == {"1_progress-0": "dead", "1_end": "dead", "2_end": "delivered"}
    assert post.error("msg_1_progress-0") == "404 no such generation"
    await post.delivery.stop(1.0)


async def test_progress_never_delays_the_end(post: Post) -> None:
    """A receiver that refuses progress hears the end at once."""
    post.sender.outcomes[HOST] = [Answered(500), Answered(200)]
    post.delivery.begin()
    await post.add(a_call(name="progress-0", position=1, care=Care.FLEETING))
    await post.add(a_call())
    assert post.sender.names == ["progress-0", "end"]
    assert post.states() == {"1_progress-0": "dropped", "1_end": "delivered"}
    await post.delivery.stop(1.0)


async def test_progress_that_was_overtaken_while_another_was_under_way_is_not_told(post: Post) -> None:
    """A slow receiver hears the latest."""
    gate = post.sender.hold(HOST)
    post.delivery.begin()
    for percent in (0, 25, 50, 75):
        await post.add(a_call(name=f"progress-{percent}", position=percent, care=Care.FLEETING))
    await post.pass_time(1.0)
    gate.set()
    await settle()
    assert post.sender.names == ["progress-0", "progress-75"]
    await post.delivery.stop(1.0)


async def test_a_time_out_is_followed_by_what_the_call_can_bear(post: Post) -> None:
    """`complete` goes again, `failed` waits for a person, progress is dropped."""
    post.sender.outcomes[HOST] = [
        Unsure("no answer within 10 s"),
        Unsure("the same"),
        Unsure("the same"),
        Answered(200),
    ]
    post.delivery.begin()
    await post.add(a_call(1), a_call(2, care=Care.ONCE))
    await post.add(a_call(3, care=Care.FLEETING))
    await post.pass_time(30.0)
    assert post.states() == {"1_end": "delivered", "2_end": "unknown", "3_end": "dropped"}
    assert sorted(call.id for call in post.sender.sent) == ["msg_1_end", "msg_1_end", "msg_2_end", "msg_3_end"]
    await post.delivery.stop(1.0)


async def test_a_receiver_that_is_dead_holds_up_nobody(post: Post) -> None:
    """Its calls wait, and one of them tries it now and then; all others' go their way."""
    post.sender.outcomes[HOST] = [Unreached("connection refused")]
    post.delivery.begin()
    await post.add(*(a_call(job) for job in range(50)))
    for other in range(100, 110):
        await post.add(a_call(other, target=f"https://other{other}.test"))
    states = post.states()
    assert [states[f"{other}_end"] for other in range(100, 110)] == ["delivered"] * 10
    tried = len(post.sender.sent)
    assert tried <= 10 + FAILURES + 1
    await post.pass_time(FIRST_REST + 1)
    assert len(post.sender.sent) == tried + 1
    post.sender.outcomes[HOST] = [Answered(200)]
    await post.pass_time(60.0)
    assert set(post.states().values()) == {"delivered"}
    await post.delivery.stop(1.0)


async def test_receivers_that_hang_leave_the_backend_its_places(post: Post) -> None:
    """However many of them there are."""
    post.delivery.begin()
    for job in range(40):
        post.sender.hold(f"https://hang{job}.test")
        await post.add(a_call(job, target=f"https://hang{job}.test"))
    assert 8 <= len(post.sender.sent) <= 8 + 2
    await post.add(*(a_call(job, target=TRUSTED) for job in range(100, 104)))
    states = post.states()
    assert [states[f"{job}_end"] for job in range(100, 104)] == ["delivered"] * 4
    post.delivery.wake()
    await settle()
    assert len(post.sender.sent) <= 8 + 2 + 4
    await post.delivery.stop(0.0)


async def test_a_crash_after_sending_repeats_what_may_be_repeated(sqlite_url: URL, clock: Any) -> None:
    """The bytes went out, and nobody recorded what came back: the next life sends `complete` under its id, and not `failed`."""
    with opened(sqlite_url) as database:
        before = Post(database, clock)
        before.sender.hold(HOST)
        before.delivery.begin()
        await before.add(a_call(1), a_call(2, care=Care.ONCE))
        assert len(before.sender.sent) == 2
        after = Post(database, clock)
        after.delivery.begin()
        await settle()
        assert [call.id for call in after.sender.sent] == ["msg_1_end"]
        assert after.states() == {"1_end": "delivered", "2_end": "unknown"}
        await after.delivery.stop(1.0)
        await before.delivery.stop(0.0)
        assert after.states() == {"1_end": "delivered", "2_end": "unknown"}


async def test_a_stop_makes_what_is_due_and_waits_for_no_retry(post: Post) -> None:
    """What was recorded a moment ago is told; what was refused waits for the next life."""
    post.sender.outcomes["https://busy.test"] = [Answered(503)]
    gate = post.sender.hold(HOST)
    post.delivery.begin()
    await post.add(a_call(1), a_call(1, "later", 100), a_call(2, target="https://busy.test"))
    stopping = asyncio.ensure_future(post.delivery.stop(10.0))
    await settle()
    assert not stopping.done()
    gate.set()
    await stopping
    assert post.states() == {"1_end": "delivered", "1_later": "delivered", "2_end": "waiting"}
    await post.add(a_call(3))
    assert post.states()["3_end"] == "waiting", "nothing begins after a stop"
    assert not post.clock.getDelayedCalls()


async def test_a_stop_does_not_wait_for_ever(post: Post) -> None:
    """A call that has not ended by then may have arrived."""
    post.sender.hold(HOST)
    post.delivery.begin()
    await post.add(a_call(1, care=Care.ONCE), a_call(2))
    stopping = asyncio.ensure_future(post.delivery.stop(5.0))
    await settle()
    await post.pass_time(5.0)
    await stopping
    assert post.states() == {"1_end": "unknown", "2_end": "waiting"}
    assert "stopped" in post.error("msg_1_end")


async def test_a_mistake_of_ours_is_an_unknown_outcome(post: Post) -> None:
    """And no reason to stop."""
    post.sender.error = ZeroDivisionError()
    post.delivery.begin()
    await post.add(a_call(care=Care.ONCE))
    assert post.states() == {"1_end": "unknown"}
    post.sender.error = None
    await post.add(a_call(2))
    assert post.states()["2_end"] == "delivered"
    await post.delivery.stop(1.0)


class Failing:
    """An outbox whose database goes away when a test says so."""

    def __init__(self, outbox: Any) -> None:
        self._outbox = outbox
        self.away: set[str] = set()
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def ask(*arguments: Any, **named: Any) -> Any:
            self.asked.append(name)
            if name in self.away:
                raise RecordsUnavailable("gone")
            return await getattr(self._outbox, name)(*arguments, **named)

        return ask


async def test_while_the_database_is_away_nothing_is_lost(sqlite_url: URL, clock: Any) -> None:
    """No call is begun; what became of those under way is recorded when it is back."""
    with opened(sqlite_url) as database:
        failing = Failing(database.outbox)
        failing.away = {"begin", "claim", "forget"}
        post = Post(database, clock, outbox=failing)
        post.delivery.begin()
        await post.add(a_call())
        await post.pass_time(HOUSEKEEPING + 1)
        assert post.sender.sent == []
        assert "forget" in failing.asked
        failing.away = {"settle"}
        await post.pass_time(LOOK_EVERY)
        assert post.sender.names == ["end"]
        assert post.states() == {"1_end": "sending"}
        failing.away = set()
        await post.pass_time(SETTLE_AGAIN)
        assert post.states() == {"1_end": "delivered"}
        failing.away = {"settle"}
        await post.add(a_call(2))
        await post.delivery.stop(0.0)
        assert post.states()["2_end"] == "sending", "the next life finds it so"


async def test_what_was_settled_long_ago_is_forgotten(sqlite_url: URL, clock: Any) -> None:
    """After the days that ended jobs are kept."""
    with opened(sqlite_url) as database:
        post = Post(database, clock, keep=100.0)
        post.delivery.begin()
        await post.add(a_call())
        await post.pass_time(HOUSEKEEPING + 1)
        assert post.states() == {"1_end": "delivered"}
        await post.pass_time(HOUSEKEEPING * 2)
        assert post.states() == {}
        await post.delivery.stop(1.0)
