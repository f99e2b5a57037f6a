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
from server.pools import ThreadedPool
from server.storage.local import GROUPS, LocalArtifacts
from server.storage.objects import ObjectArtifacts

log = structlog.get_logger("atelier.storage")


class Storage:
    """`artifacts` is where pictures are kept; `place` says so, to be shown. `own_addresses` are what others call it, each to be
    followed by a key."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self.place = settings.storage_place()
        place = read_place(self.place)
        self._storing = ThreadedPool("storing", GROUPS)
        self.artifacts = _open(settings, place, pool, self._storing)
        self.own_addresses = _own_addresses(settings, place)
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

    def end(self) -> None:
        """Wait for what is being stored, and end the threads."""
        self._storing.stop()

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


def _open(settings: Settings, place: Place, pool: Pool, storing: Pool) -> LocalArtifacts | ObjectArtifacts:
    if place.scheme == "file":
        return LocalArtifacts(Path(place.prefix), pool, settings.public_base_url, storing=storing)
    seconds = max(1.0, min(settings.storage_timeout, settings.drain_timeout))
    make = {"s3": _s3, "gs": _gs, "az": _az}[place.scheme](settings, place)
    try:
        store, patient = (
            make(prefix=place.prefix or None, **_patience(settings, seconds, timeout))
            for timeout in (seconds / 2, settings.adapter_timeout)
        )
    except (BaseError, ValueError, OSError) as error:  # a key file that is missing or no key file
        raise SettingsError(f"ATELIER_STORAGE_URL: {place.scheme}:// cannot be used: {type(error).__name__}") from None
    signed = settings.signed_url_seconds if settings.picture_urls == "signed" else None
    public = settings.public_base_url or (_address(settings, place) if settings.picture_urls == "public" else "")
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


def _s3(settings: Settings, place: Place) -> Any:
    endpoint = settings.aws_endpoint_url.rstrip("/")
    in_name = _in_name(settings, place)
    config = {
        "region": settings.aws_s3_region_name or "us-east-1",
        "virtual_hosted_style_request": in_name,
        "access_key_id": settings.aws_access_key_id.get_secret_value(),
        "secret_access_key": settings.aws_secret_access_key.get_secret_value(),
        "session_token": settings.aws_session_token.get_secret_value(),
        "endpoint": (_s3_address(settings, place, in_name) if in_name else endpoint) if endpoint else "",
    }
    return _maker(S3Store, place, config)


def _gs(settings: Settings, place: Place) -> Any:
    account = settings.google_application_credentials
    return _maker(GCSStore, place, {"service_account": str(account) if account else ""})


def _az(settings: Settings, place: Place) -> Any:
    config = {
        "account_name": settings.azure_storage_account,
        "account_key": settings.azure_storage_key.get_secret_value(),
        "sas_key": settings.azure_storage_sas_token.get_secret_value(),
    }
    return _maker(AzureStore, place, config)


def _maker(kind: Any, place: Place, config: dict[str, Any]) -> Any:
    given = {name: value for name, value in config.items() if value != ""}
    return lambda **more: kind(place.bucket, config=given, **more)


# Addresses


def _own_addresses(settings: Settings, place: Place) -> tuple[str, ...]:
    """What others call this storage, each to be followed by a key."""
    known = [settings.public_base_url.rstrip("/")] if settings.public_base_url else []
    if place.scheme != "file":
        known += [_address(settings, place), _below(f"{place.scheme}://{place.bucket}", place)]
    if place.scheme == "s3":
        known += [_below(_s3_address(settings, place, in_name), place) for in_name in (True, False)]
        if not settings.aws_endpoint_url:
            known.append(_below(f"https://{place.bucket}.s3.amazonaws.com", place))
    return tuple(f"{address}/" for address in dict.fromkeys(known))


def _address(settings: Settings, place: Place) -> str:
    """Where the objects of a public bucket are."""
    if place.scheme == "s3":
        return _below(_s3_address(settings, place, _in_name(settings, place)), place)
    if place.scheme == "gs":
        return _below(f"https://storage.googleapis.com/{place.bucket}", place)
    return _below(f"https://{settings.azure_storage_account}.blob.core.windows.net/{place.bucket}", place)


def _in_name(settings: Settings, place: Place) -> bool:
    """Whether the bucket stands in the host's name. One with a dot in it would not fit the server's certificate."""
    style = settings.aws_s3_addressing_style
    return style == "virtual" or (style == "auto" and not settings.aws_endpoint_url and "." not in place.bucket)


def _s3_address(settings: Settings, place: Place, in_name: bool) -> str:
    region = settings.aws_s3_region_name or "us-east-1"
    server = urlsplit(settings.aws_endpoint_url.rstrip("/") or f"https://s3.{region}.amazonaws.com")
    if in_name:
        return f"{server.scheme}://{place.bucket}.{server.netloc}"
    return f"{server.scheme}://{server.netloc}/{place.bucket}"


def _below(address: str, place: Place) -> str:
    return f"{address}/{quote(place.prefix)}" if place.prefix else address
