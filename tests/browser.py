"""A real browser for tests: Chromium, headless, spoken to by its DevTools protocol over a WebSocket.

async with Browser(origin) as browser:
    page = await browser.open(f"{origin}/docs")
    await page.until("document.querySelector('.opblock') !== null")
    await page.click("#operations-health-is_alive button")

Whatever it wants of another origin is refused and noted in `page.strangers`; what its console complains of, in `page.complaints`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or "chromium"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1200,1600",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
PATIENCE = 60.0  # seconds; a browser that starts beside other tests takes ten
_LOCAL = ("data:", "blob:", "about:", "chrome:")


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection, session: str, origin: str) -> None:
        self.strangers: list[str] = []  # what was wanted of other origins
        self.complaints: list[str] = []  # of the console
        self._socket = socket
        self._session = session
        self._origin = origin
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.reading = asyncio.ensure_future(self._read())

    async def say(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._tell(method, params)] = answer
        return await asyncio.wait_for(answer, PATIENCE)

    def _tell(self, method: str, params: dict[str, Any]) -> int:
        self._number += 1
        message = {"id": self._number, "sessionId": self._session, "method": method, "params": params}
        self._sending = asyncio.ensure_future(self._socket.send(json.dumps(message)))
        return self._number

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            answer = self._answers.pop(message.get("id", 0), None)
            if answer is not None and not answer.done():
                answer.set_result(message)
            elif message.get("method") == "Fetch.requestPaused":
                self._judge(message["params"])
            elif message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(message["params"])[:500])

    def _judge(self, paused: dict[str, Any]) -> None:
        url, request = paused["request"]["url"], paused["requestId"]
        if url.startswith((f"{self._origin}/", *_LOCAL)):
            self._tell("Fetch.continueRequest", {"requestId": request})
        else:
            self.strangers.append(url)
            self._tell("Fetch.failRequest", {"requestId": request, "errorReason": "AccessDenied"})

    async def value(self, expression: str) -> Any:
        """What an expression of the page's own JavaScript is."""
        answer = await self.say("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer["result"], answer
        return answer["result"]["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until it is true, as often as the page is painted."""
        watch = f"new Promise(resolve => {{const look = () => ({expression}) ? resolve(true) : setTimeout(look, 50); look()}})"
        assert await self.value(watch)

    async def click(self, selector: str) -> None:
        """Press what a selector finds, as a mouse does, once it is there."""
        found = f"document.querySelector({json.dumps(selector)})"
        await self.until(f"{found} !== null")
        box = await self.value(
            f"(() => {{const e = {found}; e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.say("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    async def screenshot(self, path: Path) -> None:
        """What a person would see, as a PNG file."""
        answer = await self.say("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["result"]["data"]))


class Browser:
    """A Chromium of this test's own, which may load from `origin` alone; use it as an asynchronous context manager."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._folder = tempfile.TemporaryDirectory(prefix="atelier-browser-", ignore_cleanup_errors=True)
        self._process: Process | None = None
        self._socket: ClientConnection | None = None
        self._pages: list[Page] = []

    async def __aenter__(self) -> Self:
        profile = f"--user-data-dir={self._folder.name}"
        self._process = await asyncio.create_subprocess_exec(
            PROGRAM, *FLAGS, profile, "about:blank", stdout=DEVNULL, stderr=PIPE, limit=1 << 20
        )
        address = await asyncio.wait_for(self._address(), PATIENCE)
        self._draining = asyncio.ensure_future(self._drain())
        self._socket = await connect(address, max_size=None, proxy=None)
        return self

    async def __aexit__(self, *error: object) -> None:
        for page in self._pages:
            page.reading.cancel()
        if self._socket is not None:
            await self._socket.close()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._draining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._draining
        self._folder.cleanup()

    async def _address(self) -> str:
        """Where it listens, which is the first thing it says."""
        assert self._process is not None
        assert self._process.stderr is not None
        said = b""
        while line := await self._process.stderr.readline():
            said += line
            if b"DevTools listening on " in line:
                return line.decode().split("DevTools listening on ")[1].strip()
        raise AssertionError(f"the browser did not start: {said.decode(errors='replace')}")

    async def _drain(self) -> None:
        """Read on what it says, lest it wait for us."""
        assert self._process is not None
        assert self._process.stderr is not None
        while await self._process.stderr.read(1 << 16):
            pass

    async def open(self, url: str) -> Page:
        """A new tab, whose requests are judged before they go out."""
        assert self._socket is not None
        target = await self._ask("Target.createTarget", url="about:blank")
        attached = await self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self._socket, attached["sessionId"], self._origin)
        self._pages.append(page)
        for domain in ("Page", "Runtime", "Log"):
            await page.say(f"{domain}.enable")
        await page.say("Fetch.enable", patterns=[{"urlPattern": "*"}])
        await page.say("Page.navigate", url=url)
        return page

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A command to the browser itself, before any page reads."""
        assert self._socket is not None
        await self._socket.send(json.dumps({"id": 1, "method": method, "params": params}))
        while True:
            message = json.loads(await asyncio.wait_for(self._socket.recv(), PATIENCE))
            if message.get("id") == 1:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
