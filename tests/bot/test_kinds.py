"""A short run of each kind against a real server whose painter is quick."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from bot.profile import Poisson, library
from bot.run import CannotRun
from tests.bot.asked import finding, options, plain, run
from tests.bot.conftest import ROOT, Quick, end, start_quick

ALL_SORTS = """
[behaviour]
cancel = 0.15
disconnect = 0.15
slow_reader = 0.1
bad_packet = 0.2
slow_seconds = 0.2
within_seconds = 0.1
"""


@pytest.mark.parametrize("name", library())
async def test_load_of_every_ready_scenario(reactor: Any, quick: Quick, tmp_path: Path, name: str) -> None:
    """Each ends with status 0, loses nothing, has its latencies, and pictures that are the same alone."""
    asked = options("load", quick.address, tmp_path, name, seconds=2.0, seed=3, pids={"server": quick.pid})
    status, record = await run(reactor, asked)
    assert status == 0, record["verdict"]
    assert record["counts"]["succeeded"] > 0
    assert record["latencies"]["result"]["count"] > 0
    assert finding(record, "the same picture as alone")["passed"]
    assert all(value is None or value > 0 for value in record["samples"]["server memory"])
    assert "connections" in record["samples"]


async def test_all_sorts_of_visitors(
    reactor: Any, quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cancels, lost connections, slow readers and bad packets happen as the scenario says, and every visit has its end."""
    asked = options("load", quick.address, tmp_path, plain(ALL_SORTS), users=8, seconds=4.0)
    status, record = await run(reactor, asked)
    assert status == 0, record["verdict"]
    assert set(record["conducts"]) == {"polite", "cancel", "disconnect", "slow_reader", "bad_packet"}
    assert "no connection" not in capsys.readouterr().err  # it was the bots' own doing
    ended = sum(record["counts"][name] for name in ("succeeded", "failed", "canceled", "refused"))
    assert ended == record["counts"]["intended"]


async def test_everybody_gives_up_at_once(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """Every so often all that is under way is cancelled together, and each of them has its end."""
    storms = plain("[behaviour]\nabort_all_every = 0.3\n")
    asked = options("load", quick.address, tmp_path, storms, users=20, seconds=2.0, again=False)
    status, record = await run(reactor, asked)
    assert status == 0, record["verdict"]
    assert record["counts"]["canceled"] > 5
    assert record["counts"]["intended"] == record["counts"]["succeeded"] + record["counts"]["canceled"]


async def test_an_open_loop_shared_by_processes(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """Two processes make each visit of the plan once, though there is one connection to share, and their histograms are one."""
    arrivals = Poisson(process="poisson", rate=15.0, connections=1)
    shared = plain().model_copy(update={"arrivals": arrivals})
    asked = options("load", quick.address, tmp_path, shared, seconds=2.0, processes=2, again=False)
    status, record = await run(reactor, asked)
    assert status == 0, record["verdict"]
    alone = options("load", quick.address, tmp_path / "alone", shared, seconds=2.0, again=False)
    _, other = await run(reactor, alone)
    assert record["counts"]["intended"] == other["counts"]["intended"] > 10
    assert record["latencies"]["result"]["count"] == record["counts"]["succeeded"]


async def test_a_count_ends_a_run(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """No more visits are made than were allowed."""
    status, record = await run(reactor, options("load", quick.address, tmp_path, seconds=60.0, count=10))
    assert (status, record["counts"]["intended"]) == (0, 10)
    assert record["seconds"] < 30


async def test_stress_finds_what_breaks(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """Rates that hold are told from one that does not; beyond it, visitors are turned away in order; then all is well again."""
    asked = options("stress", quick.address, tmp_path, rate=40.0, seconds=1.0, p99=3.0, again=False, sample=0)
    status, record = await run(reactor, asked)
    assert status == 0, record["verdict"]
    steps = record["details"]["steps"]
    assert steps[0]["held"]
    assert record["details"]["knee_rate"] >= 40.0
    assert [step["what"] for step in steps].count("overload") == 1
    assert record["codes"]["RESOURCE_EXHAUSTED"] > 0
    assert finding(record, "it sheds what it cannot keep")["passed"]
    assert record["details"]["overload"]["recovery_seconds"] is not None


async def test_soak_judges_slopes(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """Memory, threads, descriptors and latency each have a slope with its interval, and a verdict."""
    asked = options("soak", quick.address, tmp_path, seconds=10.0, pids={"server": quick.pid}, again=False)
    _, record = await run(reactor, asked)
    assert {"server memory", "server threads", "server descriptors", "latency p50"} <= set(record["details"]["slopes"])
    slope = record["details"]["slopes"]["server threads"]
    assert slope["low"] <= slope["slope"] <= slope["high"]
    assert finding(record, "nothing lost")["passed"]


async def test_a_soak_s_warm_up_is_the_user_s_to_say(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """What came before is not judged; one that leaves nothing to judge is refused before anybody comes."""
    given: dict[str, Any] = {"seconds": 6.0, "pids": {"server": quick.pid}, "again": False}
    _, record = await run(reactor, options("soak", quick.address, tmp_path, warm_up=3.0, **given))
    assert record["details"]["warm_up_until"] == pytest.approx(3.0, abs=2.0)
    with pytest.raises(CannotRun, match="--warm-up: 6 s leave nothing"):
        await run(reactor, options("soak", quick.address, tmp_path / "none", warm_up=6.0, **given))


async def test_failover_through_a_pause(reactor: Any, tmp_path: Path) -> None:
    """A server that stands still for a while loses nothing, and the fault is on the record with its beginning and end."""
    process, server = start_quick(tmp_path)
    try:
        asked = options(
            "failover", server.address, tmp_path / "out", rate=6.0, seconds=3.0, pids={"server": server.pid},
            faults=["pause server at 1 for 0.5"], again=False,
        )  # fmt: skip
        status, record = await run(reactor, asked)
    finally:
        end(process)
    assert status == 0, record["verdict"]
    (fault,) = record["faults"]
    assert fault["until"] - fault["at"] >= 0.5
    assert finding(record, "a picture after pause of server")["passed"]


async def test_failover_through_kill_9(reactor: Any, tmp_path: Path) -> None:
    """A server that is killed, and started again by the bots, has an end for every job that it had accepted."""
    process, server = start_quick(tmp_path)
    port = server.address.rpartition(":")[2]
    again = (
        f"env PYTHONPATH={ROOT} ATELIER_LOG_LEVEL=ERROR ATELIER_HTTP_LISTEN=off ATELIER_DATA_DIR={tmp_path}/data "
        f"ATELIER_TCP_LISTEN=tcp:{port}:interface=127.0.0.1 {sys.executable} -m tests.integration.quick_node 0.005"
    )
    try:
        asked = options(
            "failover", server.address, tmp_path / "out", plain(ALL_SORTS), rate=8.0, seconds=5.0, drain=60.0,
            pids={"server": server.pid}, restarts={"server": again}, faults=["kill server at 2 for 0.1"], again=False,
        )  # fmt: skip
        status, record = await run(reactor, asked)
    finally:
        end(process)
        for child in psutil.Process().children():
            if f"{tmp_path}/data" in child.environ().get("ATELIER_DATA_DIR", ""):
                child.kill()
                child.wait()
    assert status == 0, record["verdict"]
    assert finding(record, "a picture after kill of server")["passed"]


async def test_concurrency(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """Equal keys, other bodies, cancel races and broken connections come out as promised."""
    status, record = await run(reactor, options("concurrency", quick.address, tmp_path, users=20))
    assert status == 0, record["verdict"]
    for name in (
        "logins at once",
        "one name, one login",
        "one key, one job",
        "one key, one request",
        "cancel races",
        "requests that broke off",
    ):
        assert finding(record, name)["passed"]


async def test_concurrency_beyond_the_room(reactor: Any, tmp_path: Path) -> None:
    """Of many whose connections break off some may be refused for want of room; every other one is a job."""
    process, server = start_quick(tmp_path, ATELIER_MAX_PENDING_JOBS_PER_OWNER="45")
    try:
        _, record = await run(reactor, options("concurrency", server.address, tmp_path / "out", users=120))
    finally:
        end(process)
    found = finding(record, "requests that broke off")
    assert found["passed"], found
    assert found["text"].startswith("120 requests, ")
    assert " 0 of them refused" not in found["text"]
    assert finding(record, "nothing lost")["passed"]


async def test_a_stopped_run_has_its_report(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """After Ctrl-C nobody comes any more, what is under way ends, and the report says that it was stopped."""
    stop = asyncio.Event()
    reactor.callLater(1.5, stop.set)
    status, record = await run(reactor, options("load", quick.address, tmp_path, seconds=600.0), stop)
    assert status == 130, record["verdict"]
    assert record["interrupted"]
    assert record["counts"]["succeeded"] > 0
    assert "stopped early" in record["verdict"]["text"]


async def test_idle_connections_are_held(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """Beside the bots that visit there are as many silent ones as were asked for."""
    asked = options("load", quick.address, tmp_path, idle_connections=30, seconds=3.0, again=False)
    _, record = await run(reactor, asked)
    assert max(filter(None, record["samples"]["connections"])) >= 30


async def test_the_gallery_has_whole_pictures(reactor: Any, quick: Quick, tmp_path: Path) -> None:
    """Each entry is a PNG with what was asked for, and by how much it differs from the same request alone."""
    _, record = await run(reactor, options("load", quick.address, tmp_path, seconds=1.5))
    assert len(record["gallery"]) == 3
    for one in record["gallery"]:
        assert base64.b64decode(one["png"]).startswith(b"\x89PNG")
        assert one["apart"] == 0
        assert one["prompt"] == "a small red star"


@pytest.mark.parametrize("kind", ["load", "concurrency"])
async def test_by_http(reactor: Any, quick: Quick, tmp_path: Path, kind: str) -> None:
    """The same visits by the HTTP door: all sorts of visitors, equal keys, races, broken streams; nothing is lost."""
    asked = options(kind, quick.http, tmp_path, plain(ALL_SORTS), users=8, seconds=3.0, where={"kind": "http"})
    status, record = await run(reactor, asked)
    assert status == 0, record["verdict"]
    assert record["counts"]["succeeded"] > 0
    assert record["latencies"]["first_progress"]["count"] > 0
