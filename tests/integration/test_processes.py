"""Several processes on the same addresses and the same records: one dies, all are replaced, one cancels another's job."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import treq

from bot.client import Client
from server.events import Canceled, Succeeded, TerminalEvent
from server.futures import as_future
from tests.integration.eventually import until
from tests.integration.nodes import events_of, submitted
from tests.integration.served import LISTEN, ROOT

JOBS = 40
TOGETHER = 40  # connections


class Several:
    """A supervisor and its processes."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self._folder = folder
        self.address = ""

    @property
    def log(self) -> str:
        """What all of them said."""
        return (self._folder / "log").read_text()

    def ids(self) -> dict[str, int]:
        """The process ids by name."""
        found = {}
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            try:
                settings = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            found.update(
                {one.partition(b"=")[2].decode(): int(child) for one in settings if one.startswith(b"ATELIER_PROCESS=")}
            )
        return found


@asynccontextmanager
async def several(folder: Path, **environment: str) -> AsyncIterator[Several]:
    """Two processes, which are up; killed at the end if they still run."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
    settings = {
        **LISTEN,
        "ATELIER_DATA_DIR": str(folder / "data"),
        "ATELIER_RESTART_PAUSE": "0.1",
        "ATELIER_DRAIN_TIMEOUT": "5",
        **environment,
    }
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.quick_processes", "0.05", "2",
            cwd=folder, env={**clean, "PYTHONPATH": str(ROOT), **settings}, stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    running = Several(process, folder)
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("listening on "), running.log
        running.address = line.strip().rpartition(" ")[2]
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def a_client(reactor: Any, address: str) -> AsyncIterator[Client]:
    """Of one of them."""
    client = Client(reactor, address, tell=lambda text, attempt: None)
    await client.connect()
    try:
        yield client
    finally:
        await client.close()


async def test_one_of_two_is_killed_and_nothing_is_lost(reactor: Any, tmp_path: Path) -> None:
    """Its jobs are taken up by its next life, its clients are back within a second; the other one goes on."""
    async with several(tmp_path) as server:
        clients = [await _connected(reactor, server.address) for _ in range(8)]
        handles = [await submitted(client, number) for number, client in enumerate(clients * (JOBS // 8))]
        following = [asyncio.ensure_future(events_of(handle)) for handle in handles]
        name, victim = sorted(server.ids().items())[0]
        os.kill(victim, signal.SIGKILL)
        for events in await asyncio.gather(*following):
            assert isinstance(events[-1], Succeeded), events[-1]
            assert [event for event in events if isinstance(event, TerminalEvent)] == events[-1:]
        await until(
            lambda: (
                f"process.up                     [atelier.supervisor] process={name}"
                in server.log.partition("was ended by SIGKILL")[2]
            )
        )
        assert victim not in server.ids().values()
        assert sorted(server.ids()) == ["1a", "2a"]
        for client in clients:
            await client.close()
        server.process.send_signal(signal.SIGTERM)
        assert await server.process.wait() == 0
    assert "Traceback" not in server.log


async def test_a_roll_refuses_no_connection_and_loses_no_job(reactor: Any, tmp_path: Path) -> None:
    """SIGHUP replaces both processes while newcomers connect one after the other, and each has a job done."""
    async with several(tmp_path) as server:
        before = server.ids()
        host, port = server.address.split(":")[1:]
        done, connections = 0, 0
        server.process.send_signal(signal.SIGHUP)
        while "processes.rolled " not in server.log:
            with socket.create_connection((host, int(port)), timeout=30):  # raises where nobody listens
                connections += 1
            async with a_client(reactor, server.address) as client:
                events = await events_of(await submitted(client, done))
                assert isinstance(events[-1], Succeeded)
                done += 1
        after = server.ids()
        assert (sorted(before), sorted(after)) == (["1a", "2a"], ["1b", "2b"])
        assert not set(before.values()) & set(after.values())
        assert done == connections > 1
    assert "Traceback" not in server.log


async def test_connections_that_come_at_once_are_shared_out(tmp_path: Path) -> None:
    """Of forty neither process has more than three quarters; a machine that gives one of them no core may have two more tries."""
    async with several(tmp_path) as server:
        host, port = server.address.split(":")[1:]
        shares: list[list[int]] = []
        while not shares or max(shares[-1]) > TOGETHER * 3 / 4:
            assert len(shares) < 3, shares
            clients = [socket.create_connection((host, int(port)), timeout=30) for _ in range(TOGETHER)]
            await until(lambda: sum(_connections(server, int(port))) == TOGETHER)
            shares.append(_connections(server, int(port)))
            for client in clients:
                client.close()
            await until(lambda: sum(_connections(server, int(port))) == 0)


async def test_the_metrics_of_all_are_one_page(reactor: Any, tmp_path: Path) -> None:
    """Each sample says whose it is; a process that is gone is missed."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    listen = {
        "ATELIER_METRICS_LISTEN": f"tcp:{port}:interface=127.0.0.1",
        "ATELIER_METRICS_TOKEN": "a-token-of-operators",
    }
    async with several(tmp_path, **listen) as server:
        page = await _page(f"http://127.0.0.1:{port}/metrics", "a-token-of-operators")
        assert 'atelier_state{process="1a",state="ready"} 1.0' in page
        assert 'atelier_state{process="2a",state="ready"} 1.0' in page
        assert page.count("# TYPE atelier_state gauge") == 1
        assert "atelier_processes 2.0" in page
        assert "atelier_processes_told 2.0" in page
        assert "bearer token" in await _page(f"http://127.0.0.1:{port}/metrics", "another")
        assert await _page(f"http://127.0.0.1:{port}/readyz", "") == "ready\n"
        assert re.search(r"server\.listening.*process=2a", server.log)


async def test_the_processes_die_with_their_supervisor(tmp_path: Path) -> None:
    """However that ends; the next one finds its addresses and folders free."""
    async with several(tmp_path) as server:
        children = server.ids().values()
        server.process.kill()
        await server.process.wait()
        await until(lambda: not any(_runs(child) for child in children))
    async with several(tmp_path) as again:
        assert sorted(again.ids()) == ["1a", "2a"]


async def test_a_setting_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    """By the process that read it; the supervisor's status is the process's, and nobody is left."""
    environment = {
        "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "ATELIER_DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": "mysql://x/y", **LISTEN,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "atelier", "serve", "--processes", "2",
        cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, logged = await process.communicate()
    assert process.returncode == 2, logged.decode()
    assert "DATABASE_URL" in logged.decode()
    assert "cannot start: 1a ended with status 2" in logged.decode()
    assert told == b""


async def test_one_process_cancels_what_another_runs(reactor: Any, tmp_path: Path) -> None:
    """By the record they share: the job has one end, which both tell, and its node lets go of it."""
    nodes = []
    shared = {"PYTHONPATH": str(ROOT), "ATELIER_DATA_DIR": str(tmp_path / "data"), **LISTEN}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
    try:
        for name in ("1a", "2a"):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.integration.quick_node", "30",
                cwd=tmp_path, env={**clean, **shared, "ATELIER_PROCESS": name},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            assert process.stdout is not None
            nodes.append((process, (await process.stdout.readline()).decode().strip().rpartition(" ")[2]))
        (_, first), (_, second) = nodes
        async with a_client(reactor, first) as runs, a_client(reactor, second) as cancels:
            handle = await submitted(runs, 1)
            following = asyncio.ensure_future(events_of(handle))
            watching = asyncio.ensure_future(events_of(await cancels.watch(handle.job_id)))
            await cancels.cancel(handle.job_id)
            for events in await asyncio.gather(following, watching):
                assert [event for event in events if isinstance(event, TerminalEvent)] == events[-1:]
                assert isinstance(events[-1], Canceled)
            status = await runs.status()
            assert (status.jobs_waiting, status.jobs_running) == (0, 0)
    finally:
        for process, _ in nodes:
            process.kill()
            await process.communicate()


async def _connected(reactor: Any, address: str) -> Client:
    client = Client(reactor, address, tell=lambda text, attempt: None)
    await client.connect()
    return client


async def _page(url: str, token: str) -> str:
    headers: dict[bytes | str, bytes | str] = {"authorization": f"Bearer {token}"}
    response: Any = await as_future(treq.get(url, headers=headers))
    text: str = await as_future(treq.text_content(response, "utf-8"))
    return text


def _connections(server: Several, port: int) -> list[int]:
    """How many each process has."""
    return [
        sum(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in _sockets(process))
        for process in server.ids().values()
    ]


def _sockets(process: int) -> Any:
    return psutil.Process(process).net_connections("tcp")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
