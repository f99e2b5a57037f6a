"""Whom a job may be told to, as far as is known before anybody is called."""

from __future__ import annotations

import ipaddress

import pytest

from server.errors import Code, Refusal
from server.webhook import HookEvent, HookKind, Webhook
from server.webhooks.admitting import MAX_URL, WebhookCheck

CHECK = WebhookCheck(signed=True, networks=(), backend_url="")


def generic(url: str, *events: HookEvent) -> Webhook:
    """Somebody's own address."""
    return Webhook(kind=HookKind.GENERIC, url=url, events=frozenset(events or HookEvent))


@pytest.mark.parametrize(
    "url", ["https://hooks.test/x?token=1", "http://hooks.test:8080", "https://8.8.8.8/", "http://127.1/"]
)
def test_a_name_may_be_called_until_it_is_known_where_it_leads(url: str) -> None:
    """Which is looked at when it is called; so is a number that only a resolver takes for an address."""
    CHECK(generic(url))
    CHECK(Webhook(kind=HookKind.BACKEND, url=url))


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.test", "ftp://hooks.test", "https://me:secret@hooks.test/", "https://hooks.test/a b", "https://h.test/\n",
        "http://169.254.169.254/latest", "http://127.0.0.1/", "http://[::1]/", "http://[::ffff:169.254.169.254]/",
        "http://10.0.0.1:8080/", f"https://hooks.test/{'x' * MAX_URL}",
    ],
)  # fmt: skip
def test_what_can_never_be_called_is_refused(url: str) -> None:
    """With the field's name, and without what may be secret in it."""
    with pytest.raises(Refusal) as refused:
        CHECK(generic(f"{url}?token=hush" if url else url))
    assert (refused.value.code, refused.value.field) == (Code.INVALID_PARAMETER, "webhook.url")
    assert "hush" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_address_that_the_operator_allows_may_be_called() -> None:
    """A private network's, say."""
    allowed = (ipaddress.ip_network("10.0.0.0/8"),)
    WebhookCheck(signed=True, networks=allowed, backend_url="")(generic("http://10.0.0.1/"))


def test_nobody_is_told_without_a_signature() -> None:
    """Anybody could tell the same: there has to be a secret first. A backend has its token."""
    check = WebhookCheck(signed=False, networks=(), backend_url="")
    with pytest.raises(Refusal, match="ATELIER_WEBHOOK_SECRET") as refused:
        check(generic("https://hooks.test"))
    assert refused.value.field == "webhook"
    check(Webhook(kind=HookKind.BACKEND))


def test_who_asks_for_nothing_is_asked_what_is_meant() -> None:
    """A webhook for no event is a mistake."""
    with pytest.raises(Refusal, match=r"start, progress, completed"):
        CHECK(Webhook(kind=HookKind.GENERIC, url="https://hooks.test", events=frozenset()))


def test_the_backend_s_own_address_may_be_on_a_private_network() -> None:
    """In a message of the backend; not in a user's webhook, nor on another port of that machine."""
    check = WebhookCheck(signed=True, networks=(), backend_url="http://10.0.0.1:3000")
    check(Webhook(kind=HookKind.BACKEND, url="http://10.0.0.1:3000/api"))
    for hook in (generic("http://10.0.0.1:3000/"), Webhook(kind=HookKind.BACKEND, url="http://10.0.0.1:3001/")):
        with pytest.raises(Refusal):
            check(hook)
