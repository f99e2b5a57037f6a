"""Who may what: every route of the HTTP door, every packet of the TCP door, every datagram of the UDP door, walked mechanically.

Ada asks for each of Bob's things, and so do somebody without a token, somebody with a revoked key and somebody whose access token
has ended. A route or packet without a line here fails the test.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import URL
from starlette.routing import Route, WebSocketRoute

from factory.tcp import TcpDoor
from proto import atelier_pb2 as pb
from proto import atelier_udp_pb2 as udp
from server.errors import Code, Refusal
from server.metering.usage import UsageLine, UsageQuery
from server.picture_access import PictureAccess
from server.principal import EVERYDAY, Role, Scope
from server.vigil import EVERY
from server.wire.connection import REQUESTS
from tests.conftest import LOOP
from tests.server import door as tcp
from tests.server.accounts.rooms import HERE, AccountsHouse, accounts_house
from tests.server.doors.http.door import Door
from tests.server.doors.http.test_usage import Books as UsageBooks
from tests.server.doors.udp.site import Site
from tests.server.fakes import settle
from tests.server.live.acting import Theatre


class Kind(Enum):
    """Whose a route's things are."""

    OPEN = auto()  # nobody's: told to everybody whom the server serves
    SHARED = auto()  # the house's: told to whoever has a credential
    MAKES = auto()  # makes something of the caller's own
    LIST = auto()  # the caller's own, and nobody else's among them
    OF_ONE = auto()  # one's, by its id
    PICTURE = auto()  # one's, everybody's if it was published, and of whoever has a signed address
    FIXED = auto()  # the operator's: not theirs to change (of users' own models: tests/integration/test_models.py)
    ADMIN = auto()  # for those who look after the house


@dataclass(frozen=True)
class Line:
    """A route's kind, and what is sent to it; `ok` is what its owner is answered."""

    kind: Kind
    body: Any = None
    ok: int = 200


JOB = {"prompt": "a star"}
PREDICTION = {"model_id": "demo", "input": {"prompt": "a star"}}
LINES: dict[str, Line] = {
    "GET /": Line(Kind.OPEN),
    "GET /livez": Line(Kind.OPEN),
    "GET /readyz": Line(Kind.OPEN),
    "GET /health": Line(Kind.OPEN),
    "GET /openapi.json": Line(Kind.OPEN),
    "GET /docs": Line(Kind.OPEN),
    "GET /redoc": Line(Kind.OPEN),
    "GET /static/{path:path}": Line(Kind.OPEN),
    "POST /v1/auth/register": Line(Kind.OPEN),
    "POST /v1/auth/token": Line(Kind.OPEN),
    "GET /v1/models": Line(Kind.SHARED),
    "GET /v1/models/{model_id}": Line(Kind.SHARED),
    "GET /v1/models/{model_owner}/{name}": Line(Kind.SHARED),
    "GET /v1/models/{model_owner}/{name}/versions": Line(Kind.SHARED),
    "GET /v1/models/{model_owner}/{name}/versions/{version}": Line(Kind.SHARED),
    "GET /v1/adapters": Line(Kind.SHARED),
    "POST /v1/models": Line(Kind.MAKES, {"name": "fox", "model_path": "fox"}),
    "POST /v1/adapters": Line(Kind.MAKES),
    "PATCH /v1/models/{model_id}": Line(Kind.FIXED),
    "DELETE /v1/models/{model_id}": Line(Kind.FIXED),
    "DELETE /v1/models/{model_owner}/{name}": Line(Kind.FIXED),
    "DELETE /v1/models/{model_id}/versions/{version}": Line(Kind.FIXED),
    "PUT /v1/models/{model_id}/traffic": Line(Kind.FIXED, {"weights": {"1.0.0": 1}}),
    "POST /v1/models/{model_id}/promote": Line(Kind.FIXED, {"version": "1.0.0"}),
    "POST /v1/models/{model_id}/rollback": Line(Kind.FIXED),
    "GET /v1/adapters/{adapter}": Line(Kind.FIXED),
    "GET /v1/adapters/{adapter_owner}/{name}": Line(Kind.FIXED),
    "DELETE /v1/adapters/{adapter}": Line(Kind.FIXED),
    "DELETE /v1/adapters/{adapter_owner}/{name}": Line(Kind.FIXED),
    "GET /v1/webhooks/default/secret": Line(Kind.SHARED),
    "POST /api/v1/generate": Line(Kind.MAKES),
    "POST /api/v1/img2img": Line(Kind.MAKES),
    "POST /v1/jobs": Line(Kind.MAKES),
    "POST /v1/jobs/batch": Line(Kind.MAKES),
    "POST /v1/predictions": Line(Kind.MAKES),
    "PUT /v1/predictions/{prediction_id}": Line(Kind.MAKES),
    "POST /v1/models/{model_owner}/{name}/predictions": Line(Kind.MAKES),
    "POST /v1/models/{model_owner}/{name}/versions/{version}/predictions": Line(Kind.MAKES),
    "POST /v1/images/generations": Line(Kind.MAKES),
    "POST /v1/images/edits": Line(Kind.MAKES),
    "POST /v1/keys": Line(Kind.MAKES),
    "POST /v1/auth/password": Line(Kind.MAKES),
    "GET /v1/jobs": Line(Kind.LIST),
    "GET /v1/predictions": Line(Kind.LIST),
    "GET /v1/keys": Line(Kind.LIST),
    "GET /v1/auth/me": Line(Kind.LIST),
    "GET /v1/usage": Line(Kind.LIST),
    "GET /v1/usage.csv": Line(Kind.LIST),
    "GET /v1/models/{model}/metrics": Line(Kind.SHARED),
    "GET /v1/models/{owner}/{name}/metrics": Line(Kind.SHARED),
    "GET /v1/jobs/{job_id}": Line(Kind.OF_ONE),
    "POST /v1/jobs/{job_id}/cancel": Line(Kind.OF_ONE, ok=202),
    "GET /v1/jobs/{job_id}/events": Line(Kind.OF_ONE),
    "WS /v1/jobs/{job_id}/ws": Line(Kind.OF_ONE),
    "GET /v1/jobs/{job_id}/visibility": Line(Kind.OF_ONE),
    "PUT /v1/jobs/{job_id}/visibility": Line(Kind.OF_ONE, {"visibility": "private"}),
    "GET /v1/jobs/batch/{batch_id}": Line(Kind.OF_ONE),
    "POST /v1/jobs/batch/{batch_id}/cancel": Line(Kind.OF_ONE, ok=202),
    "GET /v1/jobs/batch/{batch_id}/events": Line(Kind.OF_ONE),
    "GET /v1/predictions/{prediction_id}": Line(Kind.OF_ONE),
    "POST /v1/predictions/{prediction_id}/cancel": Line(Kind.OF_ONE),
    "GET /v1/predictions/{prediction_id}/stream": Line(Kind.OF_ONE),
    "DELETE /v1/keys/{key_id}": Line(Kind.OF_ONE, ok=204),
    "GET /pictures/{job_id}/{image_index}.png": Line(Kind.PICTURE),
    "HEAD /pictures/{job_id}/{image_index}.png": Line(Kind.PICTURE),
    "GET /outputs/images/{job_id}.png": Line(Kind.PICTURE),
    "HEAD /outputs/images/{job_id}.png": Line(Kind.PICTURE),
    "GET /outputs/metadata/{job_id}.json": Line(Kind.PICTURE),
    "GET /v1/users": Line(Kind.ADMIN),
    "PATCH /v1/users/{username}": Line(Kind.ADMIN, {"is_active": True}),
    "GET /v1/audit": Line(Kind.ADMIN),
    "GET /fetch": Line(Kind.ADMIN),
    "POST /fetch": Line(Kind.ADMIN, {"configPath": "base"}),
}
UNKNOWN = ("revoked", "ended", "shut")


@dataclass
class World:
    """Bob has a job with a picture, a batch and a key. `tokens` are everybody's credentials, by their names."""

    house: AccountsHouse
    door: Door
    access: PictureAccess
    tokens: dict[str, str] = field(default_factory=dict)
    things: dict[str, str] = field(default_factory=dict)
    of_bob: set[str] = field(default_factory=set)

    def path(self, route: str) -> str:
        """With Bob's things in it."""
        path = route.partition(" ")[2]
        for name, thing in self.things.items():
            path = path.replace(f"{{{name}}}", thing)
        assert "{" not in path, f"{route}: nobody said what stands there"
        return path

    async def ask(self, route: str, who: str, query: str = "") -> tuple[int, bytes]:
        """Status and body."""
        method = route.partition(" ")[0]
        path = self.path(route) + query
        if method == "WS":
            return await self._knock(path, self.tokens[who]), b""
        answer = await self.door.ask(method, path, LINES[route].body or ({} if method != "GET" else None),
                                     token=self.tokens[who])  # fmt: skip
        return answer.status, answer.body

    async def _knock(self, path: str, token: str) -> int:
        """What a WebSocket's greeting is answered: 200 where it is taken."""
        said: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"} if not said else {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            said.append(message)

        headers = [(b"host", b"paint.test"), *([(b"authorization", f"Bearer {token}".encode())] if token else [])]
        await self.door.app(
            {
                "type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "ws", "path": path,
                "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers, "subprotocols": [],
                "client": ("127.0.0.1", 5000), "server": ("127.0.0.1", 8001), "extensions": {"websocket.http.response": {}},
            },
            receive,
            send,
        )  # fmt: skip
        return 200 if said[0]["type"] == "websocket.accept" else int(said[0].get("status", 0))


class Shelf:
    """Hands out one thing."""

    async def at(self, path: str) -> Any:
        """It."""
        return {"ATELIER_MAX_BATCH": 4}


class Books(UsageBooks):
    """Tells whoever is asked about as the one who used it."""

    async def usage(self, query: UsageQuery) -> list[UsageLine]:
        """One line."""
        return [replace(line, owner=query.owner) for line in await super().usage(query)]


@pytest.fixture
def theatre() -> Theatre:
    """Where live sessions are."""
    return Theatre()


@pytest.fixture
def house(sqlite_url: URL, theatre: Theatre) -> Iterator[AccountsHouse]:
    """A server."""
    with accounts_house(sqlite_url, live=theatre.sessions) as made:
        yield made


@pytest.fixture
def world(house: AccountsHouse, theatre: Theatre) -> World:
    """Everybody has come, and Bob has painted and opened a live session."""
    return LOOP.run_until_complete(_world(house, theatre))


async def _world(house: AccountsHouse, theatre: Theatre) -> World:
    rooms = house.rooms
    access = PictureAccess(house.published, house.clock, seconds=3600)
    access.sign_with([b"a secret of more than thirty-two bytes"])
    secret = SecretStr("whsec_" + b64encode(bytes(32)).decode())
    parts: Any = {
        "registration": "open",
        "access": access,
        "webhook_secret": secret,
        "usage": Books(),
        "settings": Shelf(),
    }
    door = Door(house, accounts=rooms.service, **parts)
    tokens = {"": "", "ended": await rooms.user("eve"), "shut": await rooms.user("mallory")}
    house.clock.advance(3601.0)
    grace = await rooms.user("grace", Role.ADMIN)
    tokens |= {"ada": await rooms.user("lovelace"), "bob": await rooms.user("babbage"), "grace": grace}
    root, ada = await rooms.directory.principal(grace), await rooms.directory.principal(tokens["ada"])
    tokens["shut"] = await rooms.service.log_in("mallory", "correct-horse-battery-staple", address=HERE)
    await rooms.service.set_user(root, "mallory", role=None, is_active=False, address=HERE)
    for name, scopes in (("revoked", EVERYDAY), ("reader", {Scope.READ})):
        key, tokens[name] = await rooms.service.create_key(ada, name, frozenset(scopes), None, address=HERE)
        if name == "revoked":
            await rooms.service.revoke_key(ada, key.id, address=HERE)
    made = World(house, door, access, tokens)
    job = (await door.ask("POST", "/v1/jobs", JOB, token=tokens["bob"])).json()["id"]
    batch = (await door.ask("POST", "/v1/jobs/batch", {"prompts": ["a star"]}, token=tokens["bob"])).json()
    bobs_key = (await door.ask("POST", "/v1/keys", {"name": "bob's"}, token=tokens["bob"])).json()["id"]
    for job_id in (job, batch["items"][0]["job"]["id"]):
        house.painter.paint(job_id)
    await settle()
    version = (await door.ask("GET", "/v1/models/atelier/demo/versions", token=grace)).json()["results"][0]["id"]
    live, _ = await theatre.opened("babbage")
    made.things = {
        "job_id": job, "prediction_id": job, "batch_id": batch["id"], "key_id": bobs_key, "image_index": "0",
        "username": "babbage", "model_id": "demo", "model_owner": "atelier", "name": "demo", "version": version,
        "path:path": "none.js", "adapter": "ink", "adapter_owner": "babbage", "model": "demo", "owner": "atelier",
        "live_id": live.live_id,
    }  # fmt: skip
    made.of_bob = {job, batch["id"], bobs_key, "babbage"}
    return made


def routes_of(door: Door) -> Iterator[str]:
    """METHOD /path of everything that is served."""
    for route in door.app.state.routes:
        if isinstance(route, WebSocketRoute):
            yield f"WS {route.path}"
        else:
            assert isinstance(route, Route), route
            yield from (f"{method} {route.path}" for method in route.methods or ())


async def test_every_route_has_its_line(world: World) -> None:
    """Whoever adds one says here whose it is."""
    assert set(routes_of(world.door)) == set(LINES)


@pytest.mark.parametrize("route", LINES)
async def test_a_route_answers_those_it_is_for(world: World, route: str) -> None:
    """Another's things are not there; a credential that is none, or no more, is told so whatever is asked."""
    line = LINES[route]
    told = {who: await world.ask(route, who) for who in ("", "ada", *UNKNOWN)}
    status = {who: answer[0] for who, answer in told.items()}
    if line.kind is Kind.OPEN:
        assert not {401, 403} & set(status.values()), status
        return
    assert [status[who] for who in UNKNOWN] == [401] * len(UNKNOWN)
    assert status[""] == (404 if line.kind is Kind.PICTURE else 401)
    if line.kind is Kind.MAKES:
        assert status["ada"] not in (401, 403, 404, 500)
        assert not any(name.encode() in told["ada"][1] for name in world.of_bob)
    elif line.kind is Kind.FIXED:
        assert status["ada"] == 404
    elif line.kind is Kind.ADMIN:
        assert (status["ada"], (await world.ask(route, "grace"))[0]) == (403, 200)
    elif line.kind in (Kind.OF_ONE, Kind.PICTURE):
        assert status["ada"] == 404
        assert (await world.ask(route, "bob"))[0] == line.ok
    else:
        assert status["ada"] == 200
        if line.kind is Kind.LIST:
            assert not any(name.encode() in told["ada"][1] for name in world.of_bob)
            of_bob = (await world.ask(route, "bob"))[1]
            assert any(name.encode() in of_bob for name in world.of_bob)


@pytest.mark.parametrize("route", [route for route, line in LINES.items() if line.kind is Kind.PICTURE])
async def test_a_picture_is_shown_by_a_signed_address_or_where_it_is_public(world: World, route: str) -> None:
    """A signature is of one job and ends; what is public can be taken back."""
    job_id = world.things["job_id"]
    signed = world.access.query(job_id, "babbage")
    other = world.access.query("job-999", "babbage")
    later = signed.replace("expires=", "expires=9")
    assert [(await world.ask(route, "", query))[0] for query in (signed, other, later, signed[:-1], "?expires=x")] == [
        200, 404, 404, 404, 404,
    ]  # fmt: skip
    assert (await world.ask(route, "ada", signed))[0] == 200
    for visibility, status in (("public", 200), ("private", 404)):
        wish = {"visibility": visibility}
        put = await world.door.ask("PUT", f"/v1/jobs/{job_id}/visibility", wish, token=world.tokens["bob"])
        assert (put.status, put.json()) == (200, {"id": job_id, **wish})
        assert [(await world.ask(route, who))[0] for who in ("", "ada")] == [status, status]
    assert (await world.door.ask("GET", f"/v1/jobs/{job_id}", token=world.tokens["ada"])).status == 404
    world.house.clock.advance(3 * 86_400)
    assert (await world.ask(route, "", signed))[0] == 404


@pytest.mark.parametrize("route", [route for route, line in LINES.items() if line.kind is not Kind.OPEN])
async def test_a_key_that_may_read_does_nothing_else(world: World, route: str) -> None:
    """Whatever changes something is refused before anything of it is looked at."""
    status, body = await world.ask(route, "reader")
    looks = route.partition(" ")[0] in ("GET", "HEAD", "WS")
    if LINES[route].kind is Kind.ADMIN or (not looks and "/keys" not in route and "/auth" not in route):
        assert status == 403, body
    else:
        assert status in (200, 403, 404, 422), body


PACKETS: dict[str, tuple[Any, str]] = {
    "ping": (pb.Ping(client_time_us=1), "pong"),
    "list_models": (pb.ListModels(), "models"),
    "get_server_status": (pb.GetServerStatus(), "server_status"),
    "submit": (pb.Submit(prompt="a star"), "accepted"),
    "predict": (pb.Predict(model="nobody's"), "MODEL_NOT_FOUND"),
    "cancel": (pb.Cancel(job_id="B"), "JOB_NOT_FOUND"),
    "watch": (pb.Watch(job_id="B"), "JOB_NOT_FOUND"),
    "get_job": (pb.GetJob(job_id="B"), "JOB_NOT_FOUND"),
    "open_live": (pb.OpenLive(model="nobody's"), "MODEL_NOT_FOUND"),
    "live_frame": (pb.LiveFrame(live_id="B"), "LIVE_NOT_FOUND"),
    "close_live": (pb.CloseLive(live_id="B"), "LIVE_NOT_FOUND"),
    "watch_live": (pb.WatchLive(live_id="B"), "LIVE_NOT_FOUND"),
    "connect_udp": (pb.ConnectUdp(), "UNAVAILABLE"),
}
"""What each packet asks of Bob's job or live session, and what Ada is answered."""


def told(heard: tcp.Heard) -> str:
    """The kind of an answer, or the code of an error."""
    return pb.ErrorCode.Name(heard.message.code) if heard.kind == "error" else heard.kind


def packet(kind: str, job_id: str, live_id: str = "x") -> dict[str, Any]:
    """About that job, or that live session."""
    message = type(PACKETS[kind][0])()
    message.CopyFrom(PACKETS[kind][0])
    for name, thing in (("job_id", job_id), ("live_id", live_id)):
        if hasattr(message, name):
            setattr(message, name, thing)
    return {kind: message}


NOT_THERE = ("JOB_NOT_FOUND", "LIVE_NOT_FOUND", "PERMISSION_DENIED")


def test_every_packet_has_its_line() -> None:
    """Whoever adds one says here whose it is."""
    assert set(PACKETS) == REQUESTS


@pytest.mark.parametrize("kind", sorted(PACKETS))
async def test_a_packet_answers_those_it_is_for(world: World, kind: str) -> None:
    """Ada's own things alone; nothing before Hello; nothing any more once her credential has ended."""
    of_bob = (world.things["job_id"], world.things["live_id"])
    door = tcp.Door(world.house, idle_timeout=100_000.0)
    stranger = door.connect()
    assert told(await stranger.ask(**packet(kind, *of_bob))) == "HELLO_REQUIRED"
    for name in UNKNOWN:
        assert told(await stranger.greet(world.tokens[name])) == "UNAUTHENTICATED"
    ada = await door.client(world.tokens["ada"])
    assert told(await _first(ada, packet(kind, *of_bob))) == PACKETS[kind][1]
    bob = await door.client(world.tokens["bob"])
    assert told(await _first(bob, packet(kind, *of_bob))) not in NOT_THERE
    world.house.clock.advance(3601.0)
    ada.say(**packet(kind, *of_bob))
    heard = await ada.hear()  # whichever came first: the packet, or the look at who still listens
    assert [told(one) for one in heard] == ["UNAUTHENTICATED", "goodbye"]


async def _first(peer: tcp.Peer, message: dict[str, Any]) -> tcp.Heard:
    number = peer.say(**message)
    return next(heard for heard in await peer.hear() if heard.request_id == number)


DATAGRAMS: dict[str, tuple[Any, str, str]] = {
    "subscribe": (udp.Subscribe(job_id="B"), "JOB_NOT_FOUND", "subscribed"),
    "unsubscribe": (udp.Unsubscribe(job_id="B"), "unsubscribed", "unsubscribed"),
    "heartbeat": (udp.Heartbeat(), "alive", "alive"),
    "open_live": (udp.OpenLive(model="nobody's"), "MODEL_NOT_FOUND", "PERMISSION_DENIED"),
    "live_frame": (udp.LiveFrame(live_id="B"), "LIVE_NOT_FOUND", "PERMISSION_DENIED"),
    "close_live": (udp.CloseLive(live_id="B"), "LIVE_NOT_FOUND", "PERMISSION_DENIED"),
}
"""What each datagram asks of Bob's job, what Ada is answered, and what Bob is by a key that may read alone."""


def test_every_datagram_has_its_line() -> None:
    """Whoever adds one says here whose it is."""
    assert set(DATAGRAMS) == {one.name for one in udp.ClientDatagram.DESCRIPTOR.oneofs_by_name["message"].fields}


@pytest.mark.parametrize("kind", sorted(DATAGRAMS))
async def test_a_datagram_answers_those_it_is_for(world: World, kind: str) -> None:
    """Ada's own things alone, by what her credential is for; nobody hears anything once it has ended."""
    message, ada_s, reader_s = DATAGRAMS[kind]
    asked = type(message)()
    asked.CopyFrom(message)
    if getattr(message, "job_id", ""):
        asked.job_id = world.things["job_id"]
    site, directory = Site(world.house), world.house.rooms.directory
    ada = await directory.principal(world.tokens["ada"])
    bob = await directory.principal(world.tokens["bob"])
    reader = replace(bob, scopes=frozenset({Scope.READ}), user_id="")
    clients = [
        await site.proved(principal=ada, token=world.tokens["ada"]),
        await site.proved(principal=reader, port=40_002),
    ]
    answers = [await client.ask(**{kind: asked}) for client in clients]
    assert [one.refused.code_name or one.WhichOneof("message") for one in answers] == [ada_s, reader_s]
    world.house.clock.advance(3601.0)  # the key's end, and the credential's
    clients[0].send(**{kind: asked})
    await settle()
    assert [one.evicted.code_name for one in clients[0].heard()] == [
        "UNAUTHENTICATED"
    ]  # said when it ended, and no more


async def test_a_key_that_is_revoked_ends_its_connection_at_the_next_packet(world: World) -> None:
    """In this process at once, whatever the cache says."""
    rooms, door = world.house.rooms, tcp.Door(world.house)
    ada = await rooms.directory.principal(world.tokens["ada"])
    key, secret = await rooms.service.create_key(ada, "game", EVERYDAY, None, address=HERE)
    peer = await door.client(secret)
    assert told(await peer.ask(ping=pb.Ping())) == "pong"
    await rooms.service.revoke_key(ada, key.id, address=HERE)
    peer.say(ping=pb.Ping())
    assert [told(one) for one in await peer.hear()] == ["UNAUTHENTICATED", "goodbye"]


async def test_a_live_session_ends_with_its_key(world: World, theatre: Theatre) -> None:
    """Of who says nothing within a second, of who feeds it at the next frame; nobody hears more of it."""
    rooms, door = world.house.rooms, tcp.Door(world.house)
    ada = await rooms.directory.principal(world.tokens["ada"])
    for speaks in (True, False):
        key, secret = await rooms.service.create_key(ada, "game", EVERYDAY, None, address=HERE)
        peer = await door.client(secret)
        opened = (await peer.ask(open_live=pb.OpenLive(model="face"))).message
        peer.say(live_frame=pb.LiveFrame(live_id=opened.live_id, number=1, values=[0.5, 0.25]))
        assert await peer.hear() == []
        await rooms.service.revoke_key(ada, key.id, address=HERE)
        if speaks:
            peer.say(live_frame=pb.LiveFrame(live_id=opened.live_id, number=2, values=[0.5, 0.25]))
        else:
            await world.house.pass_time(EVERY)
        assert [told(one) for one in await peer.hear()] == ["UNAUTHENTICATED", "goodbye"]
        peer.transport.hang_up()
        with pytest.raises(Refusal) as caught:
            theatre.sessions.find("lovelace", opened.live_id)
        assert caught.value.code is Code.LIVE_NOT_FOUND


async def test_a_reading_key_submits_nothing_over_tcp(world: World) -> None:
    """PERMISSION_DENIED, and the connection lives on."""
    peer = await tcp.Door(world.house).client(world.tokens["reader"])
    for kind, answer in (
        ("submit", "PERMISSION_DENIED"),
        ("cancel", "PERMISSION_DENIED"),
        ("open_live", "PERMISSION_DENIED"),
        ("live_frame", "PERMISSION_DENIED"),
        ("watch_live", "LIVE_NOT_FOUND"),
        ("list_models", "models"),
    ):
        assert told(await peer.ask(**packet(kind, "x"))) == answer


async def test_packets_that_come_while_the_records_are_asked_wait_in_their_order(world: World) -> None:
    """Nothing is read meanwhile, and nothing is lost."""
    door = tcp.Door(world.house)
    world.house.rooms.directory._found.clear()
    peer = door.connect()
    hello = peer.frame(1, hello=pb.Hello(protocol_version=1, token=world.tokens["ada"]))
    pings = b"".join(peer.frame(number, ping=pb.Ping(client_time_us=number)) for number in (2, 3))
    peer.transport.deliver(hello + pings)
    assert [(one.request_id, one.kind) for one in await peer.hear()] == [(1, "welcome"), (2, "pong"), (3, "pong")]


async def test_what_a_key_changes_is_written_down_on_both_doors(world: World) -> None:
    """Who, by which key, what, on what and from where; what it only looked at is not."""
    rooms = world.house.rooms
    ada = await rooms.directory.principal(world.tokens["ada"])
    key, secret = await rooms.service.create_key(ada, "game", EVERYDAY, None, address=HERE)
    job_id = (await world.door.ask("POST", "/v1/jobs", JOB, token=secret, client="203.0.113.9")).json()["id"]
    await world.door.ask("GET", f"/v1/jobs/{job_id}", token=secret)
    await world.door.ask("POST", f"/v1/jobs/{job_id}/cancel", token=world.tokens["bob"])
    noted: list[tuple[str, str, str, str]] = []
    door = tcp.Door(world.house)
    parts = replace(
        door.parts,
        note=lambda principal, action, target, address: noted.append((principal.key_id, action, target, address)),
    )
    door.tcp = TcpDoor(parts, max_connections=9, max_per_address=9)
    peer = door.connect("198.51.100.7")
    await peer.greet(secret)
    for message in (pb.Envelope(cancel=pb.Cancel(job_id=job_id)), pb.Envelope(get_job=pb.GetJob(job_id=job_id))):
        name = str(message.WhichOneof("message"))
        await peer.ask(**{name: getattr(message, name)})
    assert noted == [(key.id, "tcp.cancel", job_id, "198.51.100.7")]
    await settle()
    log = [act for _, act in await rooms.records.acts(before=0, most=3, who="lovelace")]
    assert [(act.action, act.target, act.key_id, act.address) for act in log[:2]] == [
        ("http.post", "/v1/jobs", key.id, "203.0.113.9"),
        ("key.create", key.id, "", HERE),
    ]
