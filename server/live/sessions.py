"""All live sessions of this process: whose they are, how many there may be, and what becomes of them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from ai.live.manifests import Manifest
from server.clock import Clock, within
from server.errors import Code, Refusal
from server.futures import Tasks
from server.live.events import Frame, LiveClosed, LiveListener, LiveOpened, Source, Sources, StreamModel
from server.live.none import unknown_model, unknown_session
from server.live.numbers import StageNumbers
from server.live.session import Session
from server.live.stage import MakeRunner, Stage

log = structlog.get_logger("atelier.live")

READY_TIME = 60.0  # seconds that a server's start waits for models: half of what a supervisor waits for the server


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimits:
    """Sessions in all and of one owner; seconds without a session after which a model's processes end."""

    sessions: int
    sessions_per_owner: int
    idle_timeout: float


class NoSources:
    """`Sources` where the operator has configured none."""

    def find(self, name: str, model: StreamModel, owner: str) -> Source:
        """Raises Refusal (INVALID_PARAMETER)."""
        raise Refusal.invalid("source", "left out: this server has no sources", name)


class Sessions:
    """A `Live`. Ids come from `new_id`."""

    def __init__(
        self,
        manifests: Sequence[Manifest],
        clock: Clock,
        limits: LiveLimits,
        make_runner: MakeRunner,
        *,
        new_id: Callable[[], str],
        sources: Sources | None = None,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._new_id = new_id
        self._sources = sources or NoSources()
        self._stages = {
            manifest.name: Stage(manifest, clock, make_runner, self._ended, idle_timeout=limits.idle_timeout)
            for manifest in manifests
        }
        self._sessions: dict[str, Session] = {}
        self._places: Counter[str] = Counter()  # sessions by owner, those that are being opened among them
        self._keys = itertools.count(1)
        self._tasks = Tasks()
        self._stopped = False

    def models(self) -> Sequence[StreamModel]:
        """Those that sessions can be opened on."""
        return [stage.model for stage in self._stages.values()]

    def numbers(self) -> Sequence[StageNumbers]:
        """What is counted, by model."""
        return [stage.numbers for stage in self._stages.values()]

    async def open(self, owner: str, model: str, *, echo_input: bool = False, source: str = "") -> LiveOpened:
        """A new session, once its model is loaded. Raises Refusal, as `Live` says."""
        stage = self._stages.get(model)
        if stage is None:
            raise unknown_model(model, list(self._stages))
        self._check_places(owner)
        frames_from = self._sources.find(source, stage.model, owner) if source else None
        self._places[owner] += 1
        try:
            await stage.load()
            if self._stopped:
                raise _stopping()
        except BaseException:
            self._leave(owner)
            raise
        session = Session(self._new_id(), next(self._keys), owner, stage.model, echo_input=echo_input)
        self._sessions[session.live_id] = session
        stage.add(session)
        log.info("live.opened", live_id=session.live_id, owner=owner, model=model, source=source)
        opened = stage.opened(session)
        if frames_from is not None:
            self._start(stage, session, frames_from)
        return opened

    def frame(self, owner: str, live_id: str, frame: Frame) -> None:
        """Take a frame for the next tick. Raises Refusal (LIVE_NOT_FOUND, INVALID_PARAMETER)."""
        session = self._owned(owner, live_id)
        if session.source is not None:
            raise Refusal.invalid("live_id", "of a session without a source of its own", live_id)
        self._stages[session.model.name].frame(session, frame)

    def close(self, owner: str, live_id: str) -> LiveClosed:
        """End a session. Raises Refusal (LIVE_NOT_FOUND)."""
        session = self._owned(owner, live_id)
        return self._stages[session.model.name].close(session, Code.OK)

    def find(self, owner: str, live_id: str) -> LiveOpened:
        """A session as it is now. Raises Refusal (LIVE_NOT_FOUND)."""
        session = self._owned(owner, live_id)
        return self._stages[session.model.name].opened(session)

    def watch(self, owner: str, live_id: str, listener: LiveListener) -> Callable[[], None]:
        """Tell a listener everything from now on. Raises Refusal (LIVE_NOT_FOUND)."""
        return self._owned(owner, live_id).watch(listener)

    async def keep_ready(self) -> None:
        """Load all models now, for sessions that are to come, and keep them. Returns when each is loaded or has shown that it is
        none; after READY_TIME though they still load, and when everything stops."""
        loop = asyncio.get_running_loop()
        looked_at: list[asyncio.Future[None]] = []
        for stage in self._stages.values():
            looked_at.append(loop.create_future())
            self._tasks.start(self._keep(stage, looked_at[-1]))
        if looked_at:
            waiting = asyncio.wait(looked_at)
            with suppress(TimeoutError):
                await within(self._clock, READY_TIME, waiting)

    async def _keep(self, stage: Stage, looked_at: asyncio.Future[None]) -> None:
        try:
            await stage.keep()
        except Refusal as refusal:  # whoever opens a session has it tried again
            if not self._stopped:
                log.error("live.not_ready", model=stage.model.name, reason=refusal.message)
        finally:
            looked_at.set_result(None)

    async def stop(self) -> None:
        """End all sessions, and all processes."""
        self._stopped = True
        for stage in self._stages.values():
            await stage.stop("the server is stopping")

    def _start(self, stage: Stage, session: Session, source: Source) -> None:
        """Have a source send the frames; what ends it ends the session."""

        def push(frame: Frame) -> None:
            if session.closed is not None:
                return
            try:
                stage.frame(session, frame)
            except Refusal as refusal:
                stage.close(
                    session, Code.LIVE_FAILED, f"its source gives what the model does not take: {refusal.message}"
                )

        def ended(why: str) -> None:
            if session.closed is None:
                stage.close(session, Code.LIVE_FAILED if why else Code.OK, why or "its source is over")

        session.source = source
        try:
            source.start(stage.model, push, ended)
        except Refusal as refusal:
            stage.close(session, refusal.code, refusal.message)
            raise

    def _owned(self, owner: str, live_id: str) -> Session:
        session = self._sessions.get(live_id)
        if session is None or session.owner != owner:
            raise unknown_session(live_id)
        return session

    def _check_places(self, owner: str) -> None:
        if self._stopped:
            raise _stopping()
        of_owner, in_all = self._limits.sessions_per_owner, self._limits.sessions
        if self._places[owner] >= of_owner:
            limit = f"{of_owner} live sessions of one owner"
        elif self._places.total() >= in_all:
            limit = f"{in_all} live sessions"
        else:
            return
        raise Refusal(Code.RESOURCE_EXHAUSTED, f"the limit of {limit} is reached", limit=limit, retry_after_seconds=1.0)

    def _ended(self, session: Session) -> None:
        del self._sessions[session.live_id]
        self._leave(session.owner)
        closed = session.closed
        log.info(
            "live.closed", live_id=session.live_id, code=closed.code.name if closed else "", dropped=session.dropped
        )

    def _leave(self, owner: str) -> None:
        self._places[owner] -= 1
        if not self._places[owner]:
            del self._places[owner]


def _stopping() -> Refusal:
    return Refusal(Code.UNAVAILABLE, "the server is stopping", retry_after_seconds=5.0)
