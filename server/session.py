"""How far a connection's login is, and why connections end. Two tables, which docs/protocol.md has as well.

greeting --welcome--> logged in --close--> closing --lost--> gone
   │ask                   │ask
asking (the records)   checking (the records, once more)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final

from server.errors import Code


class Login(Enum):
    """How far it is."""

    GREETING = "greeting"  # connected; nobody has logged in yet, or a login was refused
    ASKING = "asking"  # the records are asked who said Hello
    LOGGED_IN = "logged in"
    CHECKING = "checking"  # the records are asked whether who logged in may still be here
    CLOSING = "closing"  # Goodbye was said; the peer is to hang up
    GONE = "gone"


class Turn(Enum):
    """What takes it on."""

    ASK = "ask"
    ANSWERED = "answered"  # the records have: a good login is welcomed, another may be tried again
    WELCOME = "welcome"
    CLOSE = "close"
    LOST = "lost"


LOGINS: Final[Mapping[Login, Mapping[Turn, Login]]] = MappingProxyType(
    {
        Login.GREETING: {
            Turn.ASK: Login.ASKING, Turn.WELCOME: Login.LOGGED_IN, Turn.CLOSE: Login.CLOSING, Turn.LOST: Login.GONE,
        },
        Login.ASKING: {Turn.ANSWERED: Login.GREETING, Turn.CLOSE: Login.CLOSING, Turn.LOST: Login.GONE},
        Login.LOGGED_IN: {Turn.ASK: Login.CHECKING, Turn.CLOSE: Login.CLOSING, Turn.LOST: Login.GONE},
        Login.CHECKING: {Turn.ANSWERED: Login.LOGGED_IN, Turn.CLOSE: Login.CLOSING, Turn.LOST: Login.GONE},
        Login.CLOSING: {Turn.ANSWERED: Login.CLOSING, Turn.LOST: Login.GONE},  # an answer that comes too late
        Login.GONE: {Turn.ANSWERED: Login.GONE},
    },
)  # fmt: skip

HEARS: Final = frozenset({Login.GREETING, Login.LOGGED_IN})
"""Where messages are taken; elsewhere they wait, or are nobody's any more."""


class WrongTurn(Exception):
    """Our own mistake: a turn that the login cannot take now."""


class Session:
    """One connection's login. `hears`: whether messages are taken; `says`: whether anything may still be said."""

    __slots__ = ("hears", "login", "says")

    def __init__(self) -> None:
        self._enter(Login.GREETING)

    def turn(self, turn: Turn) -> None:
        """Go on. Raises WrongTurn."""
        after = LOGINS[self.login].get(turn)
        if after is None:
            raise WrongTurn(f"{turn.value} when {self.login.value}")
        self._enter(after)

    def _enter(self, login: Login) -> None:
        self.login = login
        self.hears = login in HEARS
        self.says = login not in (Login.CLOSING, Login.GONE)


class End(StrEnum):
    """Why a connection ended: the word in the log (`connection.lost`) and in `atelier_tcp_disconnects_total`."""

    SOCKET_CLOSED = "socket_closed"  # the peer hung up
    ERROR = "error"  # the network, the peer's machine, or a mistake of ours
    PING_TIMEOUT = "ping_timeout"
    SERVER_STOP = "server_stop"
    PAYLOAD_EXCEEDED = "payload_exceeded"
    RECEIVE_ERROR = "receive_error"  # a frame that was begun did not come whole
    DUPLICATE_LOGIN = "duplicate_login"
    LOGIN_TIMEOUT = "login_timeout"
    LOGIN_REFUSED = "login_refused"  # thrice, or one that was good has ended
    NOT_SERVED = "not_served"  # too many, or not from there: nothing was heard of it
    SLOW_READER = "slow_reader"


ENDS: Final[Mapping[Code, End]] = MappingProxyType(
    dict.fromkeys(Code, End.ERROR)
    | {
        Code.IDLE_TIMEOUT: End.PING_TIMEOUT,
        Code.UNAVAILABLE: End.SERVER_STOP,
        Code.FRAME_TOO_LARGE: End.PAYLOAD_EXCEEDED,
        Code.FRAME_TIMEOUT: End.RECEIVE_ERROR,
        Code.DUPLICATE_LOGIN: End.DUPLICATE_LOGIN,
        Code.HANDSHAKE_TIMEOUT: End.LOGIN_TIMEOUT,
        Code.PERMISSION_DENIED: End.NOT_SERVED,
        Code.TOO_MANY_CONNECTIONS: End.NOT_SERVED,
        Code.SLOW_READER: End.SLOW_READER,
    },
)
"""By the code with which the server closes it; a refused login has whichever code refused it (LOGIN_REFUSED)."""
