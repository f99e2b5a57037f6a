"""Custom models from the settings: what their classes say of themselves, their processes, and their place in the budget."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ai.custom.cards import ClassPath, CustomCard
from ai.custom.describing import Terms, describe
from ai.custom.host import Host
from ai.custom.launching import environment
from ai.custom.process import Limits
from ai.lodging import Lodger, Lodgings
from ai.types import EngineError, EngineEvent
from config import Settings, SettingsError
from factory.processes import Launcher

STOP_TIMEOUT = 20.0  # seconds: an idle model has ten to unload


def read_custom_cards(settings: Settings, others: Collection[str]) -> list[CustomCard]:
    """The cards of the custom models, each class asked in a process of its own; `others` are names that are taken.

    A class that cannot be used has a card that says why. Raises SettingsError for what is no import path.
    """
    paths: dict[str, ClassPath] = {}
    for name, path in settings.custom_models.items():
        if name in others:
            raise SettingsError(f"ATELIER_CUSTOM_MODELS: the name {name!r} is another model's")
        try:
            paths[name] = ClassPath.read(path)
        except ValueError as error:
            raise SettingsError(f"ATELIER_CUSTOM_MODELS: {name}: {error}") from error
    if not paths:
        return []
    terms = Terms(
        memory_limit=settings.custom_memory_limit,
        seconds=settings.custom_describe_timeout,
        environment=environment(os.environ, settings.custom_environment),
    )
    return describe(paths, terms)


class CustomModels:
    """The host, joined to the reactor and to the budget."""

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        cards: Sequence[CustomCard],
        lodgings: Lodgings,
        on_events: Callable[[Sequence[EngineEvent]], None],
    ) -> None:
        launch = Launcher(
            reactor, environment(os.environ, settings.custom_environment), settings.custom_max_output_bytes
        )
        limits = Limits(
            memory=settings.custom_memory_limit,
            load_seconds=settings.custom_load_timeout,
            predict_seconds=settings.custom_predict_timeout,
            max_output=settings.custom_max_output_bytes,
        )
        self.host = Host(
            cards, limits, launch=launch, lodgings=OnReactor(reactor, lodgings), clock=reactor, deliver=on_events
        )

    async def close(self) -> bool:
        """End all processes. False where one would not end in time."""
        stopped = asyncio.get_running_loop().create_future()
        self.host.stop(lambda: stopped.set_result(None))
        done, _ = await asyncio.wait([stopped], timeout=STOP_TIMEOUT)
        return bool(done)


class OnReactor:
    """Lodgings whose answers come on the reactor thread."""

    def __init__(self, reactor: Any, lodgings: Lodgings) -> None:
        self._reactor = reactor
        self._lodgings = lodgings

    def lodge(self, lodger: Lodger) -> None:
        """Ask for room."""
        call = self._reactor.callFromThread

        def refused(error: EngineError) -> None:
            call(lodger.refused, error)

        self._lodgings.lodge(
            Lodger(
                lodger.name,
                lodger.size,
                granted=lambda: call(lodger.granted),
                refused=refused,
                leave=lambda: call(lodger.leave),
            )
        )

    def lodger_takes(self, name: str, size: int) -> None:
        """What it takes now."""
        self._lodgings.lodger_takes(name, size)

    def lodger_busy(self, name: str, busy: bool) -> None:
        """Whether it is in use."""
        self._lodgings.lodger_busy(name, busy)

    def lodger_gone(self, name: str) -> None:
        """It is there no more."""
        self._lodgings.lodger_gone(name)
