"""Where the server may listen: other machines only with tokens, and only with TLS unless plain text is asked for."""

from __future__ import annotations

from config import Settings, SettingsError
from server.identity import is_loopback

_UNENCRYPTED = ("tcp", "tcp6", "systemd")


def check_listening(settings: Settings) -> None:
    """Raise SettingsError where the address, the tokens and the encryption do not go together."""
    kind, interface = _kind_and_interface(settings.tcp_listen)
    if kind == "unix" or (interface and is_loopback(interface)):
        return
    where = interface or "all addresses"
    if not settings.tokens:
        raise SettingsError(
            f"ATELIER_TCP_LISTEN: listening on {where} needs tokens: set ATELIER_TOKENS, or add interface=127.0.0.1"
        )
    if kind in _UNENCRYPTED and not settings.allow_plaintext:
        raise SettingsError(
            f"ATELIER_TCP_LISTEN: listening on {where} without TLS would show tokens to the network: "
            "use an ssl: endpoint, or set ATELIER_ALLOW_PLAINTEXT=true if something else encrypts"
        )


def _kind_and_interface(endpoint: str) -> tuple[str, str]:
    """From an endpoint string such as "tcp:9000:interface=\\:\\:1"; a backslash keeps a colon."""
    parts = endpoint.replace("\\:", "\0").split(":")
    options = dict(part.partition("=")[::2] for part in parts[1:] if "=" in part)
    return parts[0], options.get("interface", "").replace("\0", ":")
