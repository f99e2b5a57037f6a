"""Where the server may listen."""

from __future__ import annotations

from typing import Any

import pytest

from config import SettingsError, load_settings
from factory.listening import check_listening, read_endpoint

TOKENS = "ada:s3cret-ada-0123456789"
LOOPBACK = [
    "tcp:9000:interface=127.0.0.1",
    "tcp:0:interface=127.8.9.1",
    "tcp:port=9000:interface=localhost",
    "tcp6:9000:interface=\\:\\:1",
    "tcp:9000:interface=\\:\\:ffff\\:127.0.0.1",
    "tcp:interface=127.0.0.1:port=9000:backlog=10",
    "unix:/run/atelier.sock",
    "unix:address=/run/atelier.sock:mode=660",
]
OPEN = [
    "tcp:9000",
    "tcp:0",
    "tcp6:9000",
    "tcp:9000:interface=0.0.0.0",
    "tcp:9000:interface=10.0.0.1",
    "tcp6:9000:interface=\\:\\:",
    "tcp:9000:interface=",
    "tcp:9000:0.0.0.0",
    "tcp:9000:interface=127.0.0.1.example.org",
    "systemd:domain=INET:index=0",
]
ENCRYPTED = [
    "ssl:9000:privateKey=k.pem:certKey=c.pem",
    "ssl:9000:interface=0.0.0.0:privateKey=k.pem",
    "tls:9000",
]


@pytest.mark.parametrize("endpoint", LOOPBACK)
def test_this_machine_s_own_addresses_need_nothing(endpoint: str) -> None:
    """Neither tokens nor TLS."""
    check_listening(load_settings(tcp_listen=endpoint))


@pytest.mark.parametrize("endpoint", OPEN + ENCRYPTED)
def test_any_other_address_needs_tokens(endpoint: str) -> None:
    """Also with TLS and with plain text allowed; the message names the variables and the way out."""
    with pytest.raises(SettingsError, match=r"ATELIER_TCP_LISTEN: .* needs tokens: set ATELIER_TOKENS"):
        check_listening(load_settings(tcp_listen=endpoint, allow_plaintext=True))


@pytest.mark.parametrize("endpoint", OPEN)
def test_any_other_address_needs_tls_or_an_explicit_word(endpoint: str) -> None:
    """Tokens alone would travel in plain text."""
    with pytest.raises(SettingsError, match="ATELIER_ALLOW_PLAINTEXT"):
        check_listening(load_settings(tcp_listen=endpoint, tokens=TOKENS))
    check_listening(load_settings(tcp_listen=endpoint, tokens=TOKENS, allow_plaintext=True))


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"http_listen": "tcp:8001"}, "ATELIER_HTTP_LISTEN"),
        ({"http_host": "0.0.0.0"}, "ATELIER_HTTP_HOST"),
        ({"http_host": "::"}, "ATELIER_HTTP_HOST"),
    ],
)
def test_the_http_door_needs_as_much(given: dict[str, Any], variable: str) -> None:
    """Tokens, or a name for who has none; TLS, or a word that there is none; nothing where it is off, or on loopback."""
    with pytest.raises(
        SettingsError,
        match=f"{variable}: .* needs tokens: set ATELIER_TOKENS, ATELIER_REQUIRE_ACCOUNT or ATELIER_HTTP_ANON",
    ):
        check_listening(load_settings(**given, allow_plaintext=True))
    with pytest.raises(SettingsError, match=f"{variable}: .*ATELIER_ALLOW_PLAINTEXT"):
        check_listening(load_settings(**given, tokens=TOKENS))
    check_listening(load_settings(**given, tokens=TOKENS, allow_plaintext=True))
    check_listening(load_settings(**given, http_anonymous_owner="guest", allow_plaintext=True))
    check_listening(load_settings(http_listen="off"))
    check_listening(load_settings(http_host="::1"))


def test_an_endpoint_is_taken_apart() -> None:
    """Its colons, its port by place or by name, its files; one without a port is refused with the variable's name."""
    found = read_endpoint("tcp6:8001:interface=\\:\\:1", "X")
    assert (found.kind, found.port, found.interface) == ("tcp6", 8001, "::1")
    found = read_endpoint("ssl:interface=127.0.0.1:port=0:privateKey=k.pem", "X")
    assert (found.port, found.options["privateKey"]) == (0, "k.pem")
    for endpoint in ("tcp:", "tcp:nine", "tcp:70000", "tcp:interface=127.0.0.1"):
        with pytest.raises(SettingsError, match=r"X: .* a port is a number"):
            read_endpoint(endpoint, "X")


@pytest.mark.parametrize("endpoint", ENCRYPTED)
def test_with_tokens_and_tls_every_address_may_be_served(endpoint: str) -> None:
    """Without any further word."""
    check_listening(load_settings(tcp_listen=endpoint, tokens=TOKENS))
