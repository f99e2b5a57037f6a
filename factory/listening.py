"""Where the server may listen: other machines only with tokens, and only with TLS unless plain text is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from config import Settings, SettingsError
from server.identity import is_loopback

_UNENCRYPTED = ("tcp", "tcp6", "systemd")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint string such as "tcp:9000:interface=\\:\\:1", taken apart."""

    kind: str
    port: int
    options: Mapping[str, str]

    @property
    def interface(self) -> str:
        """The address; "" for all of them."""
        return self.options.get("interface", "")


def check_listening(settings: Settings) -> None:
    """Raise SettingsError where an address, the tokens and the encryption do not go together."""
    _check_metrics(settings)
    known = bool(settings.tokens or settings.require_account)
    ways = "set ATELIER_TOKENS or ATELIER_REQUIRE_ACCOUNT"
    _check(settings, settings.tcp_listen, "ATELIER_TCP_LISTEN", ways, known=known)
    if settings.http_endpoint():
        name = "ATELIER_HTTP_LISTEN" if settings.http_listen else "ATELIER_HTTP_HOST"
        known = known or bool(settings.http_anonymous_owner)
        ways = "set ATELIER_TOKENS, ATELIER_REQUIRE_ACCOUNT or ATELIER_HTTP_ANONYMOUS_OWNER"
        _check(settings, settings.http_endpoint(), name, ways, known=known)
    if settings.udp:
        _check_udp(settings)


def _check(settings: Settings, endpoint: str, name: str, ways: str, *, known: bool) -> None:
    kind, options = _parts(endpoint)[0], _options(endpoint)
    interface = options.get("interface", "")
    if kind == "unix" or (interface and is_loopback(interface)):
        return
    where = interface or "all addresses"
    if not known:
        raise SettingsError(f"{name}: listening on {where} needs tokens: {ways}, or add interface=127.0.0.1")
    if kind in _UNENCRYPTED and not settings.allow_plaintext:
        raise SettingsError(
            f"{name}: listening on {where} without TLS would show tokens to the network: "
            "use an ssl: endpoint, or set ATELIER_ALLOW_PLAINTEXT=true if something else encrypts"
        )


def _check_udp(settings: Settings) -> None:
    """Keys come by TCP, so only those who are known there have one; what is said to them can be read on the way."""
    if is_loopback(settings.udp_host):
        return
    if not (settings.tokens or settings.require_account):
        raise SettingsError(
            f"ATELIER_UDP_HOST: listening on {settings.udp_host} needs tokens: set ATELIER_TOKENS or ATELIER_REQUIRE_ACCOUNT, "
            "or leave it at 127.0.0.1"
        )
    if not settings.allow_plaintext:
        raise SettingsError(
            f"ATELIER_UDP_HOST: datagrams from {settings.udp_host} are signed, not encrypted: the network can read results. "
            "Set ATELIER_ALLOW_PLAINTEXT=true if it may"
        )


def read_endpoint(endpoint: str, name: str) -> Endpoint:
    """For a door that binds its socket itself. Raises SettingsError, which names the variable."""
    kind, *rest = _parts(endpoint)
    options = _options(endpoint)
    port = options.get("port", rest[0] if rest and "=" not in rest[0] else "")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise SettingsError(f"{name}: {endpoint}: a port is a number from 0 to 65535")
    return Endpoint(kind, int(port), options)


def _parts(endpoint: str) -> list[str]:
    return [part.replace("\0", ":") for part in endpoint.replace("\\:", "\0").split(":")]


def _options(endpoint: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in _parts(endpoint)[1:] if "=" in part)


def _check_metrics(settings: Settings) -> None:
    if not settings.metrics_listen or settings.metrics_token.get_secret_value():
        return
    kind = _parts(settings.metrics_listen)[0]
    interface = _options(settings.metrics_listen).get("interface", "")
    if kind != "unix" and not (interface and is_loopback(interface)):
        raise SettingsError(
            f"ATELIER_METRICS_LISTEN: nobody could read what is served on {interface or 'all addresses'}: "
            "set ATELIER_METRICS_TOKEN, or add interface=127.0.0.1"
        )
