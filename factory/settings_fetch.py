"""One question to a node that hands out settings, asked before there is a reactor; nothing of it outlives its seconds."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

MOST_ANSWER = 1 << 20  # bytes: every setting of a node has 20 kB
SHOWN = 300  # characters of what the other side says


class Unfetched(Exception):
    """No settings came; the text says why, and holds no key."""


def fetch(url: str, key: str, path: str, seconds: float) -> Any:
    """What is handed out at a path. No redirect is followed: the key is for the server that was named. Raises Unfetched."""
    outcomes: list[Any] = []
    parts = urlsplit(url)
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, seconds)

    def ask() -> None:
        try:
            outcomes.append(_asked(connection, f"{parts.path.rstrip('/')}/fetch", key, path))
        except Unfetched as unfetched:
            outcomes.append(unfetched)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a host that is no name
            outcomes.append(Unfetched(_shown(getattr(error, "strerror", None) or str(error) or type(error).__name__)))

    asking = threading.Thread(target=ask, name="settings_fetch", daemon=True)
    asking.start()
    asking.join(seconds)
    if not outcomes:
        with suppress(OSError, AttributeError):  # it has ended just now, or has no socket yet
            connection.sock.shutdown(socket.SHUT_RDWR)
        raise Unfetched(f"no whole answer within {seconds:g} s")
    if isinstance(outcomes[0], Unfetched):
        raise outcomes[0]
    return outcomes[0]


def _connection(scheme: str, host: str, port: int | None, seconds: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=seconds)


def _asked(connection: http.client.HTTPConnection, target: str, key: str, path: str) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Accept": "application/json"}
    try:
        connection.request("POST", target, json.dumps({"configPath": path}), headers)
        response = connection.getresponse()
        body, left = response.read(MOST_ANSWER + 1), response.length
    finally:
        connection.close()
    if len(body) > MOST_ANSWER:
        raise Unfetched(f"the answer has more than {MOST_ANSWER} bytes")
    if left:  # read() says nothing of it
        raise Unfetched("the answer broke off")
    if response.status != 200:
        raise Unfetched(f"status {response.status}{_reason(body)}")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unfetched("the answer is not JSON") from None


def _reason(body: bytes) -> str:
    """What an answer of ours says of a refusal; "" where it is another's."""
    try:
        error = json.loads(body)["error"]
        return _shown(f": {error['code']}: {error['message']}")
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def _shown(text: str) -> str:
    """On one line of a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text[:SHOWN])
