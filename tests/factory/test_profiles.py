"""Front ends in a browser, on a page of another origin and without a token, by the profile that is made for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from config import load_settings
from config.profile import profile_names
from factory.http import HttpDoor
from tests.server.doors.http.door import Answer, Line
from tests.server.house import LIMITS, House

ORIGIN = "https://front.example"


class Browser:
    """A page of ORIGIN that calls a door with these settings, as fetch() does."""

    def __init__(self, reactor: Any, **settings: Any) -> None:
        self.house = House(tokens={})
        self.door = HttpDoor(
            load_settings(http_port=0, **settings), reactor, identities=self.house.identities,
            handlers=self.house.handlers, board=self.house.board,
            store=self.house.store, artifacts=self.house.artifacts, health=self.house.health,
            request_limits=LIMITS, outgoing=None,
        )  # fmt: skip

    async def __aenter__(self) -> Browser:
        self.port = int((await self.door.listen()).rpartition(":")[2])
        self.line = Line(*await asyncio.open_connection("127.0.0.1", self.port))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.line.close()
        self.door.stop_listening()
        await self.door.close_all()

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request."""
        given = {"host": f"127.0.0.1:{self.port}", "origin": ORIGIN, "content-length": str(len(body)), **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
        return await self.line.ask(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)

    async def preflight(self, path: str) -> Answer:
        """What a browser asks before it sends JSON to another origin."""
        return await self.ask(
            "OPTIONS", path, access_control_request_method="POST", access_control_request_headers="content-type, prefer"
        )


PATHS = {"sdxl-api": "/api/v1/generate", "predictions": "/v1/jobs"}


@pytest.mark.parametrize("profile", profile_names())
async def test_a_page_of_another_origin_is_served(reactor: Any, profile: str) -> None:
    """The preflight allows it; the request is taken without a token, and its answer may be read."""
    async with Browser(reactor, profile=profile) as browser:
        allowed = await browser.preflight(PATHS[profile])
        assert allowed.status == 200
        assert allowed.headers["access-control-allow-origin"] == "*"
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert "content-type" in allowed.headers["access-control-allow-headers"].lower()
        answer = await browser.ask(
            "POST", PATHS[profile], b'{"prompt": "a star"}', content_type="application/json", prefer="respond-async"
        )
        assert answer.status == 202, answer.body
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "Location" in answer.headers["access-control-expose-headers"]
        assert (await browser.house.kept(answer.json()["id"])).owner == "guest"
        assert (await browser.ask("GET", "/health")).headers["access-control-allow-origin"] == "*"


async def test_without_a_profile_no_other_page_is(reactor: Any) -> None:
    """Neither by the preflight nor by the request."""
    async with Browser(reactor) as browser:
        assert "access-control-allow-origin" not in (await browser.preflight("/api/v1/generate")).headers
        answer = await browser.ask("POST", "/api/v1/generate", b'{"prompt": "a star"}', content_type="application/json")
        assert (answer.status, answer.json()["error"]["details"]["field"]) == (403, "Origin")
