"""May a job be told to an address: what can be known of it before anybody is called."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from server.addresses import AddressRefused, Network, check_url, is_public
from server.errors import Refusal
from server.webhook import HookKind, Webhook
from server.webhooks.calls import origin

MAX_URL = 2000  # characters; some receivers' own servers take no more


class WebhookCheck:
    """Raises Refusal for what could never be told. Names are resolved when they are called, and then checked again."""

    def __init__(self, *, signed: bool, networks: Sequence[Network], backend_url: str) -> None:
        self._backend = origin(backend_url)
        self._signed = signed
        self._networks = networks

    def __call__(self, hook: Webhook) -> None:
        """Without asking anybody."""
        if hook.kind is HookKind.BACKEND and not hook.url:
            return
        if hook.kind is HookKind.GENERIC:
            self._check_generic(hook)
        if len(hook.url) > MAX_URL:
            raise Refusal.invalid("webhook.url", f"at most {MAX_URL} characters", hook.url)
        try:
            host, _ = check_url(hook.url)
        except AddressRefused as error:
            raise Refusal.invalid("webhook.url", f"an address that may be called ({error})", _shown(hook.url)) from None
        if hook.kind is HookKind.BACKEND and origin(hook.url) == self._backend != "":
            return  # the operator's own, on whatever network
        if _is_address(host) and not is_public(host, self._networks):
            raise Refusal.invalid("webhook.url", "an address on the public Internet", _shown(hook.url))

    def _check_generic(self, hook: Webhook) -> None:
        if not self._signed:
            limit = "left out: this server has no ATELIER_WEBHOOK_SECRET to sign webhooks with"
            raise Refusal.invalid("webhook", limit, _shown(hook.url))
        if not hook.events:
            raise Refusal.invalid("webhook.events", "at least one of start, progress, completed", [])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _shown(url: str) -> str:
    """Without what may be a secret in it."""
    return url.partition("?")[0].rpartition("@")[2]
