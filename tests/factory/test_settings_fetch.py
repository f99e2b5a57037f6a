"""Asking for settings: what is sent, and every way in which nothing comes back. The other side is a real socket."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from factory.settings_fetch import MOST_ANSWER, Unfetched, fetch

KEY = "s3cret-key-of-a-node-0123456789"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


class Other:
    """Says one thing to whoever asks, and remembers the question. `slowly`: a byte every tenth of a second."""

    def __init__(self, answer: bytes, *, slowly: bool = False) -> None:
        self._answer = answer
        self._slowly = slowly
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.asked = b""
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return
        with peer:
            while b"}" not in self.asked:
                if not (read := peer.recv(65_536)):
                    return
                self.asked += read
            try:
                for part in (bytes([byte]) for byte in self._answer) if self._slowly else [self._answer]:
                    peer.sendall(part)
                    if self._slowly:
                        time.sleep(0.1)
            except OSError:
                return  # it has hung up

    def close(self) -> None:
        """Let go."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@contextmanager
def other(answer: bytes, **how: bool) -> Iterator[Other]:
    """Somebody who answers."""
    made = Other(answer, **how)
    try:
        yield made
    finally:
        made.close()


def told(body: bytes) -> bytes:
    """An answer with this body."""
    return JSON % (len(body), body)


def unfetched(answer: bytes, seconds: float = 10.0, **how: bool) -> str:
    """Why nothing came."""
    with other(answer, **how) as there, pytest.raises(Unfetched) as caught:
        fetch(there.url, KEY, "base", seconds)
    assert KEY not in str(caught.value)
    return str(caught.value)


def test_a_question_names_the_path_and_shows_the_key() -> None:
    """As B's clients ask; below whatever path the address has."""
    with other(told(b'{"ATELIER_MAX_BATCH": 4}')) as there:
        assert fetch(f"{there.url}/below/", KEY, "groups/gpu", 10.0) == {"ATELIER_MAX_BATCH": 4}
    head, _, body = there.asked.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /below/fetch HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}".encode() in head
    assert json.loads(body) == {"configPath": "groups/gpu"}


def test_a_refusal_is_told_in_its_own_words() -> None:
    """Its code and message, on one line."""
    body: Any = {"error": {"code": "PERMISSION_DENIED", "message": "it needs\nsettings"}}
    text = json.dumps(body).encode()
    answer = told(text).replace(b"200 OK", b"403 Forbidden")
    assert unfetched(answer) == "status 403: PERMISSION_DENIED: it needs?settings"
    assert unfetched(told(b"<html>").replace(b"200 OK", b"502 Bad Gateway")) == "status 502"


def test_a_redirect_is_not_followed() -> None:
    """The key is for whoever was named."""
    with other(told(b"{}")) as elsewhere:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url}/fetch\r\nContent-Length: 0\r\n\r\n"
        assert unfetched(moved.encode()) == "status 302"
        assert elsewhere.asked == b""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (told(b"not json"), "the answer is not JSON"),
        (told(b"[" * 100_000), "the answer is not JSON"),
        (told(b"\xff"), "the answer is not JSON"),
        (told(b" " * (MOST_ANSWER + 1)), f"the answer has more than {MOST_ANSWER} bytes"),
        (b"", "Remote end closed connection without response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2??"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "the answer broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}", "IncompleteRead"),
    ],
)
def test_what_is_no_answer_is_none(answer: bytes, says: str) -> None:
    """And says what it was."""
    assert says in unfetched(answer)


def test_whoever_answers_byte_by_byte_holds_up_nobody() -> None:
    """The seconds are for the whole answer."""
    began = time.monotonic()
    assert unfetched(told(b"{}"), 0.3, slowly=True) == "no whole answer within 0.3 s"
    assert time.monotonic() - began < 5


def test_nobody_there_is_told() -> None:
    """A port on which nobody listens, a name that is none."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    with pytest.raises(Unfetched, match="Connection refused"):
        fetch(f"http://127.0.0.1:{port}", KEY, "base", 10.0)
    with pytest.raises(Unfetched, match="label"):
        fetch(f"http://{'a' * 64}.test", KEY, "base", 10.0)


def test_https_wants_a_certificate_that_is_good() -> None:
    """Somebody who speaks no TLS at all gets no key."""
    with other(told(b"{}")) as there:
        with pytest.raises(Unfetched):
            fetch(there.url.replace("http:", "https:"), KEY, "base", 0.5)
        assert KEY.encode() not in there.asked
