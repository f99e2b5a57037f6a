"""Who may read the metrics."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from server.errors import Code, Refusal
from server.metrics.access import Access

TOKEN = "a-token-of-operators"
OPEN, CLOSED = Access(SecretStr("")), Access(SecretStr(TOKEN))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "", "::ffff:127.0.0.1"])
def test_without_a_token_this_machine_s_programs_may(host: str) -> None:
    """Also by a UNIX socket, which has no host."""
    OPEN.check(host, {})


@pytest.mark.parametrize("host", ["10.1.2.3", "192.0.2.1", "2001:db8::1"])
def test_without_a_token_nobody_else_may(host: str) -> None:
    """Though they brought one."""
    with pytest.raises(Refusal) as refused:
        OPEN.check(host, {"authorization": f"Bearer {TOKEN}"})
    assert refused.value.code is Code.PERMISSION_DENIED


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "via"])
def test_a_proxy_on_this_machine_lets_nobody_in(header: str) -> None:
    """Who is behind it is not this machine."""
    with pytest.raises(Refusal) as refused:
        OPEN.check("127.0.0.1", {header: "192.0.2.1"})
    assert refused.value.code is Code.PERMISSION_DENIED


def test_a_web_page_whose_name_leads_here_may_not() -> None:
    """A browser on this machine would carry its requests; by a name of this machine it may."""
    for name in ("localhost:9100", "127.0.0.1", "[::1]:9100"):
        OPEN.check("127.0.0.1", {"host": name})
    for name in ("evil.example:9100", "["):
        with pytest.raises(Refusal) as refused:
            OPEN.check("127.0.0.1", {"host": name})
        assert refused.value.code is Code.PERMISSION_DENIED


def test_with_a_token_whoever_has_it_may_from_anywhere() -> None:
    """Through a proxy too."""
    CLOSED.check("192.0.2.1", {"authorization": f"Bearer {TOKEN}", "via": "1.1 proxy"})
    CLOSED.check("127.0.0.1", {"authorization": f"bearer  {TOKEN}"})


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer \udcff"])
def test_with_a_token_nobody_may_without_it(given: str) -> None:
    """Nor this machine's own programs: one of them may be a proxy. The token is not in the refusal."""
    with pytest.raises(Refusal) as refused:
        CLOSED.check("127.0.0.1", {"authorization": given} if given else {})
    assert refused.value.code is Code.UNAUTHENTICATED
    assert TOKEN not in str(refused.value)
