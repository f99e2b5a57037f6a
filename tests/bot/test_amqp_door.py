"""The bots' RabbitMQ door: runs of bots on a real broker, with a real server behind it that paints at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.doors.amqp_address import parsed
from bot.doors.amqp_news import News
from bot.errors import CannotConnectError
from bot.run import CannotRun, Options
from bot.visit import End, Visit
from tests.bot.asked import finding, options, plain, run
from tests.bot.conftest import Quick, end, start_quick
from tests.bot.test_kinds import ALL_SORTS
from tests.bot.visits import order
from tests.rabbitmq import PASSWORD, USER, RabbitNode


@pytest.fixture
def server(rabbitmq: RabbitNode, tmp_path: Path) -> Iterator[Quick]:
    """A server that takes its jobs from the broker."""
    process, quick = start_quick(
        tmp_path, RABBITMQ_HOST="127.0.0.1", RABBITMQ_PORT=str(rabbitmq.port), RABBITMQ_USER=USER, RABBITMQ_PASS=PASSWORD
    )  # fmt: skip
    yield quick
    end(process)
    rabbitmq.empty()


def by_queue(kind: str, node: RabbitNode, tmp_path: Path, *given: Any, **more: Any) -> Options:
    """What was asked for, by this door."""
    address = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{node.port}/"
    where = {"kind": "amqp", "artifacts": tmp_path / "data" / "artifacts"}
    return options(kind, address, tmp_path / "out", *given, where=where, **more)


async def test_all_sorts_of_visitors(reactor: Any, rabbitmq: RabbitNode, server: Quick, tmp_path: Path) -> None:
    """Published, followed and checked like everybody else: cancels, lost connections and bad messages have their ends."""
    asked = by_queue("load", rabbitmq, tmp_path, plain(ALL_SORTS), users=6, seconds=4.0, pids={"server": server.pid})
    status, record = await run(reactor, asked)
    assert status == 0, record["verdict"]
    assert record["counts"]["succeeded"] > 5
    assert record["counts"]["canceled"] > 0
    assert "checked" in finding(record, "pictures as asked for")["text"]
    assert not finding(record, "pictures as asked for")["text"].startswith("0 ")
    assert not finding(record, "bad packets coped with")["text"].startswith("0 ")
    assert finding(record, "the same picture as alone")["passed"]
    assert record["latencies"]["first_progress"]["count"] > 0
    assert any(value is not None for value in record["samples"]["jobs_waiting"])


async def test_concurrency(reactor: Any, rabbitmq: RabbitNode, server: Quick, tmp_path: Path) -> None:
    """Equal keys, cancel races and connections that break off come out as promised; what a queue cannot show is not judged."""
    status, record = await run(reactor, by_queue("concurrency", rabbitmq, tmp_path, users=8))
    assert status == 0, record["verdict"]
    for name in ("logins at once", "one key, one job", "cancel races", "requests that broke off"):
        assert finding(record, name)["passed"]
    assert {"one name, one login", "one key, one request"}.isdisjoint(
        one["name"] for one in record["verdict"]["findings"]
    )


async def test_a_server_that_stands_still_loses_nothing_of_the_queue(
    reactor: Any, rabbitmq: RabbitNode, tmp_path: Path
) -> None:
    """What it had taken is painted when it goes on."""
    process, quick = start_quick(
        tmp_path, RABBITMQ_HOST="127.0.0.1", RABBITMQ_PORT=str(rabbitmq.port), RABBITMQ_USER=USER, RABBITMQ_PASS=PASSWORD
    )  # fmt: skip
    try:
        asked = by_queue(
            "failover", rabbitmq, tmp_path, rate=6.0, seconds=4.0, pids={"server": quick.pid}, faults=["pause server at 1 for 1"],
            again=False,
        )  # fmt: skip
        status, record = await run(reactor, asked)
    finally:
        end(process)
        rabbitmq.empty()
    assert status == 0, record["verdict"]
    assert finding(record, "nothing lost")["passed"]


async def test_stress_is_not_for_a_queue(reactor: Any, rabbitmq: RabbitNode, tmp_path: Path) -> None:
    """It turns nobody away, so that there is nothing to judge; the text says what to take instead."""
    with pytest.raises(CannotRun, match="--door tcp"):
        await run(reactor, by_queue("stress", rabbitmq, tmp_path))


async def test_a_broker_that_is_not_there(reactor: Any, tmp_path: Path) -> None:
    """Is told at once, with its address and without the password."""
    asked = options("load", "amqp://guest:geheim-17@127.0.0.1:1/", tmp_path, where={"kind": "amqp"})
    with pytest.raises(CannotConnectError, match=r"amqp://127\.0\.0\.1:1") as caught:
        await run(reactor, asked)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "tcp:127.0.0.1:5672", "amqp://", "amqp://host:port/", "http://127.0.0.1/"])
def test_what_is_no_address(address: str) -> None:
    """The text shows one."""
    with pytest.raises(CannotConnectError, match="amqp://user:password@host"):
        parsed(address)


def test_an_address() -> None:
    """Its parts are unquoted; what is left out is as usual."""
    queue, broker = parsed("amqps://us%40er:p%2Fw@rabbit/shop?queue=orders")
    assert (queue, broker.hosts, broker.user, broker.vhost, broker.tls) == (
        "orders", [("rabbit", 5671)], "us@er", "shop", True,
    )  # fmt: skip
    assert broker.password.get_secret_value() == "p/w"
    queue, broker = parsed("amqp://localhost")
    assert (queue, broker.hosts, broker.user, broker.vhost) == ("image_generation", [("localhost", 5672)], "guest", "/")


async def test_a_message_that_the_broker_brings_again_is_passed_over(reactor: Any) -> None:
    """After a break the last one may come twice; one that is older than what was heard is a finding all the same."""
    wrongs: list[str] = []
    visit = Visit(order(), "key", 0.0, lambda: 1.0, complain=lambda _, wrong: wrongs.append(wrong))
    news = News(reactor, None)
    news.expect(visit)
    told = {"event": "progress", "job_id": "job-1", "idempotency_key": "key", "number": 14}
    for number in (13, 14, 14):
        news.hear({**told, "number": number})
    assert (visit.job_id, visit.last_number, wrongs) == ("job-1", 14, [])
    news.hear({**told, "number": 13})
    assert wrongs == ["event 13 came after event 14"]
    ended = {**told, "event": "canceled", "number": 15}
    news.hear(ended)
    news.hear({**ended, "number": 16})
    assert (visit.end, visit.terminals) == (End.CANCELED, 1)
    await news.close()
