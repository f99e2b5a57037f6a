"""What becomes of jobs: admission, lifecycle, recovery and cleaning, built from the settings and joined."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from ai.cards import Card, pictures_of
from config import Settings
from factory.artists import read_artists
from factory.cards import check_defaults
from factory.catalogue import Models
from factory.fetching import AdapterFetching
from factory.limits import job_limits
from factory.records import Records
from factory.webhooks import Webhooks
from server import __version__
from server.clock import Clock
from server.interfaces import Announcer, ArtifactStore, JobStore, Leases, Painter, Pool
from server.jobs.admission import Admission
from server.jobs.answers import Answers
from server.jobs.board import Board
from server.jobs.canceling import RecordedCanceling
from server.jobs.cleaning import Cleaning, Keep
from server.jobs.elsewhere import Elsewhere
from server.jobs.entering import Entrance
from server.jobs.finishing import Finisher
from server.jobs.lifecycle import Lifecycle
from server.jobs.places import Places
from server.jobs.predicting import PredictAdmission
from server.jobs.recovery import Recovery
from server.jobs.retrying import Retries
from server.metering.cost import Costs
from server.metering.rates import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class JobParts:
    """What jobs are joined to."""

    cards: Sequence[Card]
    models: Models
    store: JobStore
    artifacts: ArtifactStore
    board: Board
    painter: Painter
    pool: Pool
    announcer: Announcer
    records: Records
    adapters: AdapterFetching
    webhooks: Webhooks
    leases: Leases
    finisher: Finisher
    rates: Rates


class Jobs:
    """Raises SettingsError, when made, for defaults that the limits refuse."""

    def __init__(self, settings: Settings, clock: Clock, parts: JobParts) -> None:
        self.places = Places(
            settings.max_pending_jobs,
            settings.max_pending_jobs_per_owner,
            lambda: self.lifecycle.retry_after(),
            image_bytes=settings.max_pending_init_image_bytes,
            signature_bytes=settings.max_pending_signature_image_bytes,
        )
        self.lifecycle = Lifecycle(
            store=parts.store,
            latents=parts.records.latents,
            board=parts.board,
            painter=parts.painter,
            finisher=parts.finisher,
            fetching=parts.adapters.fetching,
            places=self.places,
            retries=Retries(settings.retry_delays),
            unstored_bytes=settings.max_unstored_bytes,
            announcer=parts.announcer,
            clock=clock,
            answers=_answers(settings, clock, parts) if settings.cache_seconds else None,
        )
        self.recovery = Recovery(
            leases=parts.leases,
            lifecycle=self.lifecycle,
            places=self.places,
            models=parts.models.catalogue,
            ready=parts.models.hosting.ready,
            clock=clock,
            every=settings.job_lease / 3,
            max_attempts=settings.max_job_attempts,
        )
        self.cleaning = Cleaning(
            parts.records.forgetting,
            parts.artifacts,
            _keep(settings),
            clock,
            parts.records.usage.forget,
            parts.records.answers,
        )
        self.elsewhere = Elsewhere(store=parts.store, board=parts.board, is_here=self.lifecycle.has, clock=clock)
        self.canceling = RecordedCanceling(
            here=self.lifecycle,
            store=parts.store,
            takings=parts.records.takings,
            board=parts.board,
            announcer=parts.announcer,
            clock=clock,
        )
        entrance = Entrance(
            store=parts.store,
            places=self.places,
            rates=parts.rates,
            announcer=parts.announcer,
            leased=settings.role != "gateway",
        )
        pictures = pictures_of(parts.cards)
        self.admission = Admission(
            entrance=entrance,
            places=self.places,
            catalogue=parts.models.catalogue,
            hear_news=parts.models.hosting.hear_news,
            artists=read_artists(pictures, parts.models.catalogue.signature),
            adapters=parts.adapters.source,
            limits=job_limits(settings),
            pool=parts.pool,
            clock=clock,
            check_webhook=parts.webhooks.check,
            new_id=new_job_id,
            new_seed=new_seed,
        )
        check_defaults(self.admission, pictures)
        self.predictions = PredictAdmission(
            entrance=entrance,
            places=self.places,
            catalogue=parts.models.catalogue,
            hear_news=parts.models.hosting.hear_news,
            pool=parts.pool,
            max_file_bytes=settings.max_init_image_bytes,
            max_signature_bytes=settings.max_signature_image_bytes,
            clock=clock,
            check_webhook=parts.webhooks.check,
            new_id=new_job_id,
            new_seed=new_seed,
            costs=Costs(thousand_tokens=settings.cost_thousand_tokens, custom=settings.cost_custom),
        )


def new_seed() -> int:
    """For who names none: as long as a person cares to type."""
    return secrets.randbelow(2**32)


def new_job_id() -> str:
    """A job's id: 128 random bits, so that nobody guesses another's."""
    return secrets.token_hex(16)


def _keep(settings: Settings) -> Keep:
    return Keep(
        jobs=settings.keep_finished_jobs,
        seconds=settings.keep_finished_days * 86_400,
        artifact_bytes=settings.max_stored_bytes,
        usage_seconds=settings.keep_usage_days * 86_400,
        answers=settings.cache_entries,
        answer_seconds=settings.cache_seconds,
    )


def _answers(settings: Settings, clock: Clock, parts: JobParts) -> Answers:
    return Answers(
        records=parts.records.answers,
        store=parts.store,
        card=parts.models.catalogue.card,
        pool=parts.pool,
        clock=clock,
        seconds=settings.cache_seconds,
        salt=" ".join((__version__, settings.dtype, settings.weights)),
    )
