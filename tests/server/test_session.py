"""The session rules that clients of TCP inference servers know: times, time-outs, second logins, and a reason for every end."""

from __future__ import annotations

import asyncio
import itertools
import re
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from twisted.internet.error import ConnectionLost

from proto import atelier_pb2 as pb
from server.errors import Code, Refusal
from server.identity import Identities
from server.principal import Principal
from server.session import ENDS, LOGINS, End, Login, Session, Turn, WrongTurn
from tests.server.door import Door, Peer
from tests.server.fakes import settle
from tests.server.house import ADA, TOKENS, House

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
STOPPED = Refusal(Code.UNAVAILABLE, "the server has stopped")
KEY = "atl_a-key-of-the-records-00000000"


class SlowRecords:
    """Knows one key, and says whose it is once it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.error: Exception | None = None
        self.is_fresh = True

    def knows(self, credential: str) -> bool:
        return credential == KEY

    def known(self, credential: str) -> Principal | None:
        return None

    async def principal(self, credential: str) -> Principal:
        await self.may.wait()
        if self.error is not None:
            raise self.error
        return Principal(owner=ADA, user_id="u-1")

    def fresh(self, principal: Principal) -> bool:
        return self.is_fresh


def slow_door() -> tuple[Door, SlowRecords]:
    """A door that has to ask for whom KEY is."""
    house, records = House(), SlowRecords()
    house.identities = Identities(TOKENS, records)
    return Door(house), records


def login_of(peer: Peer) -> Login:
    """How far a connection is."""
    found: Login = peer.protocol._session.login
    return found


# The table


def test_every_way_through_the_table_ends_where_nothing_is_heard_or_said() -> None:
    """From each state the end is reached by losing the connection, and nothing leads back from it."""
    assert set(LOGINS) == set(Login)
    for login, turns in LOGINS.items():
        assert set(turns) <= set(Turn)
        assert (Turn.LOST in turns) == (login is not Login.GONE)
    assert set(LOGINS[Login.GONE].values()) == {Login.GONE}
    assert set(LOGINS[Login.CLOSING].values()) == {Login.CLOSING, Login.GONE}


@pytest.mark.parametrize(("login", "turn"), list(itertools.product(Login, Turn)))
def test_a_turn_leads_where_the_table_says_and_any_other_is_our_mistake(login: Login, turn: Turn) -> None:
    """Every pair."""
    session = Session()
    session._enter(login)
    if turn in LOGINS[login]:
        session.turn(turn)
        assert session.login is LOGINS[login][turn]
    else:
        with pytest.raises(WrongTurn, match=f"{turn.value} when {login.value}"):
            session.turn(turn)
        assert session.login is login
    assert session.hears == (session.login in (Login.GREETING, Login.LOGGED_IN))
    assert session.says == (session.login not in (Login.CLOSING, Login.GONE))


def test_the_page_has_the_same_table() -> None:
    """docs/protocol.md: a row a state, in which every turn and where it leads."""
    rows = dict(re.findall(r"^\| `([a-z ]+)` \|[^|]*\| ((?:[a-z]+ → `[a-z ]+`(?:, )?)*) *\|$", PAGE, re.MULTILINE))
    told = {name: dict(re.findall(r"([a-z]+) → `([a-z ]+)`", row)) for name, row in rows.items()}
    assert told == {
        login.value: {turn.value: after.value for turn, after in turns.items()} for login, turns in LOGINS.items()
    }


async def test_a_connection_goes_through_the_table() -> None:
    """Greeted, asked for, logged in, asked for again, closed, gone."""
    door, records = slow_door()
    peer = door.connect()
    seen = [login_of(peer)]
    number = peer.say(hello=pb.Hello(protocol_version=1, token=KEY))
    await settle()
    seen.append(login_of(peer))
    records.may.set()
    assert [(one.request_id, one.kind) for one in await peer.hear()] == [(number, "welcome")]
    seen.append(login_of(peer))
    records.may.clear()
    records.is_fresh = False
    peer.say(ping=pb.Ping())
    await settle()
    seen.append(login_of(peer))
    records.may.set()
    assert [one.kind for one in await peer.hear()] == ["pong"]
    seen.append(login_of(peer))
    peer.protocol.close(STOPPED)
    seen.append(login_of(peer))
    await peer.hear()
    seen.append(login_of(peer))
    assert [login.value for login in seen] == [
        "greeting", "asking", "logged in", "checking", "logged in", "closing", "gone",
    ]  # fmt: skip


async def test_a_login_that_is_answered_when_its_connection_is_gone_puts_nobody_out() -> None:
    """It was exclusive, and would hold its name for ever."""
    door, records = slow_door()
    here = door.connect()
    await here.greet(client_name="studio", exclusive=True)
    for end in ("lost", "closed"):
        late = door.connect()
        late.say(hello=pb.Hello(protocol_version=1, token=KEY, client_name="studio", exclusive=True))
        await settle()
        if end == "lost":
            late.transport.hang_up()
        else:
            late.protocol.close(STOPPED)
        records.may.set()
        await settle()
        records.may.clear()
        assert (await here.ask(ping=pb.Ping())).kind == "pong"
        assert len(door.parts.exclusives) == 1
        await late.hear()


async def test_records_that_err_refuse_the_login_and_the_connection_lives_on() -> None:
    """By their own refusal; by ours where they are broken."""
    door, records = slow_door()
    records.may.set()
    peer = door.connect()
    for error, code in (
        (Refusal(Code.UNAVAILABLE, "not now"), "UNAVAILABLE"),
        (RuntimeError("a mistake of ours"), "INTERNAL_ERROR"),
    ):
        records.error = error
        answer = await peer.greet(KEY)
        assert (answer.kind, pb.ErrorCode.Name(answer.message.code)) == ("error", code)
    records.error = None
    assert (await peer.greet(KEY)).kind == "welcome"


# Times and time-outs


async def test_a_pong_has_the_server_s_utc_time() -> None:
    """In microseconds since 1970, beside the client's own as it came."""
    door = Door(idle_timeout=100_000.0)
    peer = await door.client()
    for at in (0.0, 1.5, 3600.000001):
        door.clock.advance(at)
        pong = (await peer.ask(ping=pb.Ping(client_time_us=77))).message
        assert (pong.client_time_us, pong.server_time_us) == (77, int(door.clock.seconds() * 1_000_000))


async def test_with_an_idle_time_out_of_ten_seconds_a_ping_every_two_keeps_a_connection() -> None:
    """And ten seconds without one end it, whatever else the server says: ATELIER_IDLE_TIMEOUT=10."""
    door = Door(idle_timeout=10.0)
    pinging, silent = await door.client(), await door.client()
    await door.job(silent, progress=True)
    for _ in range(30):
        door.clock.advance(2.0)
        assert (await pinging.ask(ping=pb.Ping())).kind == "pong"
    heard = await silent.hear()
    assert [pb.ErrorCode.Name(one.message.code) for one in heard[-2:]] == ["IDLE_TIMEOUT"] * 2
    assert not silent.transport.connected
    assert door.parts.counts.ends == {"ping_timeout": 1}


# A reason for every end


async def _socket_closed(door: Door, peer: Peer) -> None:
    peer.transport.hang_up()


async def _error(door: Door, peer: Peer) -> None:
    peer.transport._lose(ConnectionLost())


async def _ping_timeout(door: Door, peer: Peer) -> None:
    door.clock.advance(301.0)


async def _server_stop(door: Door, peer: Peer) -> None:
    await asyncio.gather(door.tcp.close_all(STOPPED), peer.hear())


async def _payload_exceeded(door: Door, peer: Peer) -> None:
    peer.transport.deliver(struct.pack(">I", (1 << 20) + 1))


async def _receive_error(door: Door, peer: Peer) -> None:
    peer.transport.deliver(peer.frame(1, ping=pb.Ping())[:-1])
    door.clock.advance(31.0)


async def _duplicate_login(door: Door, peer: Peer) -> None:
    later = door.connect()
    await later.greet(client_name="studio", exclusive=True)
    await peer.hear()
    later.transport.hang_up()


async def _login_refused(door: Door, peer: Peer) -> None:
    stranger = door.connect()
    for _ in range(3):
        stranger.say(hello=pb.Hello(protocol_version=1, token="wrong"))
    await stranger.hear()
    peer.transport.hang_up()


async def _login_timeout(door: Door, peer: Peer) -> None:
    stranger = door.connect()
    door.clock.advance(11.0)
    await stranger.hear()
    peer.transport.hang_up()


async def _not_served(door: Door, peer: Peer) -> None:
    await door.connect().hear()
    peer.transport.hang_up()


async def _slow_reader(door: Door, peer: Peer) -> None:
    peer.protocol.pauseProducing()
    door.clock.advance(61.0)


WAYS: dict[End, Callable[[Door, Peer], Awaitable[None]]] = {
    End.SOCKET_CLOSED: _socket_closed,
    End.ERROR: _error,
    End.PING_TIMEOUT: _ping_timeout,
    End.SERVER_STOP: _server_stop,
    End.PAYLOAD_EXCEEDED: _payload_exceeded,
    End.RECEIVE_ERROR: _receive_error,
    End.DUPLICATE_LOGIN: _duplicate_login,
    End.LOGIN_REFUSED: _login_refused,
    End.LOGIN_TIMEOUT: _login_timeout,
    End.NOT_SERVED: _not_served,
    End.SLOW_READER: _slow_reader,
}


@pytest.mark.parametrize("end", End)
async def test_an_end_is_counted_and_logged_by_its_reason(end: End) -> None:
    """Once; what the log says of a connection that was served is the same word."""
    door = Door(max_connections=1 if end is End.NOT_SERVED else 10)
    peer = door.connect()
    await peer.greet(client_name="studio", exclusive=True)
    with capture_logs() as said:
        await WAYS[end](door, peer)
        await peer.hear()
    ends: dict[str, int] = dict(door.parts.counts.ends)
    assert ends.pop(end.value) == 1
    assert ends in ({}, {"socket_closed": 1})  # of the other connection there
    if end is not End.NOT_SERVED:
        assert end.value in [line["reason"] for line in said if line["event"] == "connection.lost"]
    assert door.tcp.connections == 0


def test_every_code_has_its_reason() -> None:
    """None is left out when a code is added; the reasons of the page are these."""
    assert set(ENDS) == set(Code)
    told = re.findall(r"^\| [^|]*\| `([a-z_]+)` \|", PAGE, re.MULTILINE)
    assert sorted(told) == sorted(end.value for end in End)


def test_numbers_that_stand_for_nothing_here_are_never_sent() -> None:
    """CLIENT_NOT_FOUND, the wrong client token and ALREADY_LOGOUT: the page says what is sent in their place."""
    assert not {10003, 10005, 10007} & {code.value for code in Code}
    assert not {10003, 10005, 10007} & set(pb.ErrorCode.values())
    rows = re.findall(r"^\| (1000[0-9]|[01]) [A-Z_a-z ]+\|[^|]*\|$", PAGE, re.MULTILINE)
    assert rows == ["0", "1", "10001", "10002", "10003", "10004", "10005", "10006", "10007"]


async def test_what_other_servers_call_already_logged_out_is_a_closed_connection() -> None:
    """Nothing is answered after Goodbye: there is nobody to answer."""
    door = Door()
    peer = await door.client()
    peer.protocol.close(STOPPED)
    taken: Any = peer.transport.outgoing
    peer.protocol.dataReceived(peer.frame(9, ping=pb.Ping()))
    assert peer.transport.outgoing == taken
