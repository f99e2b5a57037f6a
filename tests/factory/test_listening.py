"""Where the server may listen."""

from __future__ import annotations

import pytest

from config import SettingsError, load_settings
from factory.listening import check_listening

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


@pytest.mark.parametrize("endpoint", ENCRYPTED)
def test_with_tokens_and_tls_every_address_may_be_served(endpoint: str) -> None:
    """Without any further word."""
    check_listening(load_settings(tcp_listen=endpoint, tokens=TOKENS))
