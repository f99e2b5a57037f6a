"""The room that one model's process has in the budget of memory, or has asked for."""

from __future__ import annotations

from collections.abc import Callable

from ai.lodging import Lodger, Lodgings
from ai.types import EngineError


class Room:
    """Asked for, granted or refused, and given back. An answer to an older asking, on its way when that was given up, is none."""

    def __init__(
        self,
        name: str,
        lodgings: Lodgings,
        *,
        granted: Callable[[], None],
        refused: Callable[[EngineError], None],
        leave: Callable[[], None],
    ) -> None:
        self._name = name
        self._lodgings = lodgings
        self._granted = granted
        self._refused = refused
        self._leave = leave
        self._askings = 0

    def ask(self, size: int) -> None:
        """For so many bytes."""
        self._askings += 1
        asking = self._askings

        def granted() -> None:
            if asking == self._askings:
                self._granted()

        def refused(error: EngineError) -> None:
            if asking == self._askings:
                self._refused(error)

        def leave() -> None:
            if asking == self._askings:
                self._leave()

        self._lodgings.lodge(Lodger(self._name, size, granted, refused, leave))

    def takes(self, size: int) -> None:
        """What the process fills."""
        self._lodgings.lodger_takes(self._name, size)

    def busy(self, busy: bool) -> None:
        """Whether it is in use."""
        self._lodgings.lodger_busy(self._name, busy)

    def give_back(self) -> None:
        """Nobody is there any more."""
        self._askings += 1
        self._lodgings.lodger_gone(self._name)
