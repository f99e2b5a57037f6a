"""Webhooks from their settings: what is told of jobs, and how it gets to whom."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from config import Settings, SettingsError
from factory.joining import joined
from factory.records import Records
from server.addresses import ANYWHERE, Network
from server.clock import Clock
from server.job import Job
from server.outgoing import Outgoing
from server.pools import ThreadedPool
from server.webhook import Channel
from server.webhooks.admitting import WebhookCheck
from server.webhooks.calls import backend_base
from server.webhooks.delivery import Delivery, Sender
from server.webhooks.outcomes import Retrying
from server.webhooks.sending import Backend, HttpSender
from server.webhooks.telling import Telling

NEWS_SECONDS = 3.0  # for a call about progress, at most: the end of its job waits for it
CLAIM_MARGIN = 20.0  # seconds beyond a call's own until its outcome must have been recorded, or nobody knows it
NAMES_AT_ONCE = 8  # threads that look up names for users' receivers, whose name servers may be slow on purpose


class Webhooks:
    """`telling` says what is told, `check` whom a job may be told to. Raises SettingsError, when made."""

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        records: Records,
        live_job: Callable[[str], Job | None],
        said: Callable[[str], str],
        watch_sender: Callable[[Sender], Sender] = lambda sender: sender,
    ) -> None:
        if settings.backend_api_url and not settings.internal_api_token.get_secret_value():
            raise SettingsError(
                "INTERNAL_API_TOKEN: must be set with BACKEND_API_URL, which refuses every call without it"
            )
        clock = cast(Clock, reactor)
        self._reactor = reactor
        backend = Backend(backend_base(settings.backend_api_url), settings.internal_api_token)
        self._pools = [ThreadedPool("backend-name", 1), ThreadedPool("names", NAMES_AT_ONCE)]
        ways: list[tuple[Network, ...]] = [ANYWHERE, settings.outgoing_networks]
        trusted, guarded = (
            Outgoing(reactor, clock, pool, networks=networks) for pool, networks in zip(self._pools, ways, strict=True)
        )
        outbox = records.outbox(Channel.WEBHOOK)
        self.telling = Telling(
            outbox=outbox,
            live_job=live_job,
            said=said,
            backend_url=backend.url,
            clock=clock,
            door=settings.http_base_url,
        )
        self.check = WebhookCheck(
            signed=bool(settings.webhook_secret.get_secret_value()),
            networks=settings.outgoing_networks,
            backend_url=backend.url,
        )
        self.delivery = Delivery(
            outbox=outbox,
            sender=watch_sender(
                HttpSender(
                    trusted=trusted,
                    guarded=guarded,
                    backend=backend,
                    secret=settings.webhook_secret,
                    clock=clock,
                    seconds=settings.webhook_timeout,
                    news_seconds=min(NEWS_SECONDS, settings.webhook_timeout),
                )
            ),
            clock=clock,
            random=random.random,  # pauses, nothing to guess
            retrying=Retrying(
                first=settings.webhook_retry_first,
                longest=settings.webhook_retry_longest,
                give_up_after=settings.webhook_give_up_after,
            ),
            most=settings.webhook_connections,
            each=settings.webhook_connections_per_host,
            claim=settings.webhook_timeout + CLAIM_MARGIN,
            keep=settings.keep_finished_days * 86_400,
        )
        records.bell.wake(Channel.WEBHOOK, self.delivery.wake)

    def begin(self) -> None:
        """Tell what is to be told, from now on."""
        for pool in self._pools:
            pool.start()
        self.delivery.begin()

    async def stop(self, seconds: float) -> bool:
        """Tell what is to be told now, as far as that suffices; whether the threads ended."""
        await self.delivery.stop(seconds)
        return all([await joined(self._reactor, pool.stop) for pool in self._pools])
