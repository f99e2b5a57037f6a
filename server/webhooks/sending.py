"""One call by HTTP: what it carries, to whom it may go, and what is known of it afterwards.

The backend of the settings is trusted: it may be on a private network, and it alone is given the token. Every other address was
given by a user, and is called only where it leads to the public Internet (server.outgoing). A redirect is an answer like another:
nothing follows it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import SecretStr
from standardwebhooks import Webhook as Signer

from server.addresses import AddressRefused, NotSent
from server.clock import Clock
from server.outgoing import Answer, Outgoing
from server.webhook import HookKind, OutboxCall
from server.webhook_secrets import owner_secret
from server.webhooks.calls import TRUSTED, HttpCall

LONGEST_RETRY_AFTER = 86_400.0  # seconds; a receiver that asks for more has not thought of us
EXCERPT = 200  # characters of a refusal's body that are kept: enough for "generation_id must be a number"
USER_AGENT = "atelier"


@dataclass(frozen=True, slots=True)
class Answered:
    """The receiver has spoken. `retry_after` is in seconds, 0 where it named no time."""

    status: int
    retry_after: float = 0.0
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Unreached:
    """Nothing of the call was told to anybody."""

    reason: str


@dataclass(frozen=True, slots=True)
class Forbidden:
    """The address may not be called, now or later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unsure:
    """It may have arrived, or not."""

    reason: str


Outcome = Answered | Unreached | Forbidden | Unsure


@dataclass(frozen=True, slots=True)
class Backend:
    """The one of the settings; without a `url` there is none."""

    url: str
    token: SecretStr


class HttpSender:
    """Makes calls, each within so many `seconds`, the news of progress within `news_seconds`."""

    def __init__(
        self,
        *,
        trusted: Outgoing,
        guarded: Outgoing,
        backend: Backend,
        secret: SecretStr,
        clock: Clock,
        seconds: float,
        news_seconds: float,
    ) -> None:
        self._trusted = trusted
        self._guarded = guarded
        self._backend = backend
        self._secret = secret if secret.get_secret_value() else None
        self._clock = clock
        self._seconds = seconds
        self._news_seconds = news_seconds

    async def send(self, call: OutboxCall, *, news: bool) -> Outcome:
        """What became of it."""
        told = HttpCall.from_json(call.payload)
        trusted = told.kind is HookKind.BACKEND and call.target == TRUSTED
        base = self._backend.url.rstrip("/") if trusted and told.url.startswith("/") else ""
        if trusted and not self._backend.url:
            return Unreached("BACKEND_API_URL is not set")
        if told.kind is HookKind.GENERIC and self._secret is None:
            return Unreached("ATELIER_WEBHOOK_SECRET is not set")
        body = json.dumps(told.body)
        try:
            async with (self._trusted if trusted else self._guarded).request(
                told.method,
                base + told.url,
                seconds=self._news_seconds if news else self._seconds,
                headers=self._headers(call.id, told, body, trusted=trusted),
                body=body.encode(),
            ) as answer:
                return await self._answered(answer)
        except AddressRefused as error:
            return Forbidden(str(error))
        except NotSent as error:
            return Unreached(str(error))
        except OSError as error:  # OutcomeUnknown, TimeoutError
            return Unsure(str(error))

    def _headers(self, call_id: str, told: HttpCall, body: str, *, trusted: bool) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT, "webhook-id": call_id}
        if told.kind is HookKind.BACKEND:
            headers["X-Request-Source"] = "inference-server"
            if trusted:
                headers["Authorization"] = f"Bearer {self._backend.token.get_secret_value()}"
        elif self._secret is not None:
            now = datetime.fromtimestamp(int(self._clock.seconds()), UTC)
            headers["webhook-timestamp"] = str(int(now.timestamp()))
            # The owner's signature, and the server's own for receivers that were given its secret: any one that fits will do.
            secrets = [owner_secret(self._secret, told.owner)] if told.owner else []
            signers = [Signer(secret) for secret in (*secrets, self._secret.get_secret_value())]
            headers["webhook-signature"] = " ".join(signer.sign(call_id, now, body) for signer in signers)
        return headers

    async def _answered(self, answer: Answer) -> Answered:
        """The status decides; a refusal's first words are kept for whoever looks into it."""
        retry_after = _seconds(answer.header("Retry-After"), self._clock.seconds())
        if 200 <= answer.status < 300:
            return Answered(answer.status)
        try:
            words = (await answer.read_at_most(4 * EXCERPT)).decode("utf-8", "replace")
        except OSError:
            words = ""
        return Answered(answer.status, retry_after, self._excerpt(words))

    def _excerpt(self, words: str) -> str:
        """In one line, without the token, should the receiver repeat it."""
        token = self._backend.token.get_secret_value()
        if token:
            words = words.replace(token, "***")
        return "".join(c if c.isprintable() else " " for c in words)[:EXCERPT].strip()


def _seconds(retry_after: str, now: float) -> float:
    """A Retry-After's seconds from now; 0 where it has none that make sense."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return 0.0
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)
