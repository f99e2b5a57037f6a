"""Settings → where pictures are kept."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from config import Settings, SettingsError
from config.places import Place, read_place
from server.interfaces import Pool
from server.storage.local import LocalArtifacts
from server.storage.objects import ObjectArtifacts

log = structlog.get_logger("atelier.storage")

LARGE_SECONDS = 300.0  # for one object that is no picture: an adapter of 200 MB at 0.7 MB/s


class Storage:
    """`artifacts` is where pictures are kept; `place` says so, to be shown."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self.place = settings.storage_place()
        self.artifacts = _open(settings, read_place(self.place), pool)
        self._trial: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """See whether the storage can be used, and say so in the log. A server whose storage is away starts all the same:
        it may be back before the first picture is done."""
        self._trial = asyncio.ensure_future(self._try())

    async def stop(self) -> None:
        """Try no more."""
        if self._trial is not None:
            self._trial.cancel()
            with suppress(asyncio.CancelledError):
                await self._trial

    async def _try(self) -> None:
        key = f"jobs/trial-{secrets.token_hex(8)}/0"
        try:
            await self.artifacts.put(key, b"atelier", "text/plain", "")
            await self.artifacts.read(key, 0, 7)
            await self.artifacts.delete(key)
        except OSError as error:
            hint = "until this is mended, jobs are retried and then fail as STORAGE_FAILED (docs/storage.md)"
            log.error("storage.unusable", place=self.place, reason=error.strerror or str(error), hint=hint)
        else:
            log.info("storage.ready", place=self.place)


def _open(settings: Settings, place: Place, pool: Pool) -> LocalArtifacts | ObjectArtifacts:
    if place.scheme == "file":
        return LocalArtifacts(Path(place.prefix), pool, settings.public_base_url)
    seconds = max(1.0, min(settings.storage_timeout, settings.drain_timeout))
    make, base_url = {"s3": _s3, "gs": _gs, "az": _az}[place.scheme](settings, place)
    try:
        store, patient = (
            make(prefix=place.prefix or None, **_patience(settings, seconds, timeout))
            for timeout in (seconds / 2, LARGE_SECONDS)
        )
    except (BaseError, ValueError, OSError) as error:  # a key file that is missing or no key file
        raise SettingsError(f"ATELIER_STORAGE_URL: {place.scheme}:// cannot be used: {type(error).__name__}") from None
    signed = settings.signed_url_seconds if settings.picture_urls == "signed" else None
    public = settings.public_base_url or (base_url if settings.picture_urls == "public" else "")
    return ObjectArtifacts(store, patient=patient, base_url=public, signed_seconds=signed)


def _patience(settings: Settings, seconds: float, timeout: float) -> dict[str, Any]:
    """At most so many seconds in all: half of them for tries that begin, half for the last to end."""
    return {
        "client_options": {
            "timeout": timedelta(seconds=timeout),
            "connect_timeout": timedelta(seconds=min(5.0, seconds / 2)),
            "read_timeout": timedelta(seconds=seconds / 2),
            "allow_http": settings.aws_endpoint_url.startswith("http://"),
        },
        "retry_config": {
            "max_retries": 10,
            "retry_timeout": timedelta(seconds=seconds / 2),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=2),
                "base": 2,
            },
        },
    }


def _s3(settings: Settings, place: Place) -> tuple[Any, str]:
    region = settings.aws_s3_region_name or "us-east-1"
    endpoint = settings.aws_endpoint_url.rstrip("/")
    style = settings.aws_s3_addressing_style
    in_name = style == "virtual" or (style == "auto" and not endpoint and "." not in place.bucket)
    server = urlsplit(endpoint or f"https://s3.{region}.amazonaws.com")
    address = (
        f"{server.scheme}://{place.bucket}.{server.netloc}"
        if in_name
        else f"{server.scheme}://{server.netloc}/{place.bucket}"
    )
    config = {
        "region": region,
        "virtual_hosted_style_request": in_name,
        "access_key_id": settings.aws_access_key_id.get_secret_value(),
        "secret_access_key": settings.aws_secret_access_key.get_secret_value(),
        "session_token": settings.aws_session_token.get_secret_value(),
        "endpoint": (address if in_name else endpoint) if endpoint else "",
    }
    return _maker(S3Store, place, config), _below(address, place)


def _gs(settings: Settings, place: Place) -> tuple[Any, str]:
    account = settings.google_application_credentials
    config = {"service_account": str(account) if account else ""}
    return _maker(GCSStore, place, config), _below(f"https://storage.googleapis.com/{place.bucket}", place)


def _az(settings: Settings, place: Place) -> tuple[Any, str]:
    account = settings.azure_storage_account
    config = {
        "account_name": account,
        "account_key": settings.azure_storage_key.get_secret_value(),
        "sas_key": settings.azure_storage_sas_token.get_secret_value(),
    }
    return _maker(AzureStore, place, config), _below(f"https://{account}.blob.core.windows.net/{place.bucket}", place)


def _maker(kind: Any, place: Place, config: dict[str, Any]) -> Any:
    given = {name: value for name, value in config.items() if value != ""}
    return lambda **more: kind(place.bucket, config=given, **more)


def _below(address: str, place: Place) -> str:
    return f"{address}/{quote(place.prefix)}" if place.prefix else address
