"""The one `make_service`: every part built, every part joined, started and stopped in one visible order."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, cast

import structlog
from twisted.internet.error import CannotListenError

from ai.adapters.folder import find_adapters
from ai.cards import ModelCard, read_card, with_default_solver
from ai.types import (
    AdapterError,
    EngineEvent,
    EngineSettings,
    ModelLoadError,
    ModelReady,
    ModelUnavailable,
    ModelUnloaded,
)
from config import Settings, SettingsError
from factory.artists import read_artists
from factory.fetching import AdapterFetching
from factory.gpu import EngineThreads
from factory.http import HttpDoor
from factory.joining import joined
from factory.listening import check_listening
from factory.measuring import Measured, Measuring
from factory.no_engine import NoEngine
from factory.records import Records
from factory.storage import Storage
from factory.tcp import TcpDoor
from factory.tracing import tracing
from factory.webhooks import Webhooks
from proto import atelier_pb2 as pb
from server.backlog import BacklogWatch
from server.clock import Clock
from server.commands import MAX_IMAGES, Submit
from server.door_parts import DoorLimits, DoorParts
from server.errors import Code, Refusal
from server.futures import Tasks, as_future
from server.handlers import handler_table
from server.handlers.cancel import CancelHandler
from server.handlers.get_job import GetJobHandler
from server.handlers.list_jobs import ListJobsHandler
from server.handlers.list_models import ListModelsHandler
from server.handlers.ping import PingHandler
from server.handlers.server_status import ServerStatusHandler
from server.handlers.submit import SubmitHandler
from server.handlers.watch import WatchHandler
from server.health import Health
from server.identity import Identities
from server.jobs.admission import Admission, Limits
from server.jobs.announcing import Announcers
from server.jobs.board import Board
from server.jobs.cleaning import Cleaning, Keep
from server.jobs.dispatching import DispatchCalls, Dispatched
from server.jobs.elsewhere import Elsewhere
from server.jobs.lifecycle import Lifecycle
from server.jobs.observing import ObservedJobs
from server.jobs.places import Places
from server.jobs.recovery import Recovery
from server.jobs.retrying import Retries
from server.lag import LagMeter
from server.pools import ThreadedPool
from server.storage.addressed import AddressedJobs
from server.webhook import Channel

log = structlog.get_logger("atelier")

LAST_WORDS = 2.0  # seconds for webhooks at a stop, though the jobs took all the time: most receivers answer in one


class AtelierService:
    """The whole server. `addresses` says where it listens, once started."""

    def __init__(self, settings: Settings, reactor: Any, on_ready: Callable[[], None]) -> None:
        check_listening(settings)
        clock = cast(Clock, reactor)
        cards = _read_cards(settings)
        self._settings = settings
        self._reactor = reactor
        self._on_ready = on_ready
        self._ports: list[Any] = []  # IListeningPort, which mypy cannot read
        self.addresses: list[str] = []
        self.threads_left = False  # after stop: whether some thread would not end

        self._measuring = measuring = Measuring(settings, reactor, cards)
        self._tracing = traces = tracing(settings, reactor)
        self._pool = ThreadedPool("finishing", settings.finishing_threads)
        self._storage = Storage(settings, self._pool)
        artifacts = measuring.artifacts(self._storage.artifacts)
        self._adapters = AdapterFetching(settings, self._storage, reactor)
        self._records = Records(settings, reactor, measuring.commits)
        self._backlog = BacklogWatch(self._records.backlog, clock)
        addressed = AddressedJobs(self._records.store, artifacts, settings.http_base_url)
        store = ObservedJobs(addressed, [measuring.jobs, *traces.observers()])
        board = Board(store)
        board.tap(measuring.jobs)
        traces.tap(board)
        paints = settings.role != "gateway"
        self._health = Health(cards, paints=paints)
        self._lag = LagMeter(clock)
        self._painter = self._engine(cards) if paints else NoEngine(cards)
        self._webhooks = Webhooks(
            settings,
            reactor,
            self._records,
            lambda job_id: self._lifecycle.live_job(job_id),
            lambda sender: traces.sender(measuring.sender(sender)),
        )
        board.tap(self._webhooks.telling)
        telling = self._webhooks.telling
        announcer = Announcers([telling] if paints else [telling, DispatchCalls()])
        places = Places(
            settings.max_pending_jobs,
            settings.max_pending_jobs_per_owner,
            lambda: self._lifecycle.retry_after(),
            image_bytes=settings.max_pending_init_image_bytes,
            signature_bytes=settings.max_pending_signature_image_bytes,
        )
        self._lifecycle = Lifecycle(
            store=store,
            latents=self._records.latents,
            board=board,
            painter=self._painter,
            finisher=traces.finisher(artifacts, self._pool),
            fetching=self._adapters.fetching,
            places=places,
            retries=Retries(settings.retry_delays),
            unstored_bytes=settings.max_unstored_bytes,
            announcer=announcer,
            clock=clock,
        )
        self._recovery = Recovery(
            leases=traces.leases(measuring.leases(self._records.leases)),
            lifecycle=self._lifecycle,
            places=places,
            models=[card.name for card in cards],
            clock=clock,
            every=settings.job_lease / 3,
            max_attempts=settings.max_job_attempts,
        )
        self._cleaning = Cleaning(
            self._records.forgetting,
            artifacts,
            Keep(
                jobs=settings.keep_finished_jobs,
                seconds=settings.keep_finished_days * 86_400,
                artifact_bytes=settings.max_stored_bytes,
            ),
            clock,
        )
        admission = Admission(
            store=store,
            places=places,
            cards=cards,
            artists=read_artists(cards),
            adapters=self._adapters.source,
            limits=_job_limits(settings),
            pool=self._pool,
            clock=clock,
            announcer=announcer,
            check_webhook=self._webhooks.check,
            new_id=new_job_id,
            new_seed=lambda: secrets.randbelow(2**32),  # as long as a person cares to type
            leased=paints,
        )
        _check_defaults(admission, cards)
        self._elsewhere = Elsewhere(store=store, board=board, is_here=self._lifecycle.has, clock=clock)
        self._amqp = None
        if settings.rabbitmq_host:
            from factory.amqp import AmqpDoor, AmqpParts  # pika is loaded where there is a broker

            amqp_parts = AmqpParts(
                submit=lambda command: submit(command),
                set_going=self._recovery.set_going,
                lifecycle=self._lifecycle,
                board=board,
                elsewhere=self._elsewhere,
                store=store,
                claims=traces.claims(self._records.claims),
                dispatches=self._records.outbox(Channel.DISPATCH),
                artifacts=artifacts,
                announcer=announcer,
                health=self._health,
                tell_refused=self._webhooks.telling.refused,
                watch_broker=measuring.broker.watch,
            )
            self._amqp = AmqpDoor(settings, reactor, amqp_parts)
            self._records.bell.wake(Channel.DISPATCH, self._amqp.ring)
        follow = self._amqp.follow if self._amqp else self._elsewhere.look_after
        board.when_strange(follow)
        dispatched = Dispatched(board, places, follow)
        board.tap(dispatched)
        submit = SubmitHandler(admission, self._lifecycle if paints else dispatched, self._health)
        handlers = handler_table(
            submit=submit,
            cancel=CancelHandler(store, self._amqp.canceling if self._amqp else self._lifecycle),
            watch=WatchHandler(store),
            get_job=GetJobHandler(store, board),
            list_jobs=ListJobsHandler(store, board),
            list_models=ListModelsHandler(self._health),
            server_status=ServerStatusHandler(
                health=self._health,
                painter=self._painter,
                lifecycle=self._lifecycle,
                lag=self._lag,
                clock=clock,
                connections=lambda: self._tcp.connections + self._http.connections,
                device=", ".join(settings.engine_devices()) if paints else "none: this node is a gateway",
                backlog=lambda: self._backlog.latest,
            ),
            ping=PingHandler(clock.seconds),
        )
        self._tcp = TcpDoor(
            DoorParts(
                handlers=handlers,
                board=board,
                artifacts=artifacts,
                identities=Identities(settings.tokens),
                clock=clock,
                tasks=Tasks(),
                limits=door_limits(settings),
            ),
            max_connections=settings.max_connections,
            max_per_address=settings.max_connections_per_address,
        )
        self._http = HttpDoor(
            settings,
            reactor,
            handlers=handlers,
            board=board,
            store=store,
            artifacts=artifacts,
            health=self._health,
            request_limits=_job_limits(settings),
            outgoing=self._adapters.outgoing,
            measures=measuring.web,
            numbers=self._painter.numbers,
        )
        measuring.look_up(
            Measured(
                painter=self._painter,
                lifecycle=self._lifecycle,
                places=places,
                health=self._health,
                lag=self._lag,
                records=self._records,
                backlog=self._backlog,
                adapters=self._adapters,
                delivery=self._webhooks.delivery,
                door=self._tcp,
            )
        )

    def _engine(self, cards: Sequence[ModelCard]) -> EngineThreads:
        return EngineThreads(
            self._reactor,
            cards,
            [_engine_settings(self._settings, device) for device in self._settings.engine_devices()],
            on_events=self._engine_events,
            on_death=self._engine_died,
        )

    async def start(self) -> None:
        """Open the records, listen, load the default model, go on with what an earlier life has left.

        Raises SettingsError, or CannotListenError.
        """
        await self._records.open()
        try:
            await self._adapters.open()
            left = await self._recovery.take_up() if self._settings.role != "gateway" else []
            await self._measuring.listen(self._health)
            if self._settings.role != "worker":
                await self._listen()
        except BaseException:
            await self._listen_no_more()
            await self._measuring.close()
            await self._adapters.close()
            await self._records.close()
            raise
        self._backlog.begin()
        self._pool.start()
        self._storage.begin()
        self._lag.start()
        self._health.loading(self._painter.cards[0].name)
        self._painter.start(self._painter.cards[0].name)
        self._webhooks.begin()
        if self._settings.role != "gateway":
            self._recovery.begin(left)
        self._cleaning.begin()
        if self._amqp is not None:
            self._amqp.start()
        log.info("server.listening", addresses=self.addresses, jobs_taken_up=len(left))

    async def _listen(self) -> None:
        try:
            port = await self._tcp.listen(self._reactor, self._settings.tcp_listen)
        except CannotListenError:
            raise
        except Exception as error:  # a string that is no endpoint, a key file that is missing or no key
            raise SettingsError(f"ATELIER_TCP_LISTEN: {error or type(error).__name__}") from error
        self._ports.append(port)
        self.addresses.append(_address(port))
        if address := await self._http.listen():
            self.addresses.append(address)

    async def stop(self) -> None:
        """Take nothing new, finish what runs or leave it to the next life, say goodbye, tell others, end the threads."""
        self._health.drain()
        if self._amqp is not None:
            self._amqp.stop_taking()
        ends_at = self._reactor.seconds() + self._settings.drain_timeout
        await self._listen_no_more()
        await self._lifecycle.drain(self._settings.drain_timeout)
        await self._tcp.close_all(Refusal(Code.UNAVAILABLE, "the server has stopped"))
        await self._http.close_all()
        if self._amqp is not None:
            await self._amqp.close()
        self._elsewhere.stop()
        self._lag.stop()
        self._cleaning.stop()
        self._backlog.stop()
        await self._storage.stop()
        if self._pool.started:
            if self._settings.role != "gateway":
                await self._recovery.stop()
            told = await self._webhooks.stop(max(LAST_WORDS, ends_at - self._reactor.seconds()))
            ended = [told, await self._adapters.close(), await self._measuring.close()]
            ended += [await joined(self._reactor, stop) for stop in (self._painter.stop, self._pool.stop)]
            self.threads_left = not all([*ended, await self._records.close()])
        await self._tracing.stop()
        log.info("server.stopped", threads_left=self.threads_left)

    async def _listen_no_more(self) -> None:
        self._http.stop_listening()
        for port in self._ports:
            stopping = port.stopListening()
            if stopping is not None:
                await as_future(stopping)
        self._ports.clear()

    @property
    def measuring(self) -> Measuring:
        """What is measured."""
        return self._measuring

    @property
    def live_jobs(self) -> int:
        """Jobs that have not ended."""
        return self._lifecycle.live

    def _engine_events(self, events: Sequence[EngineEvent]) -> None:
        for event in events:
            if isinstance(event, ModelReady):
                log.info("model.ready", model=event.model, seconds=round(event.seconds, 2))
                self._on_ready()
                self._lag.forget()
            elif isinstance(event, ModelUnloaded):
                log.info("model.unloaded", model=event.model)
            elif isinstance(event, ModelUnavailable):
                log.error("model.unavailable", model=event.model, reason=str(event.error))
        self._health.engine_events(events)
        self._lifecycle.engine_events(events)

    def _engine_died(self, reason: str) -> None:
        self._health.engine_died(reason)
        self._lifecycle.engine_died(reason)


def make_service(settings: Settings, reactor: Any, on_ready: Callable[[], None] = lambda: None) -> AtelierService:
    """Build the server; nothing runs or listens yet. `on_ready` is called when a model is there. Raises SettingsError."""
    return AtelierService(settings, reactor, on_ready)


def new_job_id() -> str:
    """A job's id: 128 random bits, so that nobody guesses another's."""
    return secrets.token_hex(16)


def _read_cards(settings: Settings) -> list[ModelCard]:
    try:
        shared = {} if settings.adapters_dir is None else find_adapters(settings.adapters_dir)
    except AdapterError as error:
        raise SettingsError(f"ATELIER_ADAPTERS_DIR: {error}") from error
    try:
        cards = [read_card(name, source, shared) for name, source in settings.model_sources().items()]
    except (ModelLoadError, AdapterError) as error:
        raise SettingsError(f"ATELIER_MODELS: {error}") from error
    try:
        return [with_default_solver(card, solver) for card in cards] if (solver := settings.solver()) else cards
    except ModelLoadError as error:
        raise SettingsError(f"ATELIER_DEFAULT_SOLVER, SCHEDULER_TYPE: {error}") from error


def _check_defaults(admission: Admission, cards: Sequence[ModelCard]) -> None:
    """Refuse to start where a request that names nothing would be refused: limits and defaults contradict each other."""
    for card in cards:
        try:
            admission.complete(Submit(owner="nobody", prompt="anything", model=card.name))
        except Refusal as refusal:
            name = refusal.field.upper()
            message = (
                f"ATELIER_MAX_{name}, ATELIER_DEFAULT_{name}: the default of model {card.name} does not fit: {refusal}"
            )
            raise SettingsError(message) from None


def _engine_settings(settings: Settings, device: str) -> EngineSettings:
    return EngineSettings(
        device=device,
        dtype=settings.dtype,
        max_batch=settings.max_batch,
        max_step_seconds=settings.max_step_seconds,
        max_passed_over=settings.max_passed_over,
        parking=settings.parking,
        max_parked=settings.max_parked,
        torch_threads=settings.torch_threads,
        adapter_slots=settings.adapter_slots,
        max_adapter_bytes=settings.max_adapter_bytes,
        max_adapter_rank=settings.max_adapter_rank,
        memory_limit=settings.memory_limit,
        memory_reserve=settings.memory_reserve,
        idle_unload=settings.idle_unload,
        weights=settings.weights,
        attention=settings.attention,
        vae_slicing=settings.vae_slicing,
        vae_tiling=settings.vae_tiling,
        cpu_offload=settings.cpu_offload,
    )


def _job_limits(settings: Settings) -> Limits:
    return Limits(
        max_prompt_characters=settings.max_prompt_characters,
        max_width=settings.max_width,
        max_height=settings.max_height,
        max_num_inference_steps=settings.max_num_inference_steps,
        max_signature_image_bytes=settings.max_signature_image_bytes,
        max_init_image_bytes=settings.max_init_image_bytes,
        max_init_image_pixels=settings.max_init_image_pixels,
        default_width=settings.default_width,
        default_height=settings.default_height,
        default_num_inference_steps=settings.default_num_inference_steps,
        default_guidance_scale=settings.default_guidance_scale,
        use_refiner=settings.use_refiner,
        default_refiner_strength=settings.default_refiner_strength,
    )


def door_limits(settings: Settings) -> DoorLimits:
    """The TCP door's part of the settings."""
    return DoorLimits(
        handshake_frame_bytes=settings.handshake_frame_bytes,
        max_frame_bytes=settings.max_frame_bytes,
        chunk_bytes=settings.chunk_bytes,
        handshake_timeout=settings.handshake_timeout,
        frame_timeout=settings.frame_timeout,
        idle_timeout=settings.idle_timeout,
        slow_reader_timeout=settings.slow_reader_timeout,
        max_requests=settings.max_requests_per_connection,
        told=pb.Limits(
            max_frame_bytes=settings.max_frame_bytes,
            max_chunk_bytes=settings.chunk_bytes,
            max_prompt_characters=settings.max_prompt_characters,
            max_width=settings.max_width,
            max_height=settings.max_height,
            max_num_inference_steps=settings.max_num_inference_steps,
            max_num_images=MAX_IMAGES,
            max_pending_jobs_per_owner=settings.max_pending_jobs_per_owner,
            max_signature_image_bytes=settings.max_signature_image_bytes,
            max_init_image_bytes=settings.max_init_image_bytes,
            max_init_image_pixels=settings.max_init_image_pixels,
            idle_timeout_seconds=settings.idle_timeout,
        ),
    )


def _address(port: Any) -> str:
    """Where a port listens, as text to show ("tcp:127.0.0.1:9000")."""
    host = port.getHost()
    if hasattr(host, "port"):
        return f"tcp:{host.host}:{host.port}"
    return f"unix:{getattr(host, 'name', b'').decode()}"
