"""A server in a process of its own, and crowds at its HTTP door: those who attack, those who only listen, those who go away."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from bench.children import free_port
from tests.integration.served import LISTEN, Served, start

GOOD = 50
ATTACKERS = 30  # of each kind
LISTENERS = 2000
LISTENER_KB = 64  # of the server's memory at most: a connection, its task and what it has not said yet
WITHIN = 60.0  # seconds in which everything here must be over, however busy the machine is
JOB = json.dumps({"prompt": "a red star", "width": 64, "height": 64, "num_inference_steps": 2}).encode()


@asynccontextmanager
async def quick(folder: Path, step_seconds: float, **settings: object) -> AsyncIterator[tuple[Served, int]]:
    """A server without a model, and its HTTP port."""
    port = free_port()
    given = {**LISTEN, "ATELIER_HTTP_LISTEN": f"tcp:{port}:interface=127.0.0.1"}
    given |= {f"ATELIER_{name}": str(value) for name, value in settings.items()}
    module = ("tests.integration.quick_node", str(step_seconds))
    process = await start(folder, module=module, **given)
    try:
        assert process.stdout is not None
        assert b"tcp:" in await process.stdout.readline()
        yield Served(process), port
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def post(body: bytes, path: str = "/v1/jobs") -> bytes:
    """A whole request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def get(path: str) -> bytes:
    """A whole request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of an answer that says its length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def submitted(port: int) -> str:
    """A job's id."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(JOB))
    status, body = await answer(reader)
    assert status == 202, body
    writer.close()
    return str(json.loads(body)["id"])


async def good_client(port: int, attacked: asyncio.Event) -> int:
    """Asks again and again while the attack lasts; gives how many right answers it had."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = 0
    while not (attacked.is_set() and answers):
        writer.write(get("/livez"))
        status, body = await answer(reader)
        assert (status, json.loads(body)) == (200, {"status": "ok"})
        answers += 1
        await asyncio.sleep(0)
    writer.close()
    return answers


async def slow(port: int, begun: bytes, drip: bytes) -> bytes:
    """Sends a byte now and then until it is cut off; gives what it was told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    told = asyncio.ensure_future(reader.read())

    async def trickle() -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(0.1)
                writer.write(drip)
                await writer.drain()

    trickling = asyncio.ensure_future(trickle())
    try:
        with suppress(ConnectionError):
            return await told
        return b""
    finally:
        trickling.cancel()
        writer.close()


async def test_attackers_are_cut_off_while_others_are_served(tmp_path: Path) -> None:
    """Slow headers and slow bodies are refused at their deadlines, by name; fifty others are answered all the while."""
    limits = {"HTTP_HEADER_TIMEOUT": 1.5, "HTTP_BODY_TIMEOUT": 1.5}
    async with quick(tmp_path, 0.01, **limits) as (_, port), asyncio.timeout(WITHIN):
        over = asyncio.Event()
        good = [asyncio.ensure_future(good_client(port, over)) for _ in range(GOOD)]
        headers = [slow(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n") for _ in range(ATTACKERS)]
        bodies = [slow(port, post(JOB)[:-20], b"x") for _ in range(ATTACKERS)]
        told = await asyncio.gather(*headers, *bodies)
        over.set()
        answers = await asyncio.gather(*good)
    for number, text in enumerate(told):
        owed = b"headers" if number < ATTACKERS else b"body"
        assert text.startswith(b"HTTP/1.1 408 "), text
        error = json.loads(text.partition(b"\r\n\r\n")[2])["error"]
        assert (error["code"], error["details"]["field"]) == ("FRAME_TIMEOUT", owed.decode())
    assert len(answers) == GOOD
    assert min(answers) > 0


async def test_who_does_not_read_is_cut_off_and_costs_little(tmp_path: Path) -> None:
    """Readers that stop, with pictures' worth of answers waiting, are cut off; what they cost meanwhile is bounded."""
    async with quick(tmp_path, 0.01, SLOW_READER_TIMEOUT=1.5) as (served, port), asyncio.timeout(WITHIN):
        await submitted(port)
        over = asyncio.Event()
        good = [asyncio.ensure_future(good_client(port, over)) for _ in range(GOOD)]
        memory = psutil.Process(served.process.pid).memory_info
        before = memory().rss
        await asyncio.gather(*(never_reads(port) for _ in range(ATTACKERS)))
        grown = memory().rss - before
        over.set()
        assert min(await asyncio.gather(*good)) > 0
    assert grown < ATTACKERS * 2**20, f"{grown:,} bytes for {ATTACKERS} readers that do not read"


async def never_reads(port: int) -> None:
    """Asks for long answers, reads none of them; returns when it is cut off."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    with suppress(ConnectionError):
        writer.write((get("/static/swagger-ui/swagger-ui-bundle.js") + get("/openapi.json")) * 5)
        while not writer.transport.is_closing():
            writer.write(b"\r\n")  # which may stand between requests: how we find out
            await writer.drain()
            await asyncio.sleep(0.02)
    writer.transport.abort()


async def test_requests_that_wait_for_their_answers_are_counted(tmp_path: Path) -> None:
    """A thousand tiny requests in one piece cost as little as one: the connection is cut, and memory is as before."""
    async with quick(tmp_path, 0.01) as (served, port), asyncio.timeout(WITHIN):
        await served_once(port)
        memory = psutil.Process(served.process.pid).memory_info
        before = memory().rss
        for _ in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get("/livez") * 1000)
            with suppress(ConnectionError):
                assert (await reader.read()).count(b"HTTP/1.1 ") < 100
            writer.transport.abort()
        await served_once(port)
        assert memory().rss - before < 10 * 2**20


async def test_two_thousand_listen_to_one_job(tmp_path: Path) -> None:
    """All of them hear it accepted, then nothing, then its end; each costs the server little, and none is left behind."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = min(hard, LISTENERS + 1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    async with (
        quick(tmp_path, 0.25, HTTP_MAX_CONNECTIONS=LISTENERS + 10) as (served, port),
        asyncio.timeout(4 * WITHIN),
    ):
        process = psutil.Process(served.process.pid)
        job_id = await submitted(port)
        before = process.memory_info().rss
        question = get(f"/v1/jobs/{job_id}/events?progress=false&previews=false")
        ears = []
        for _ in range(LISTENERS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(question)
            ears.append((reader, writer))
        heard = await asyncio.gather(*(listened(reader) for reader, _ in ears))
        grown = process.memory_info().rss - before
        for _, writer in ears:
            writer.close()
        again = await submitted(port)
        assert again != job_id
    assert all(names == ["accepted", "succeeded"] for names in heard)
    assert grown < LISTENERS * LISTENER_KB * 1024, f"{grown / LISTENERS:,.0f} bytes a listener"


async def listened(reader: asyncio.StreamReader) -> list[str]:
    """The names of a stream's events, to its end."""
    names = []
    while line := await reader.readline():
        if line.startswith(b"event: "):
            names.append(line[7:].decode().strip())
        if names and names[-1] in ("succeeded", "failed", "canceled"):
            break
    return names


async def test_clients_that_go_away_in_every_phase_cost_nobody_anything(tmp_path: Path) -> None:
    """After hundreds that hang up in the middle of a request or of its answer, none is left, and others are served."""
    async with quick(tmp_path, 0.01) as (served, port), asyncio.timeout(WITHIN):
        process = psutil.Process(served.process.pid)

        def connections() -> int:
            return sum(1 for one in process.net_connections("tcp") if one.laddr.port == port and one.raddr)

        job_id = await submitted(port)
        whole = post(JOB)
        for end in range(1, len(whole) + 1, 3):
            await hang_up_after(port, whole[:end])
        for path in (f"/v1/jobs/{job_id}/events", f"/pictures/{job_id}/0.png", "/livez", "/openapi.json"):
            for read in (0, 1, 100):
                await hang_up_after(port, get(path), read)
        while connections():
            await served_once(port)


async def hang_up_after(port: int, said: bytes, read: int = 0) -> None:
    """Say so much, read so much, and reset the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    await writer.drain()
    if read:
        await reader.readexactly(read)
    writer.transport.abort()


async def served_once(port: int) -> None:
    """One good client, from the beginning to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get("/livez"))
    assert (await answer(reader))[0] == 200
    writer.close()
    await writer.wait_closed()
