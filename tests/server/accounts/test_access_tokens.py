"""Access tokens: what is taken, and every forgery that is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from twisted.internet.task import Clock

from server.accounts.access_tokens import AUDIENCE, AccessTokens, looks_like_one
from server.errors import Code, Refusal

NOW = 1_700_000_000.0
SECRET, OTHER = b"a server's secret of more than 32 bytes", b"another secret of more than 32 bytes, yes"


def a_clock(at: float = NOW) -> Any:
    """At that time."""
    clock = Clock()
    clock.advance(at)
    return clock


def issuing(*secrets: bytes, clock: Any = None, issuer: str = "here", seconds: float = 600.0) -> AccessTokens:
    """A server with these secrets."""
    tokens = AccessTokens(clock or a_clock(), issuer=issuer, seconds=seconds)
    tokens.sign_with(secrets or (SECRET,))
    return tokens


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims."""
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))


def forged(header: dict[str, Any], claims: dict[str, Any], key: bytes = b"") -> str:
    """Signed by hand, with HMAC-SHA256, whatever the header says; without a key not at all."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.digest(key, b".".join(parts), "sha256") if key else b""
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def signing_key(secret: bytes = SECRET) -> bytes:
    """What the server makes of its secret."""
    return hmac.digest(secret, b"atelier access tokens", hashlib.sha256)


def refused(tokens: AccessTokens, token: str) -> None:
    """UNAUTHENTICATED, and the same words whatever is wrong."""
    with pytest.raises(Refusal) as caught:
        tokens.read(token)
    assert (caught.value.code, caught.value.message) == (Code.UNAUTHENTICATED, "this token is not known here")


def test_a_token_says_whose_it_is_and_until_when() -> None:
    """Signed by HS256, with every claim."""
    tokens = issuing()
    token = tokens.issue("user-1")
    header, claims = parts_of(token)
    assert looks_like_one(token)
    assert (header["alg"], claims["aud"], claims["iss"], claims["sub"]) == ("HS256", AUDIENCE, "here", "user-1")
    assert claims["jti"] != parts_of(tokens.issue("user-1"))[1]["jti"]
    assert (found := tokens.read(token)).user_id == "user-1"
    assert (found.issued_at, found.expires_at) == (NOW, NOW + 600)


def test_the_forgery_of_these_tests_is_otherwise_a_good_token() -> None:
    """So that what refuses the others is what is wrong with them."""
    header, claims = parts_of(issuing().issue("user-1"))
    assert issuing().read(forged(header, claims, signing_key())).user_id == "user-1"


@pytest.mark.parametrize("algorithm", ["none", "None", "HS384", "HS512", "RS256", "hs256", ""])
def test_another_algorithm_is_refused(algorithm: str) -> None:
    """None at all first of all; the header does not choose."""
    header, claims = parts_of(issuing().issue("user-1"))
    for key in (b"", signing_key()):
        refused(issuing(), forged({**header, "alg": algorithm}, claims, key))


@pytest.mark.parametrize("claim", ["exp", "iat", "sub", "aud", "iss", "jti"])
def test_a_token_without_a_claim_is_refused(claim: str) -> None:
    """PyJWT alone would take one that never ends."""
    header, claims = parts_of(issuing().issue("user-1"))
    del claims[claim]
    refused(issuing(), forged(header, claims, signing_key()))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"}, {"aud": []}, {"iss": "elsewhere"}, {"iss": None}, {"sub": None}, {"sub": 7},
        {"exp": NOW}, {"exp": NOW - 1}, {"exp": NOW + 10 * 365 * 86_400}, {"exp": "never"}, {"exp": None}, {"exp": True},
        {"exp": float("nan")}, {"exp": float("inf")}, {"iat": NOW + 60}, {"iat": NOW + 10**9, "exp": NOW + 10**9 + 1},
        {"iat": "now"}, {"iat": None}, {"iat": float("-inf")},
    ],
)  # fmt: skip
def test_a_claim_that_is_not_ours_is_refused(claims: dict[str, Any]) -> None:
    """Another audience or issuer, times that are over, to come, too far apart or none."""
    header, own = parts_of(issuing().issue("user-1"))
    refused(issuing(), forged(header, {**own, **claims}, signing_key()))


def test_another_key_is_refused() -> None:
    """Another server's, the bare secret, nothing; and the header cannot name a key."""
    header, claims = parts_of(issuing().issue("user-1"))
    for key in (signing_key(OTHER), SECRET, b""):
        refused(issuing(), forged(header, claims, key))
    for kid in (None, "", "0" * 16, ["a"], "../../dev/null"):
        refused(issuing(), forged({**header, "kid": kid}, claims, signing_key()))
    refused(issuing(), forged({**header, "jwk": {"kty": "oct", "k": "AAAA"}}, claims, b"\0\0\0"))
    refused(issuing(), issuing(OTHER).issue("user-1"))


def test_a_token_of_an_earlier_secret_holds_until_that_is_taken_away() -> None:
    """Rotation: what is new is signed by the new one; nobody is logged out."""
    old = issuing(SECRET).issue("user-1")
    both = issuing(OTHER, SECRET)
    assert both.read(old).user_id == "user-1"
    assert parts_of(both.issue("user-1"))[0]["kid"] != parts_of(old)[0]["kid"]
    refused(issuing(OTHER), old)


def test_a_token_ends() -> None:
    """To the second, by the server's clock; another node's may be a little ahead."""
    clock = a_clock()
    tokens = issuing(clock=clock)
    token, ahead = tokens.issue("user-1"), issuing(clock=a_clock(NOW + 4)).issue("user-1")
    assert tokens.read(ahead).issued_at == NOW + 4
    clock.advance(599)
    tokens.read(token)
    clock.advance(1)
    refused(tokens, token)


@pytest.mark.parametrize("text", ["", "a.b.c", "eyJ.eyJ.", "eyJhbGciOiJIUzI1NiJ9..", "..", "eyJ" + "x" * 5000 + ".a.b"])
def test_what_is_no_token_is_refused(text: str) -> None:
    """Without anything but a refusal."""
    refused(issuing(), text)


def test_a_server_that_has_not_read_its_secret_knows_nothing() -> None:
    """Nor does it sign with an empty one."""
    tokens = AccessTokens(a_clock(), issuer="here", seconds=600)
    refused(tokens, issuing().issue("user-1"))
    with pytest.raises(StopIteration):
        tokens.issue("user-1")


def test_a_token_is_what_any_library_reads() -> None:
    """It is plain RFC 7519."""
    token = issuing().issue("user-1")
    assert jwt.decode(token, signing_key(), ["HS256"], {"verify_exp": False}, audience=AUDIENCE)["sub"] == "user-1"
