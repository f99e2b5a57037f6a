"""The models in memory: loaded when they are wanted, unloaded when another needs the room or nobody used them for long.

Plain Python: whatever loads a model imports torch when it is first called. Everything here runs on the loop's thread.
"""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING, NamedTuple, cast

from ai.adapters.residents import Residents
from ai.by_kind import Load, Weigh
from ai.cards import Card, places_of, with_refiners
from ai.failures import lost_device, ran_out_of_memory
from ai.loading import Aside, Loader
from ai.lodging import Lodger, Lodgers
from ai.memory import Memory
from ai.places import Place, Places
from ai.types import (
    EngineError,
    EngineEvent,
    EngineSettings,
    ModelLoadError,
    ModelLoading,
    ModelReady,
    ModelUnavailable,
    ModelUnloaded,
    OutOfMemory,
)

if TYPE_CHECKING:
    from ai.families.family import Model
    from ai.text.model import TextModel

log = logging.getLogger(__name__)

# A model that would not load is not tried again for every request that names it: a hub that does not answer costs
# seconds each time. A person who has put the missing file in place waits this long, or asks for `load`.
RETRY_SECONDS = 60.0


class Demand(NamedTuple):
    """Which models the samples name, and which of them have samples with a seat."""

    wanted: Collection[str]
    seated: Collection[str]


class Shelf:
    """Models by name. `demand` says what the samples want at present; `forget` has the last of a model let go.

    A model that has no room waits in a line for those in use to be done: meanwhile these seat no newcomers. Nothing is
    unloaded that has a sample with a seat, or that was loaded for samples which have had none yet.

    Lodgers (`ai.lodging`) wait in the same line, and go by the same rule; one that is in use is asked to go when it is done.
    """

    def __init__(
        self,
        cards: Sequence[Card],
        settings: EngineSettings,
        *,
        load_model: Load,
        weigh: Weigh,
        loader: Loader,
        memory: Memory,
        demand: Callable[[], Demand],
        forget: Callable[[str], None],
        aside_adapters: Aside,
        clock: Callable[[], float],
        emit: Callable[[EngineEvent], None],
    ) -> None:
        self._cards: dict[str, Card] = {card.name: card for card in cards}
        self._retired: set[str] = set()  # to be forgotten when no sample names them any more
        self._settings = settings
        self._load_model = load_model
        self._weigh = weigh
        self._loader = loader
        self._memory = memory
        self._demand = demand
        self._forget = forget
        self._aside_adapters = aside_adapters
        self._clock = clock
        self._emit = emit
        self.places = Places(memory)
        self._under_way: set[str] = set()  # being weighed or loaded: a letter will come
        self._line: dict[str, int] = {}  # waiting for so many bytes of room, the longest waiting first
        self._asked: set[str] = set()  # by `load`, whether or not a request names them
        self._failures: dict[str, tuple[float, EngineError]] = {}
        self._in_hand = ""  # the model that the present turn works with
        self.lodgers = Lodgers(memory, clock)
        self._applicants: dict[str, Lodger] = {}  # lodgers in line

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def __getitem__(self, name: str) -> Model:
        """A model that paints."""
        return cast("Model", self.places[name].model)

    def text_model(self, name: str) -> TextModel:
        """One that writes."""
        return cast("TextModel", self.places[name].model)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def residents(self, name: str) -> Residents:
        """The adapters of a model that is in memory."""
        return self.places[name].residents

    def card(self, name: str) -> Card:
        """The card of a model. Raises ModelLoadError for a name that has none."""
        if name not in self._cards:
            raise ModelLoadError(f"model: {name!r} does not exist here")
        return self._cards[name]

    def add(self, card: Card) -> None:
        """Offer one more model, with its refiner; one that is being given up stays."""
        for one in with_refiners([card]):
            self._retired.discard(one.name)
            self._cards[one.name] = one
            self._failures.pop(one.name, None)

    def retire(self, name: str) -> None:
        """Give a model up, and its refiner, as soon as no sample names them: what was accepted is painted."""
        card = self._cards.get(name)
        if card is not None:
            self._retired.update(one.name for one in with_refiners([card]))

    def is_coming(self, name: str) -> bool:
        """Whether it is on its way without the loop's doing: a letter will come first."""
        letter = bool(self._under_way) or self.lodgers.leaving
        return letter and (name in self._under_way or name in self._line)

    @property
    def is_loading(self) -> bool:
        """Whether anything is."""
        return bool(self._under_way)

    def use(self, name: str) -> None:
        """The model, which is in memory, is what works now."""
        place = self.places[name]
        self._in_hand, place.used_at, place.fresh = name, self._clock(), False

    def seats(self, name: str) -> bool:
        """Whether newcomers may be seated for it: it is in memory, and holds up no other that waits for room alone."""
        place = self.places.get(name)
        return place is not None and (place.fresh or not self._line or bool(self._under_way))

    # Lodgers

    def lodge(self, lodger: Lodger) -> None:
        """One more in line for room."""
        self._applicants[lodger.name] = lodger
        self._asked.add(lodger.name)
        self._line[lodger.name] = lodger.size
        self.make_room()

    def lodger_gone(self, name: str) -> None:
        """It takes nothing any more, or does not want to come."""
        self.lodgers.gone(name)
        if self._applicants.pop(name, None) is not None:
            self._settle(name)

    # Coming

    def want(self, name: str) -> None:
        """Have the model loaded, unless it is in memory or on its way. Costs nothing then.

        ModelLoading is emitted, and ModelReady or ModelUnavailable when it has been tried. Raises EngineError for a model
        that could not be loaded within the last RETRY_SECONDS, without trying.
        """
        if self._is_known(name):
            return
        failed_at, error = self._failures.get(name, (0.0, None))
        if error is not None and self._clock() - failed_at < RETRY_SECONDS:
            raise error
        self._begin(name)

    def load(self, name: str) -> None:
        """As `want`, for someone who does not wait for RETRY_SECONDS, and before any request does."""
        if not self._is_known(name):
            self._asked.add(name)
            self._begin(name)

    def make_room(self) -> None:
        """Begin to load what waits in line, as far as there is room or can be made. Called between two turns."""
        self._in_hand = ""
        demand = self._demand()
        if self._retired:
            self._forget_retired(demand)
        self._line = {name: size for name, size in self._line.items() if name in self._asked or name in demand.wanted}
        while self._line and not self._under_way:
            name, size = next(iter(self._line.items()))
            if self._evict_for(size):
                self._let_in(name, size)
            elif self.lodgers.leaving or any(self._is_held(other, demand) for other in self.places):
                return
            else:
                self._refuse(name, OutOfMemory(f"{name}: takes {_mb(size)}; {_mb(self._memory.limit)} may be used"))

    def _let_in(self, name: str, size: int) -> None:
        """There is room for it."""
        lodger = self._applicants.pop(name, None)
        if lodger is None:
            self._fetch(name, size)
        else:
            self._settle(name)
            self.lodgers.come(lodger)

    def _refuse(self, name: str, error: EngineError) -> None:
        """There will never be."""
        lodger = self._applicants.pop(name, None)
        if lodger is None:
            self._failed(name, error)
        else:
            self._settle(name)
            lodger.refused(error)

    def _is_known(self, name: str) -> bool:
        return name in self.places or name in self._under_way or name in self._line

    def _begin(self, name: str) -> None:
        try:
            card = self.card(name)
        except ModelLoadError as error:
            self._failed(name, error)
            return
        self._emit(ModelLoading(name))
        self._under_way.add(name)
        self._loader.load(
            lambda: self._weigh(card, self._settings),
            lambda size: self._weighed(name, size),
            lambda error: self._not_loaded(name, 0, error),
        )

    def _weighed(self, name: str, size: int) -> None:
        self._under_way.discard(name)
        self._line[name] = size
        self.make_room()

    def _fetch(self, name: str, size: int) -> None:
        card, began = self._cards[name], self._clock()
        del self._line[name]
        self._under_way.add(name)
        self._memory.hold_model(name, size)
        self._loader.load(
            lambda: self._load_model(card, self._settings),
            lambda model: self._ready(name, model, began),
            lambda error: self._not_loaded(name, size, error),
        )

    def _ready(self, name: str, model: Model | TextModel, began: float) -> None:
        self._settle(name)
        residents = Residents(self._cards[name].adapters, model.adapters, self._aside_adapters)
        self.places.put(name, Place(model, residents, self._clock()))
        self._memory.hold_model(name, model.weight_bytes)
        self._failures.pop(name, None)
        self._emit(ModelReady(name, self._clock() - began))

    def _not_loaded(self, name: str, size: int, error: Exception) -> None:
        """It may have been for want of memory that the budget knows nothing of: then once more when others have gone.

        Raises DeviceLost, which ends the loop.
        """
        lost = lost_device(error)
        if lost is not None:
            raise lost
        self._memory.release_model(name)
        gone = self.relieve() if ran_out_of_memory(error) else ""
        if gone:
            log.warning("model %s: %s; %s went, and it is tried again", name, error, gone)
            self._under_way.discard(name)
            self._line = {name: size, **self._line}
            self.make_room()
        else:
            self._failed(name, error)

    def _failed(self, name: str, error: Exception) -> None:
        log.error("model %s could not be loaded", name, exc_info=error)
        self._settle(name)
        known = error if isinstance(error, EngineError) else ModelLoadError(f"{name}: {error!r}")
        if ran_out_of_memory(error):
            known = OutOfMemory(str(known))
        elif isinstance(known, ModelLoadError) and name in self._cards:  # the log has the whole
            known = known.told_of(name, places_of(self._cards[name]))
        self._failures[name] = (self._clock(), known)
        self._emit(ModelUnavailable(name, known))

    def _settle(self, name: str) -> None:
        self._under_way.discard(name)
        self._asked.discard(name)
        self._line.pop(name, None)

    # Going

    def relieve(self) -> str:
        """Let go of what takes memory and nobody uses: adapters, else the one model. What it was, "" if there is nothing."""
        if self.places.drop_idle_adapters():
            return "idle adapters"
        return "an idle model" if self._evict_one() else ""

    def _evict_one(self) -> bool:
        """Unload the model that was not used for longest, of those that nobody uses. False if there is none."""
        idle = self._idle()
        if not idle:
            return False
        self._unload(min(idle, key=lambda name: self.places[name].used_at))
        return True

    def _forget_retired(self, demand: Demand) -> None:
        base = {name for name in demand.wanted if name in self._cards}
        kept = {one.name for name in base for one in with_refiners([self._cards[name]])}  # a refiner's turn comes later
        for name in sorted(self._retired - kept - self._under_way):
            if name in self.places:
                self._unload(name)
            self._settle(name)
            self._failures.pop(name, None)
            del self._cards[name]
            self._retired.discard(name)

    def evict_idle(self) -> None:
        """Unload what was not used for the time-out of the settings (0: never) and what nobody wants at present."""
        patience, now, demand = self._settings.idle_unload, self._clock(), self._demand()
        for name in [name for name, place in self.places.items() if patience and now - place.used_at >= patience]:
            if name not in demand.wanted:
                self._unload(name)
        if patience:
            self.lodgers.ask_out_unused_since(now - patience)

    def _evict_for(self, size: int) -> bool:
        """Let go of what nobody uses until there is room. False where there is none, or none yet: lodgers were asked to go."""
        while not self._memory.fits(size - self.lodgers.coming_free):
            if not self._next_goes():
                break
        return self._memory.fits(size)

    def _next_goes(self) -> bool:
        """Idle adapters, else whoever was not used for longest, else a lodger when it is done. False if nobody can."""
        model_since = min((self.places[name].used_at for name in self._idle()), default=inf)
        since, lodger = min(self.lodgers.idle(), default=(inf, ""))
        if since >= model_since or not lodger:
            if self.relieve():
                return True
            lodger = lodger or min(self.lodgers.in_use(), default=(inf, ""))[1]
        if lodger:
            self.lodgers.ask_out(lodger)
        return bool(lodger)

    def _idle(self) -> list[str]:
        """The models that nobody uses."""
        demand = self._demand()
        return [name for name in self.places if not self._is_held(name, demand)]

    def _is_held(self, name: str, demand: Demand) -> bool:
        waited_for = self.places[name].fresh and name in demand.wanted
        return name in demand.seated or name == self._in_hand or waited_for

    def _unload(self, name: str) -> None:
        log.info("model %s is unloaded", name)
        self._memory.release_model(name)
        place = self.places.take(name)
        left = weakref.ref(place.model)
        del place
        self._memory.forget_passes(self.places)
        self._forget(name)
        if left() is not None:
            gc.collect()  # networks and what hooks into them refer to each other in circles, which may stay for long
        self._emit(ModelUnloaded(name))


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
