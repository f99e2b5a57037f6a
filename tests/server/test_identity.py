"""Tokens to owners, and which addresses are this machine's own."""

from __future__ import annotations

import hmac

import pytest
from pydantic import SecretStr

from server.errors import Code, Refusal
from server.identity import FORWARDED, LOCAL_OWNER, Identities, comes_from_here, host_name, is_loopback
from server.principal import Principal

ADA, BOB = "ada-token-0123456789", "bob-token-0123456789"


@pytest.mark.parametrize(
    "host",
    ["", "127.0.0.1", "127.8.9.1", "127.255.255.254", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f01:203",
     "::1%lo", "localhost"],
)  # fmt: skip
def test_this_machine_s_own_addresses(host: str) -> None:
    """Every form in which a loopback address can come, and a UNIX socket, counts as this machine."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "10.0.0.1", "192.168.1.7", "128.0.0.1", "126.255.255.255", "2001:db8::1", "fe80::1%eth0",
     "::ffff:10.0.0.1", "::ffff:0.0.0.0", "::127.0.0.1", "localhost.example.org", "127.0.0.1.example.org", "0x7f.1", "*"],
)  # fmt: skip
def test_every_other_address_is_foreign(host: str) -> None:
    """What only looks like loopback is not."""
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("Paint.Test:81", "paint.test"),
        ("[::1]:8001", "::1"),
        ("", ""),
        (":80", ""),
        ("[", None),
        ("[::1", None),
        ("]", None),
    ],
)
def test_a_host_header_has_a_name_or_cannot_be_read(authority: str, name: str | None) -> None:
    """It never raises: strangers write it."""
    assert host_name(authority) == name


def test_a_request_comes_from_here_by_a_name_of_this_machine_and_through_no_proxy() -> None:
    """One rule for the door and for the metrics."""
    assert comes_from_here({"host": "localhost:8001"})
    for headers in ({"host": "evil.test"}, {"host": "["}, *({"host": "localhost", name: ""} for name in FORWARDED)):
        assert not comes_from_here(headers)


def test_without_tokens_only_this_machine_is_served() -> None:
    """As one owner, whatever token it shows."""
    nobody = Identities({})
    assert nobody.serves("127.0.0.1")
    assert nobody.serves("::1")
    assert not nobody.serves("10.0.0.1")
    for token in ("", "whatever"):
        principal = nobody.known(token)
        assert principal is not None
        assert principal.owner == LOCAL_OWNER
        assert not principal.is_admin


def test_with_tokens_every_address_is_served_by_its_token() -> None:
    """Each token stands for its owner, on loopback too."""
    identities = Identities({"ada": SecretStr(ADA), "bob": SecretStr(BOB)})
    assert identities.serves("10.0.0.1")
    assert identities.serves("127.0.0.1")
    assert identities.known(ADA) == Principal(owner="ada")
    assert identities.known(BOB) == Principal(owner="bob")


@pytest.mark.parametrize("token", ["", ADA[:-1], ADA + "0", ADA.upper(), " " + ADA, "\ud800", "ada"])
def test_a_wrong_token_is_refused_without_being_shown(token: str) -> None:
    """UNAUTHENTICATED, field token; neither the given nor a right token is in the text."""
    with pytest.raises(Refusal) as caught:
        Identities({"ada": SecretStr(ADA)}).known(token)
    assert (caught.value.code, caught.value.field) == (Code.UNAUTHENTICATED, "token")
    assert ADA[:-1] not in repr(caught.value)


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All digests are compared, of one length each, also after a match: time tells nothing of where a token stands."""
    compared: list[tuple[bytes, bytes]] = []
    original = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return original(one, other)

    identities = Identities({"ada": SecretStr(ADA), "bob": SecretStr(BOB)})
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert identities.known(ADA) == Principal(owner="ada")
    with pytest.raises(Refusal):
        identities.known("x")
    assert len(compared) == 4
    assert {len(digest) for pair in compared for digest in pair} == {32}


def test_tokens_themselves_are_not_kept() -> None:
    """Only digests stay in memory."""
    assert ADA not in repr(vars(Identities({"ada": SecretStr(ADA)})))
