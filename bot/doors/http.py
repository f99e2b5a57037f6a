"""Bots at the HTTP door: POST /v1/jobs, then the job's events as server-sent events, then its pictures (docs/http.md).

A bot has no connection of its own here: each request takes one from its pool. A stream that breaks is followed again from the
event heard last (Last-Event-ID); a POST that was not answered is sent again under its Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urljoin

from treq.client import HTTPClient
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.error import SchemeNotSupported

from bot.choosing import Order
from bot.doors.door import Health
from bot.doors.sse import EventStream
from bot.errors import (
    CannotConnectError,
    ClientClosedError,
    ClientError,
    ConnectionLostError,
    NotWelcomeError,
    RefusedError,
)
from bot.patience import Backoff, Patience
from bot.reconnecting import Tell
from bot.visit import End, Visit
from bot.waiting import pause, within
from server.errors import Code
from server.events import Artifact
from server.futures import as_future

T = TypeVar("T")
Sent = dict[bytes | str, Any]
ANSWER_TIME = 30.0  # seconds for everything but a stream
MIDDLE = 0.5  # in place of chance: bots of one seed behave the same
BABBLES: tuple[tuple[str, str, str, bytes], ...] = (
    ("no JSON", "POST", "/v1/jobs", b"{"),
    ("no prompt", "POST", "/v1/jobs", b"{}"),
    ("an unknown field", "POST", "/v1/jobs", b'{"prompt": "x", "colour": 1}'),
    ("a size that is none", "POST", "/v1/jobs", b'{"prompt": "x", "width": 7}'),
    ("a path that is not there", "GET", "/v1/nothing", b""),
    ("a wrong method", "DELETE", "/v1/jobs", b""),
    ("a job that is not there", "GET", f"/v1/jobs/{'0' * 32}", b""),
    ("a number in place of an object", "POST", "/v1/jobs", b"7"),
)
"""What no client should ask: name, method, path, body. The answer has to be a refusal in the door's own form."""


class HttpSession:
    """One bot."""

    def __init__(self, door: HttpDoor) -> None:
        self._door = door
        self._pool: Any = HTTPConnectionPool(door.reactor)  # type: ignore[no-untyped-call]
        agent: Any = Agent(door.reactor, pool=self._pool, connectTimeout=ANSWER_TIME)  # type: ignore[no-untyped-call]
        self._http = HTTPClient(agent)
        self._following: set[asyncio.Task[None]] = set()
        self._streams: set[EventStream] = set()
        self._held = False
        self._open = False
        self._dropped = False  # by ourselves: nothing to tell

    @property
    def alive(self) -> bool:
        """Whether it was let in and not given up."""
        return self._open

    async def open(self) -> None:
        """See whether the server is there."""
        await self.ask("GET", "/livez")
        self._open = True

    def send(self, visit: Visit) -> None:
        """Submit, and follow."""
        if not self._open:
            raise ClientClosedError("the session is closed, or was given up")
        task = asyncio.ensure_future(self._through(visit))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def cancel(self, job_id: str) -> None:
        """Cancel."""
        await self.ask("POST", f"/v1/jobs/{job_id}/cancel")

    def drop(self) -> None:
        """Break every stream."""
        self._dropped = True
        for stream in tuple(self._streams):
            stream.abort()

    def hold(self, held: bool) -> None:
        """Let the streams fill the buffers, or read them again."""
        self._held = held
        for stream in self._streams:
            stream.hold(held)

    async def close(self) -> None:
        """Give up all streams, and the pool's connections."""
        self._open = False
        tasks = tuple(self._following)
        for task in tasks:
            task.cancel()
        self.drop()
        await asyncio.gather(*tasks, return_exceptions=True)
        await as_future(self._pool.closeCachedConnections())

    async def ask(self, method: str, path: str, body: object = None, key: str = "") -> Any:
        """One request and its JSON. Raises RefusedError, NotWelcomeError, CannotConnectError."""
        status, data = await self.fetch(method, path, json.dumps(body).encode() if body is not None else b"", key)
        try:
            told = json.loads(data) if data else {}
        except ValueError:
            raise ConnectionLostError(f"{path} answered {status} and no JSON") from None
        if status >= 400:
            raise _refusal(status, told)
        return told

    async def fetch(self, method: str, path: str, body: bytes = b"", key: str = "") -> tuple[int, bytes]:
        """Status and body, whatever they are. Raises CannotConnectError."""
        headers: Sent = {**self._door.headers, **({"Content-Type": "application/json"} if body else {})}
        headers |= {"Idempotency-Key": key} if key else {}

        async def exchange() -> tuple[int, bytes]:
            response = await as_future(
                self._http.request(method, self._door.url(path), headers=headers, data=body or None, unbuffered=False)
            )
            return response.code, await as_future(response.content())

        return await self._reached(exchange)

    async def _reached(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, within its time. Raises CannotConnectError."""

        async def done() -> T:
            return await work()

        try:
            return await within(self._door.reactor, ANSWER_TIME, done())
        except TimeoutError:
            raise CannotConnectError(self._door.address, f"no answer within {ANSWER_TIME:g} s") from None
        except (ClientError, asyncio.CancelledError):
            raise
        except (ConnectError, DNSLookupError, SchemeNotSupported, ValueError) as error:
            raise CannotConnectError(self._door.address, str(error).rstrip(".")) from error
        except Exception as error:  # Twisted's web client has many: ResponseNeverReceived, ConnectionAborted, …
            raise CannotConnectError(self._door.address, f"{type(error).__name__} {error}".strip()) from error

    # One visit

    async def _through(self, visit: Visit) -> None:
        """From the POST to the pictures, over as many connections as it takes."""
        try:
            told = await self._patiently(lambda: self._submit(visit))
            visit.on_accepted(told["id"], told["seed"])
            end = await self._patiently(lambda: self._heard_end(visit))
            await self._conclude(visit, end)
        except RefusedError as refusal:
            if visit.job_id:
                visit.finish(End.LOST, str(refusal))
            else:
                visit.on_error(End.REFUSED, refusal)
        except ClientError as error:
            self._open = False
            visit.finish(End.LOST, str(error))
        except asyncio.CancelledError:
            visit.finish(End.LOST, "the session was closed")
            raise

    async def _submit(self, visit: Visit) -> Any:
        visit.on_sent()
        return await self.ask("POST", "/v1/jobs", body_of(visit.order), visit.key)

    async def _heard_end(self, visit: Visit) -> dict[str, Any]:
        """Follow one stream to the job's end. Raises ConnectionLostError where it breaks before."""
        heard = max(visit.last_number, 0)  # Accepted is known
        headers: Sent = {**self._door.headers, "Accept": "text/event-stream", "Last-Event-ID": str(heard)}
        path = self._door.url(f"/v1/jobs/{visit.job_id}/events")

        async def begin() -> Any:
            return await as_future(self._http.get(path, headers=headers, unbuffered=True))

        response = await self._reached(begin)
        if response.code != 200:
            data = await as_future(response.content())
            refusal = _refusal(response.code, json.loads(data) if data else {})
            if refusal.code is Code.UNAVAILABLE:  # the job is accepted: ask again
                raise ConnectionLostError(str(refusal), refusal.code)
            raise refusal
        stream = EventStream(lambda name, told: self._event(visit, name, told))
        self._streams.add(stream)
        try:
            response.deliverBody(stream)
            stream.hold(self._held)
            end = await stream.over
        finally:
            self._streams.discard(stream)
            stream.abort()
        if end is None:
            raise ConnectionLostError("the stream broke before the job's end")
        return end

    def _event(self, visit: Visit, name: str, told: dict[str, Any]) -> bool:
        """Take one event; True if it is the end."""
        if name in ("progress", "preview"):
            visit.on_event(name, told["number"])
        elif name in _ENDS:
            visit.on_terminal(_ENDS[name])
            return True
        return False

    async def _conclude(self, visit: Visit, told: dict[str, Any]) -> None:
        end = _ENDS[told["event"]]
        if end is End.FAILED:
            visit.on_error(end, _refusal(200, told))
        elif end is End.CANCELED:
            visit.finish(end)
        else:
            artifacts = tuple(_artifact(one) for one in told["artifacts"])
            pictures = [await self._patiently(partial(self._picture, visit, one)) for one in artifacts]
            visit.on_success(artifacts, tuple(pictures))

    async def _picture(self, visit: Visit, artifact: Artifact) -> bytes:
        status, data = await self.fetch("GET", artifact.url)
        if status != 200 or hashlib.sha256(data).hexdigest() != artifact.sha256:
            visit.wrong(
                f"its picture at {artifact.url} answered {status} with {len(data)} bytes, which are not as announced"
            )
        return data

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Again and again, for as long as a server may be away. Raises what it was away with."""
        patience = self._door.patience
        backoff = Backoff(patience.first_wait, patience.longest_wait, lambda: MIDDLE)
        since: float | None = None
        attempt = 0
        while True:
            try:
                return await work()
            except (CannotConnectError, ConnectionLostError) as error:
                now = self._door.reactor.seconds()
                since = now if since is None else since
                if now - since > patience.reconnect_for:
                    raise ConnectionLostError(f"gave up on {self._door.address}: {error}") from None
                attempt += 1
                if not self._dropped:
                    self._door.tell(str(error), attempt)
                self._dropped = False
                await pause(self._door.reactor, backoff.next())


class HttpDoor:
    """A server by its base URL."""

    def __init__(self, reactor: Any, address: str, *, token: str, patience: Patience, tell: Tell) -> None:
        if not address.startswith(("http://", "https://")):
            raise CannotConnectError(repr(address), "that is no address such as http://127.0.0.1:8001")
        self.reactor = reactor
        self._address = address.rstrip("/")
        self.headers: Sent = {"Authorization": f"Bearer {token}"} if token else {}
        self.patience = patience
        self.tell = tell
        self._asking = HttpSession(self)

    @property
    def address(self) -> str:
        """The base URL."""
        return self._address

    @property
    def room(self) -> int | None:
        """HTTP does not say."""
        return None

    def url(self, path: str) -> str:
        """Absolute; a picture's may be of elsewhere."""
        return urljoin(f"{self._address}/", path)

    def session(self, name: str) -> HttpSession:
        """A bot; HTTP knows no names."""
        return HttpSession(self)

    async def open(self) -> None:
        """See whether it is there, and lets us in."""
        await self._asking.open()
        try:
            await self._asking.ask("GET", "/v1/jobs?limit=1")
        except RefusedError as refusal:
            raise NotWelcomeError.told(refusal) from None

    async def styles(self) -> list[str]:
        """This door does not tell."""
        return []

    async def health(self) -> Health:
        """By /readyz. Waits for a server that is away, as long as the bots would."""
        status, data = await self._asking._patiently(lambda: self._asking.fetch("GET", "/readyz"))
        told = json.loads(data) if data else {}
        return Health(ready=status == 200, problem=told.get("problem", ""))

    async def state_of(self, job_id: str) -> str:
        """By GET."""
        try:
            told = await self._asking.ask("GET", f"/v1/jobs/{job_id}")
        except RefusedError as refusal:
            if refusal.code is Code.JOB_NOT_FOUND:
                return "unknown"
            raise
        return str(told["state"])

    async def babble(self, number: int) -> str:
        """One of BABBLES."""
        name, method, path, body = BABBLES[number % len(BABBLES)]
        status, data = await self._asking.fetch(method, path, body)
        try:
            code = json.loads(data)["error"]["code"]
        except (ValueError, KeyError, TypeError):
            return f"{name}: it answered {status} without an error's form"
        return "" if 400 <= status < 500 and code in Code.__members__ else f"{name}: it answered {status}, {code}"

    async def usurp(self, count: int) -> None:
        """Requests carry a token each: nobody logs in."""

    async def close(self) -> None:
        """Hang up."""
        await self._asking.close()


_ENDS = {"succeeded": End.SUCCEEDED, "failed": End.FAILED, "canceled": End.CANCELED}


def body_of(order: Order) -> dict[str, Any]:
    """The order as JSON; what it leaves to the model is left out."""
    body: dict[str, Any] = {
        "prompt": order.prompt, "negative_prompt": order.negative_prompt, "seed": order.seed, "num_images": order.num_images,
        "solver": order.solver, "priority": order.priority, "preview_every_steps": order.preview_every_steps,
        "adapters": [{"name": style} for style in order.styles],
    }  # fmt: skip
    optional = {
        "width": order.width, "height": order.height, "num_inference_steps": order.num_inference_steps,
        "guidance_scale": order.guidance_scale,
    }  # fmt: skip
    body |= {name: value for name, value in optional.items() if value is not None}
    if order.signature:
        body["signature"] = {"text": order.signature, "artist": order.signature}
        if order.signature_opacity is not None:
            body["signature"]["opacity"] = order.signature_opacity
    return body


def _artifact(told: dict[str, Any]) -> Artifact:
    return Artifact(key="", **told)


def _refusal(status: int, told: Any) -> RefusedError:
    """An error's body as the error of its code; what has another form is an internal error of the server's."""
    error = told.get("error") if isinstance(told, dict) else None
    if not isinstance(error, dict):
        return RefusedError(Code.INTERNAL_ERROR, f"it answered {status}")
    details = error.get("details") or {}
    return RefusedError(
        Code.__members__.get(error.get("code", ""), Code.INTERNAL_ERROR),
        error.get("message", ""),
        field=details.get("field") or "",
        limit=details.get("limit") or "",
        retry_after_seconds=details.get("retry_after_seconds") or 0.0,
    )
