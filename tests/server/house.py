"""The server without its doors, on fakes: real admission, lifecycle, board, finishing and handlers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pydantic import SecretStr
from twisted.internet.task import Clock

from ai.cards import Card
from server.catalogue.catalogue import Catalogue
from server.catalogue_commands import AddAdapter, ListAdapters, RegisterModel
from server.commands import Predict, Submit
from server.errors import Code, Refusal
from server.handlers import handler_table
from server.handlers.cancel import CancelHandler
from server.handlers.get_job import GetJobHandler
from server.handlers.list_jobs import ListJobsHandler
from server.handlers.list_models import GetModelHandler, ListModelsHandler
from server.handlers.live import LiveHandlers
from server.handlers.ping import PingHandler
from server.handlers.server_status import ServerStatusHandler
from server.handlers.submit import SubmitHandler
from server.handlers.watch import WatchHandler
from server.health import Health
from server.identity import Identities
from server.interfaces import Announcer, JobStore, Latents, Pool
from server.job import Job
from server.jobs.admission import Admission, Limits
from server.jobs.announcing import Announcers
from server.jobs.answers import Answers
from server.jobs.artists import Artists
from server.jobs.board import Board
from server.jobs.entering import Entrance
from server.jobs.fetching import Fetching
from server.jobs.finishing import Finisher
from server.jobs.lifecycle import Lifecycle
from server.jobs.places import Places
from server.jobs.predicting import PredictAdmission
from server.jobs.retrying import Retries
from server.lag import LagMeter
from server.limits import Rate
from server.live.events import Live
from server.live.none import NoLive
from server.metering.counters import OwnCounters
from server.metering.rates import Rates
from server.pools import InlinePool
from server.replies import AdapterList
from server.webhook import Webhook
from tests.server.fakes import CARD, OTHER_CARD, FakeAdapterSource, FakeArtifacts, FakePainter, Recorder, settle
from tests.server.memory import MemoryAnswers, MemoryJobStore

LIMITS = Limits(
    max_prompt_characters=100,
    max_width=512,
    max_height=256,
    max_num_inference_steps=50,
    max_signature_image_bytes=4096,
    max_init_image_bytes=20_000,
    max_init_image_pixels=250_000,
)
NO_ARTISTS = Artists({})
SILENT = Announcers(())
NO_LIVE = NoLive()
ADA, BOB = "ada", "bob"
TOKENS = {ADA: SecretStr("ada-token-0123456789"), BOB: SecretStr("bob-token-0123456789")}


class Unregistered:
    """Handlers of the catalogue's commands, in a house where nobody has registered anything."""

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        def handle(command: Any) -> Any:
            if isinstance(command, ListAdapters):
                return AdapterList(())
            makes = isinstance(command, (RegisterModel, AddAdapter))
            code = Code.UNAVAILABLE if makes else Code.MODEL_NOT_FOUND
            raise Refusal(code, "nobody registers anything in this house")

        return handle


class House:
    """Every part by its name. Job ids are job-1, job-2, …; seeds that nobody chose are 1001, 1002, …"""

    def __init__(
        self,
        *,
        limits: Limits = LIMITS,
        artists: Artists = NO_ARTISTS,
        pending: int = 10,
        pending_per_owner: int = 8,
        image_bytes: int = 1_000_000,
        signature_bytes: int = 1_000_000,
        store: JobStore | None = None,
        admission_pool: Pool | None = None,
        finishing_pool: Pool | None = None,
        tokens: Mapping[str, SecretStr] = TOKENS,
        began_at: float = 1_000_000.0,
        adapters_ahead: int = 3,
        retry_delays: Sequence[float] = (),
        unstored_bytes: int = 1_000_000,
        announcer: Announcer = SILENT,
        leased: bool = True,
        check_webhook: Callable[[Webhook], None] = lambda hook: None,
        cards: Sequence[Card] = (CARD, OTHER_CARD),
        rates: Sequence[Rate] = (),
        live: Live = NO_LIVE,
        answer_seconds: float = 0.0,
    ) -> None:
        self.clock: Any = Clock()
        self.clock.advance(began_at)
        ids, seeds = itertools.count(1), itertools.count(1001)
        self.painter = FakePainter(cards)
        self.artifacts = FakeArtifacts()
        self.adapters = FakeAdapterSource()
        self.store: JobStore = store or MemoryJobStore(100)
        self.board = Board(self.store)
        self.health = Health(self.painter.cards)
        self.lag = LagMeter(self.clock)
        self.places = Places(
            pending,
            pending_per_owner,
            lambda: self.lifecycle.retry_after(),
            image_bytes=image_bytes,
            signature_bytes=signature_bytes,
        )
        self.catalogue = Catalogue(self.painter.cards)
        self.answers = MemoryAnswers()
        answers = Answers(
            records=self.answers,
            store=self.store,
            card=self.catalogue.card,
            pool=InlinePool(),
            clock=self.clock,
            seconds=answer_seconds,
            salt="house",
        )
        self.lifecycle = Lifecycle(
            store=self.store,
            latents=cast(Latents, self.store),
            board=self.board,
            painter=self.painter,
            finisher=Finisher(self.artifacts, finishing_pool or InlinePool()),
            fetching=Fetching(self.adapters, adapters_ahead),
            places=self.places,
            retries=Retries(retry_delays),
            unstored_bytes=unstored_bytes,
            announcer=announcer,
            clock=self.clock,
            answers=answers if answer_seconds else None,
        )
        self.painter.deliver = self.lifecycle.engine_events
        self.reached: list[str] = []  # limits, by name
        self.rates = Rates(OwnCounters(self.clock.seconds), rates, self.reached.append)
        self.entrance = Entrance(
            store=self.store, places=self.places, rates=self.rates, announcer=announcer, leased=leased
        )
        self.admission = Admission(
            entrance=self.entrance,
            places=self.places,
            catalogue=self.catalogue,
            artists=artists,
            adapters=self.adapters,
            limits=limits,
            pool=admission_pool or InlinePool(),
            clock=self.clock,
            check_webhook=check_webhook,
            new_id=lambda: f"job-{next(ids)}",
            new_seed=lambda: next(seeds),
        )
        self.predictions = PredictAdmission(
            entrance=self.entrance,
            places=self.places,
            catalogue=self.catalogue,
            pool=InlinePool(),
            max_file_bytes=LIMITS.max_init_image_bytes,
            max_signature_bytes=LIMITS.max_signature_image_bytes,
            clock=self.clock,
            check_webhook=check_webhook,
            new_id=lambda: f"job-{next(ids)}",
            new_seed=lambda: next(seeds),
        )
        self.submit = SubmitHandler(self.admission, self.predictions, self.lifecycle, self.health)
        self.cancel = CancelHandler(self.store, self.lifecycle)
        self.watch = WatchHandler(self.store)
        self.get_job = GetJobHandler(self.store, self.board)
        self.list_jobs = ListJobsHandler(self.store, self.board)
        self.connections = 0
        self.live = live
        self.handlers = dict(
            handler_table(
                submit=self.submit,
                cancel=self.cancel,
                watch=self.watch,
                get_job=self.get_job,
                list_jobs=self.list_jobs,
                list_models=ListModelsHandler(self.health, self.catalogue, self.live),
                get_model=GetModelHandler(self.health, self.catalogue),
                catalogue=cast(Any, Unregistered()),
                server_status=ServerStatusHandler(
                    health=self.health,
                    painter=self.painter,
                    lifecycle=self.lifecycle,
                    lag=self.lag,
                    clock=self.clock,
                    connections=lambda: self.connections,
                    device="cpu",
                ),
                ping=PingHandler(self.clock.seconds),
                live=LiveHandlers(self.live),
            )
        )
        self.identities = Identities(tokens)

    async def job(self, prompt: str = "a red star", **wishes: Any) -> Job:
        """A job of Ada's that was just accepted."""
        return (await self.submit(Submit(owner=wishes.pop("owner", ADA), prompt=prompt, **wishes))).job

    async def text(self, prompt: str = "once", **wishes: Any) -> Job:
        """A job for a text, of Ada's, that was just accepted; the house must have TEXT_CARD."""
        given = {"prompt": prompt, **wishes.pop("given", {})}
        return (await self.submit(Predict(owner=wishes.pop("owner", ADA), model="words", input=given, **wishes))).job

    async def followed(self, prompt: str = "a red star", **wishes: Any) -> tuple[Job, Recorder]:
        """A new job, and someone who follows it."""
        job = await self.job(prompt, **wishes)
        watcher = Recorder()
        await self.board.follow(job.id, watcher)
        return job, watcher

    async def kept(self, job_id: str) -> Job:
        """The job's record as it stands."""
        job = await self.store.get(job_id)
        assert job is not None
        return job

    async def pass_time(self, seconds: float) -> None:
        """Advance the clock, and let everyone act on it."""
        self.clock.advance(seconds)
        await settle()

    def is_free(self) -> bool:
        """Whether no job lives, no place is held and no timer is left, once the engine has let go of what it was asked to."""
        for job_id in self.painter.cancels:
            if job_id in self.painter.known or job_id in self.painter.texts:
                self.painter.confirm_cancel(job_id)
        return (self.lifecycle.live, self.places.taken, self.clock.getDelayedCalls()) == (0, 0, [])
