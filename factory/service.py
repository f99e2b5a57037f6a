"""The one `make_service`: every part built, every part joined, started and stopped in one visible order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import structlog
from twisted.internet.error import CannotListenError

from ai.cards import Card
from ai.custom.cards import CustomCard
from ai.types import EngineEvent, ModelReady, ModelUnavailable, ModelUnloaded
from config import Settings, SettingsError
from factory.accounts import AccountsHouse
from factory.cards import read_cards
from factory.catalogue import Models
from factory.custom import CustomModels, read_custom_cards
from factory.fetching import AdapterFetching
from factory.gpu import EngineThreads
from factory.handlers import HandlerParts, make_handlers
from factory.http import HttpDoor
from factory.jobs import JobParts, Jobs
from factory.joining import joined
from factory.limits import door_limits, engine_settings, job_limits
from factory.listening import check_listening
from factory.live import make_live
from factory.live_sources import LiveSources
from factory.measuring import Measured, Measuring
from factory.metering import Limiting
from factory.no_engine import NoEngine
from factory.painters import Painters
from factory.records import Records
from factory.settings_shelf import HandingOut
from factory.sockets import given
from factory.storage import Storage
from factory.supervisor import NotStarted
from factory.tcp import TcpDoor
from factory.tracing import tracing
from factory.udp import UdpHouse
from factory.webhooks import Webhooks
from server.backlog import BacklogWatch
from server.clock import Clock
from server.door_parts import DoorParts
from server.errors import Code, Refusal
from server.futures import Tasks, as_future
from server.handlers.submit import SubmitHandler
from server.health import Health
from server.jobs.announcing import Announcers
from server.jobs.board import Board
from server.jobs.dispatching import DispatchCalls, Dispatched
from server.jobs.observing import ObservedJobs
from server.lag import LagMeter
from server.metering.usage import DeviceTimes
from server.pools import ThreadedPool
from server.storage.addressed import AddressedJobs
from server.vigil import Vigil
from server.webhook import Channel

log = structlog.get_logger("atelier")

LAST_WORDS = 2.0  # seconds for webhooks at a stop, though the jobs took all the time: most receivers answer in one


class AtelierService:
    """The whole server. `addresses` says where it listens, once started."""

    def __init__(
        self, settings: Settings, reactor: Any, on_ready: Callable[[], None], settings_source: str = ""
    ) -> None:
        check_listening(settings)
        clock = cast(Clock, reactor)
        painted = read_cards(settings)
        custom = read_custom_cards(settings, [card.name for card in painted])
        cards: list[Card] = [*painted, *custom]
        self._settings = settings
        self._reactor = reactor
        self._on_ready = on_ready
        self._ports: list[Any] = []  # IListeningPort, which mypy cannot read
        self.addresses: list[str] = []
        self.threads_left = False  # after stop: whether some thread would not end
        self._abandoned = False  # told to stop before it had started
        self._abandoning = Tasks()

        self._measuring = measuring = Measuring(settings, reactor, cards)
        self._tracing = traces = tracing(settings, reactor)
        self._pool = ThreadedPool("finishing", settings.finishing_threads)
        self._storage = Storage(settings, self._pool)
        artifacts = measuring.artifacts(self._storage.artifacts)
        self._adapters = AdapterFetching(settings, self._storage, reactor)
        self._device_times = DeviceTimes()
        self._records = Records(settings, reactor, measuring.commits, self._device_times)
        self._backlog = BacklogWatch(self._records.backlog, clock)
        self._limiting = Limiting(settings, measuring.limits.reached)
        self._accounts = AccountsHouse(settings, reactor, self._records, self._limiting.rates.login)
        self._handing_out = HandingOut(settings, reactor, settings_source)
        addressed = AddressedJobs(self._records.store, artifacts, settings.http_base_url, self._accounts.access)
        store = ObservedJobs(addressed, [measuring.jobs, *traces.observers()])
        board = Board(store)
        board.tap(measuring.jobs)
        traces.tap(board)
        paints = settings.role != "gateway"
        self._health = Health(cards, paints=paints)
        self._lag = LagMeter(clock)
        self._custom: CustomModels | None = None
        self._painter = self._painters(painted, custom) if paints else NoEngine(cards)
        self._models = Models(settings, reactor, cards, self._records, self._storage, self._painter, self._health)
        self._webhooks = Webhooks(
            settings,
            reactor,
            self._records,
            lambda job_id: self._jobs.lifecycle.live_job(job_id),
            board.said,
            lambda sender: traces.sender(measuring.sender(sender)),
        )
        board.tap(self._webhooks.telling)
        telling = self._webhooks.telling
        announcer = Announcers([telling] if paints else [telling, DispatchCalls()])
        self._jobs = jobs = Jobs(
            settings,
            clock,
            JobParts(
                cards=cards,
                models=self._models,
                store=store,
                artifacts=artifacts,
                board=board,
                painter=self._painter,
                pool=self._pool,
                announcer=announcer,
                records=self._records,
                adapters=self._adapters,
                webhooks=self._webhooks,
                leases=traces.leases(measuring.leases(self._records.leases)),
                finisher=traces.finisher(artifacts, self._pool),
                rates=self._limiting.rates,
            ),
        )
        self._amqp = None
        if settings.rabbitmq_host:
            from factory.amqp import AmqpDoor, AmqpParts  # pika is loaded where there is a broker

            amqp_parts = AmqpParts(
                submit=lambda command: submit(command),
                set_going=jobs.recovery.set_going,
                lifecycle=jobs.lifecycle,
                board=board,
                elsewhere=jobs.elsewhere,
                store=store,
                claims=traces.claims(self._records.claims),
                dispatches=self._records.outbox(Channel.DISPATCH),
                artifacts=artifacts,
                announcer=announcer,
                health=self._health,
                tell_refused=self._webhooks.telling.refused,
                may_own=self._accounts.may_own,
                watch_broker=measuring.broker.watch,
            )
            self._amqp = AmqpDoor(settings, reactor, amqp_parts)
            self._records.bell.wake(Channel.DISPATCH, self._amqp.ring)
        follow = self._amqp.follow if self._amqp else jobs.elsewhere.look_after
        board.when_strange(follow)
        dispatched = Dispatched(board, jobs.places, follow)
        board.tap(dispatched)
        self._sources = LiveSources(settings, reactor)
        self._live = make_live(settings, reactor, self._sources.sources)
        self._udp = UdpHouse(settings, reactor)
        submit = SubmitHandler(jobs.admission, jobs.predictions, jobs.lifecycle if paints else dispatched, self._health)
        handlers = make_handlers(
            HandlerParts(
                submit=submit,
                cancels=self._amqp.canceling if self._amqp else jobs.canceling,
                store=store,
                board=board,
                health=self._health,
                models=self._models,
                painter=self._painter,
                lifecycle=jobs.lifecycle,
                lag=self._lag,
                backlog=self._backlog,
                settings=self._handing_out.told,
                connections=lambda: self._tcp.connections + self._http.connections,
                device=", ".join(settings.engine_devices()) if paints else "none: this node is a gateway",
                live=self._live,
                connect_udp=self._udp.connect,
            ),
            clock,
        )
        self._udp.join(handlers, board, self._accounts.identities, self._live, self._accounts.note)
        self._tcp = TcpDoor(
            DoorParts(
                handlers=handlers,
                board=board,
                artifacts=artifacts,
                identities=self._accounts.identities,
                vigil=Vigil(self._accounts.identities, clock),
                clock=clock,
                tasks=Tasks(),
                limits=door_limits(settings),
                note=self._accounts.note,
                live=self._live,
            ),
            max_connections=settings.max_connections,
            max_per_address=settings.max_connections_per_address,
        )
        self._http = HttpDoor(
            settings,
            reactor,
            identities=self._accounts.identities,
            accounts=self._accounts.service,
            access=self._accounts.access,
            handlers=handlers,
            board=board,
            store=store,
            artifacts=artifacts,
            health=self._health,
            request_limits=job_limits(settings),
            outgoing=self._adapters.outgoing,
            landing=self._models.landing,
            measures=measuring.web,
            numbers=self._painter.numbers,
            usage=self._records.usage,
            shelf=self._handing_out.shelf,
        )
        measuring.look_up(
            Measured(
                painter=self._painter,
                lifecycle=jobs.lifecycle,
                places=jobs.places,
                health=self._health,
                lag=self._lag,
                records=self._records,
                backlog=self._backlog,
                adapters=self._adapters,
                delivery=self._webhooks.delivery,
                door=self._tcp,
                udp=self._udp,
                limits_away=lambda: self._limiting.away,
                live=self._live,
            )
        )

    def _painters(self, cards: Sequence[Card], custom: Sequence[CustomCard]) -> EngineThreads | Painters:
        engines = EngineThreads(
            self._reactor,
            cards,
            [engine_settings(self._settings, device) for device in self._settings.engine_devices()],
            on_events=self._engine_events,
            on_death=self._engine_died,
        )
        if not custom:
            return engines
        self._custom = CustomModels(self._settings, self._reactor, custom, engines.lodgings, self._engine_events)
        return Painters(engines, self._custom.host)

    async def start(self) -> None:
        """Open the records, listen, load the default model, go on with what an earlier life has left.

        Raises SettingsError, CannotListenError, or NotStarted where it was told to stop meanwhile.
        """
        await self._records.open()
        try:
            await self._accounts.open()
            await self._adapters.open()
            await self._models.open()
            await self._handing_out.open()
            await self._measuring.listen(self._health)
            await self._load_stream_models()
            left = await self._jobs.recovery.take_up() if self._settings.role != "gateway" else []
            if self._settings.role != "worker":
                await self._listen()
        except BaseException:
            await self._listen_no_more()
            await self._live.stop()
            await self._measuring.close()
            await self._handing_out.close()
            await self._models.close()
            await self._adapters.close()
            await self._accounts.close()
            await self._records.close()
            raise
        self._accounts.begin()
        self._backlog.begin()
        self._pool.start()
        self._sources.begin()
        self._storage.begin()
        self._lag.start()
        self._health.loading(self._painter.cards[0].name)
        self._painter.start(self._painter.cards[0].name)
        self._models.begin()
        self._webhooks.begin()
        if self._settings.role != "gateway":
            self._jobs.recovery.begin(left)
        self._jobs.cleaning.begin()
        if self._amqp is not None:
            self._amqp.start()
        elif self._settings.process:
            self._jobs.canceling.begin()
        log.info("server.listening", addresses=self.addresses, jobs_taken_up=len(left))

    def abandon(self) -> None:
        """It is to stop, and need not have started before: wait for no model any more."""
        self._abandoned = True
        self._abandoning.start(self._live.stop())

    async def _load_stream_models(self) -> None:
        # Before anybody comes, so that who comes over from a process that died need not wait; and before leases of jobs are
        # taken, which are renewed only once the server has started.
        if self._settings.stream_ready and self._settings.role != "worker" and not self._abandoned:
            await self._live.keep_ready()
        if self._abandoned:
            raise NotStarted("it was told to stop")

    async def _listen(self) -> None:
        try:
            number = self._settings.given_sockets().get("tcp")
            bound = None if number is None else given(number, "ATELIER_SOCKETS")
            port = await self._tcp.listen(self._reactor, self._settings.tcp_listen, bound)
        except CannotListenError:
            raise
        except Exception as error:  # a string that is no endpoint, a key file that is missing or no key
            raise SettingsError(f"ATELIER_TCP_LISTEN: {error or type(error).__name__}") from error
        self._ports.append(port)
        self.addresses.append(_address(port))
        for address in (await self._http.listen(), self._udp.listen()):
            if address:
                self.addresses.append(address)

    async def stop(self) -> None:
        """Take nothing new, finish what runs or leave it to the next life, say goodbye, tell others, end the threads."""
        self._health.drain()
        if self._amqp is not None:
            self._amqp.stop_taking()
        ends_at = self._reactor.seconds() + self._settings.drain_timeout
        await self._listen_no_more()
        await self._jobs.lifecycle.drain(self._settings.drain_timeout)
        await self._live.stop()
        await self._tcp.close_all(Refusal(Code.UNAVAILABLE, "the server has stopped"))
        await self._http.close_all()
        await self._udp.close()
        if self._amqp is not None:
            await self._amqp.close()
        self._jobs.elsewhere.stop()
        self._jobs.canceling.stop()
        self._lag.stop()
        self._jobs.cleaning.stop()
        self._backlog.stop()
        await self._storage.stop()
        await self._limiting.close()
        if self._pool.started:
            if self._settings.role != "gateway":
                await self._jobs.recovery.stop()
            told = await self._webhooks.stop(max(LAST_WORDS, ends_at - self._reactor.seconds()))
            ended = [told, await self._accounts.close(), await self._models.close()]
            ended += [await self._adapters.close(), await self._measuring.close()]
            ended += [await self._sources.close(), await self._handing_out.close()]
            if self._custom is not None:
                ended.append(await self._custom.close())
            ended += [
                await joined(self._reactor, stop) for stop in (self._painter.stop, self._pool.stop, self._storage.end)
            ]
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
        return self._jobs.lifecycle.live

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
        self._device_times.engine_events(events)
        self._jobs.lifecycle.engine_events(events)

    def _engine_died(self, reason: str) -> None:
        self._health.engine_died(reason)
        self._jobs.lifecycle.engine_died(reason)


def make_service(
    settings: Settings, reactor: Any, on_ready: Callable[[], None] = lambda: None, settings_source: str = ""
) -> AtelierService:
    """Build the server; nothing runs or listens yet. `on_ready` is called when a model is there. Raises SettingsError."""
    return AtelierService(settings, reactor, on_ready, settings_source)


def _address(port: Any) -> str:
    """Where a port listens, as text to show ("tcp:127.0.0.1:9000")."""
    host = port.getHost()
    if hasattr(host, "port"):
        return f"tcp:{host.host}:{host.port}"
    return f"unix:{getattr(host, 'name', b'').decode()}"
