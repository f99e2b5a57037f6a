"""Accounts on a whole server: the prediction platform's quick start as written, the same person on every door, and the commands
of whoever runs it beside it. The painter is a quick one; everything else is real.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from config import load_settings
from factory import service as built
from factory.service import AtelierService, make_service
from proto import atelier_pb2 as pb
from server.errors import Code
from tests.conftest import LOOP, start_reactor
from tests.integration.eventually import eventually
from tests.integration.raw_client import RawClient
from tests.integration.served import ROOT
from tests.quick_painter import QuickPainter

PASSWORD = "correct-horse-battery-staple"


@dataclass(frozen=True)
class Site:
    """A server that asks everybody who they are. `http` and `tcp` are where it listens, `folder` is its own."""

    http: str
    tcp: tuple[str, int]
    folder: Path

    def client(self, token: str = "") -> httpx.AsyncClient:
        """Over HTTP."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(base_url=self.http, headers=headers, timeout=60)

    async def atelier(self, *words: str) -> str:
        """What a command beside the server prints."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "atelier", *words,
            cwd=self.folder, env={**clean, "PYTHONPATH": str(ROOT), "ATELIER_DATA_DIR": str(self.folder / "data")},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode().strip()


@pytest.fixture(scope="module")
def site(reactor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Started, and stopped at the end."""
    start_reactor()
    folder = tmp_path_factory.mktemp("accounts")
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="tcp:0:interface=127.0.0.1",
        require_account=True,
        identity_cache_seconds=0.2,
        rate_login="",
        data_dir=folder / "data",
    )
    patch = pytest.MonkeyPatch()
    patch.setattr(built, "EngineThreads", QuickPainter)
    service: AtelierService = make_service(settings, reactor)
    LOOP.run_until_complete(service.start())
    _, host, port = service.addresses[0].split(":")
    yield Site(service.addresses[1], (host, int(port)), folder)
    LOOP.run_until_complete(service.stop())
    patch.undo()


async def registered(site: Site, username: str) -> str:
    """An account's access token."""
    async with site.client() as client:
        made = await client.post(
            "/v1/auth/register",
            json={"username": username, "email": f"{username}@example.org", "password": PASSWORD},
        )
        assert made.status_code == 200, made.text
    return await logged_in(site, username)


async def logged_in(site: Site, username: str) -> str:
    """Another access token."""
    async with site.client() as client:
        login = await client.post("/v1/auth/token", data={"username": username, "password": PASSWORD})
        assert login.status_code == 200, login.text
        return str(login.json()["access_token"])


async def test_the_quick_start_of_prediction_platforms(site: Site) -> None:
    """Register, token, predict, poll, list, and the picture by the address that was told, without a token."""
    token = await registered(site, "lovelace")
    async with site.client(token) as client, site.client() as stranger:
        made = await client.post("/v1/predictions", json={"model_id": "demo", "input": {"prompt": "a red star"}})
        assert made.status_code == 201, made.text
        address = f"/v1/predictions/{made.json()['id']}"

        async def ended() -> Any:
            found = (await client.get(address)).json()
            return None if found["status"] in ("starting", "processing") else found

        told = await eventually(ended)  # as its clients poll
        assert told["status"] == "succeeded"
        [listed] = (await client.get("/v1/predictions")).json()["results"]
        assert listed["id"] == told["id"]
        [picture] = told["output"]
        assert "signature=" in picture
        assert (await stranger.get(picture)).content.startswith(b"\x89PNG")
        assert (await stranger.get(picture.partition("?")[0])).status_code == 404
        assert (await stranger.get(address)).status_code == 401
        assert (await client.post(f"{address}/cancel")).json()["status"] == "succeeded"


async def test_one_person_on_both_doors_by_token_and_by_key(site: Site) -> None:
    """What was submitted over TCP with a key is looked at over HTTP with a token."""
    token = await registered(site, "hopper")
    async with site.client(token) as client:
        key = (await client.post("/v1/keys", json={"name": "a game", "scopes": ["generate", "read"]})).json()["key"]
        for credential in (key, token):
            peer = await RawClient.connect(site.tcp, credential)
            heard = await peer.hear_all(peer.submit("a blue moon"))
            assert heard[-1].kind == "result", heard[-1]
            job_id = heard[-1].message.job_id  # type: ignore[attr-defined]
            await peer.close()
            assert (await client.get(f"/v1/jobs/{job_id}")).json()["state"] == "succeeded"
        acts = json.loads(await site.atelier("audit", "--who", "hopper", "--json"))["acts"]
        assert [act["action"] for act in acts] == ["user.register", "key.create", "tcp.submit"]


async def test_who_is_shut_out_beside_the_server_is_out_soon(site: Site) -> None:
    """By the command line, within the cache's seconds; an account that is made there comes in."""
    token = await registered(site, "mallory")
    peer = await RawClient.connect(site.tcp, token)
    await site.atelier("users", "deactivate", "mallory")
    async with site.client(token) as client:

        async def refused() -> bool | None:
            return (await client.get("/v1/auth/me")).status_code == 401 or None

        await eventually(refused)  # another process did it: nothing tells us
    said = [await peer.hear(), await peer.hear()]  # it need not ask anything to be told
    assert [one.kind for one in said] == ["error", "goodbye"]
    assert said[1].message.code == Code.UNAUTHENTICATED.value  # type: ignore[attr-defined]
    await peer.close()
    password = await site.atelier("users", "create", "grace", "grace@example.org", "--role", "admin")
    async with site.client() as stranger:
        login = await stranger.post("/v1/auth/token", json={"username": "grace", "password": password})
    async with site.client(login.json()["access_token"]) as admin:
        users = (await admin.get("/v1/users")).json()["users"]
        assert {user["username"]: user["is_active"] for user in users}["mallory"] is False
    key = await site.atelier("keys", "create", "grace", "cron", "--scope", "read", "--days", "1")
    async with site.client(key) as client:
        assert (await client.get("/v1/auth/me")).json()["username"] == "grace"
    [listed] = json.loads(await site.atelier("keys", "list", "grace", "--json"))["keys"]
    assert listed["id"] in await site.atelier("keys", "list", "grace"), "whole, so that it can be copied"
    assert (listed["scopes"], key.startswith(listed["key"].rstrip("…"))) == ("read", True)


@pytest.mark.parametrize("how", ["here", "beside", "shut"])
async def test_what_is_followed_ends_with_the_credential(site: Site, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """By server-sent events, over a WebSocket and over TCP: each says why, and nothing more of the job; the job goes on."""
    monkeypatch.setattr(QuickPainter, "step_seconds", 3600.0)
    name = f"turing-{how}"
    token = await registered(site, name)
    async with site.client(token) as owner:
        made = (await owner.post("/v1/keys", json={"name": "a game", "scopes": ["generate", "read"]})).json()
        used = token if how == "shut" else made["key"]
        job = (await owner.post("/v1/jobs", json={"prompt": "a red star"})).json()["id"]
        peer = await RawClient.connect(site.tcp, used)
        watching = peer.say(watch=pb.Watch(job_id=job))
        assert (await peer.hear()).kind == "accepted"
        address = f"{site.http.replace('http', 'ws')}/v1/jobs/{job}/ws"
        async with (
            site.client(used) as client,
            client.stream("GET", f"/v1/jobs/{job}/events") as stream,
            connect(address, additional_headers={"authorization": f"Bearer {used}"}) as socket,
        ):
            assert json.loads(await socket.recv())["event"] == "accepted"
            lines = stream.aiter_lines()
            assert "event: accepted" in [await anext(lines) for _ in range(4)]
            if how == "here":
                assert (await owner.delete(f"/v1/keys/{made['id']}")).is_success
            elif how == "beside":
                await site.atelier("keys", "revoke", name, made["id"])
            else:
                await site.atelier("users", "deactivate", name)
            rest = "\n".join([line async for line in lines])
            assert 'event: error\ndata: {"code":"UNAUTHENTICATED"' in rest
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "UNAUTHENTICATED")
        said = [await peer.hear(), await peer.hear()]
        assert [(one.kind, one.request_id) for one in said] == [("error", 0), ("goodbye", 0)], watching
        await peer.close()
    if how == "shut":
        await site.atelier("users", "activate", name)
    async with site.client(await logged_in(site, name)) as owner:
        assert (await owner.get(f"/v1/jobs/{job}")).json()["state"] == "queued"
        await owner.post(f"/v1/jobs/{job}/cancel")


async def test_the_secret_is_made_once_for_this_user_alone(site: Site) -> None:
    """A file that nobody else reads."""
    secret = site.folder / "data" / "secret_key"
    assert (secret.stat().st_mode & 0o777, len(secret.read_text().strip())) == (0o600, 64)
