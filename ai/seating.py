"""Seats: a sample that is to step gets its row of tensors, and its request what it wears. On the loop's thread.

A request waits for no other: while its adapters are brought it stands aside, out of the policy's line, and its samples take
the next step after they have come. Imports no torch before a row is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ai.batching import BatchPolicy
from ai.failures import lost_device, ran_out_of_memory
from ai.loading import Letter
from ai.roll import Roll
from ai.types import EngineError
from ai.work import Sample, Work

if TYPE_CHECKING:
    from ai.adapters.residents import Outfit, Residents
    from ai.families.family import Model


class Seating:
    """`residents` are the adapters of a model in memory; `post` has the loop read a letter; `relieve` lets go of memory that
    nobody needs, if there is any; `started` hears of a request's first seat."""

    def __init__(
        self,
        roll: Roll,
        policy: BatchPolicy[Sample],
        *,
        residents: Callable[[str], Residents],
        post: Callable[[Letter], None],
        relieve: Callable[[], bool],
        started: Callable[[Work], None],
    ) -> None:
        self._roll = roll
        self._policy = policy
        self._residents = residents
        self._post = post
        self._relieve = relieve
        self._started = started

    def seat(self, model: Model, samples: Sequence[Sample]) -> list[Sample]:
        """Those of the samples that step now: the newcomers have got their rows, if their adapters are there. A request that
        fails at that fails alone."""
        for sample in samples:
            if not self._roll.has(sample) or (sample.wears and not self._dress(sample.work)):
                continue
            if not sample.running:
                self._open_or_fail(model, sample)
            elif sample.wears and sample.work.outfit is not None:  # its model may have gone and come back: other slots
                sample.opened_row.worn = tuple(sample.work.outfit.worn)
        return [one for one in samples if one.running and self._roll.has(one) and not (one.wears and one.work.waiting)]

    # Adapters

    def _dress(self, work: Work) -> bool:
        """Whether the request's adapters are there. If not they are sent for, and it stands aside until they are."""
        if work.outfit is None and work.uses:
            residents = self._residents(work.group.model)
            work.outfit = residents.wear(work.uses, partial(self._outfit_came, work), work.request.adapter_files)
            if not work.outfit.ready:
                work.waiting = True
                for sample in work.wearers:
                    self._policy.discard(sample)
        return not work.waiting

    def _outfit_came(self, work: Work, outfit: Outfit, error: EngineError | None) -> None:
        """On the adapters' thread."""
        self._post(lambda: self._dressed(work, outfit, error))

    def _dressed(self, work: Work, outfit: Outfit, error: EngineError | None) -> None:
        if outfit is not work.outfit:
            return
        if error is not None:
            self._roll.fail([work], error)
        self._take_back(work)

    def _take_back(self, work: Work) -> None:
        """Let a request that stood aside have its turns again."""
        if work.waiting and work in self._roll:
            for sample in work.wearers:
                self._policy.add(sample)
        work.waiting = False

    def undress(self, model: str) -> None:
        """A model has gone, and its adapters with it: who wore them asks again when it is back."""
        for work in self._roll:
            if work.group.model == model:
                work.undress()
                self._take_back(work)

    # Rows

    def _open_or_fail(self, model: Model, sample: Sample) -> None:
        while True:
            try:
                self._open(model, sample)
                return
            except Exception as error:
                lost = lost_device(error)
                if lost is not None:
                    raise lost from error
                if not (ran_out_of_memory(error) and self._relieve()):
                    self._roll.fail([sample.work], error)
                    return

    def _open(self, model: Model, sample: Sample) -> None:
        from ai.saving import restore_row
        from ai.stepping import open_row, refine_row

        work = sample.work
        if sample.row is not None:
            told = replace(work.request, init_image=None)
            work.refiner_prompted = work.refiner_prompted or model.prompt(told, ())
            refine_row(model, work.request, sample.row, work.refiner_prompted, work.switch)
            return
        worn = tuple(work.outfit.worn) if work.outfit is not None else ()
        work.prompted = work.prompted or model.prompt(work.request, worn)
        sample.row = open_row(model, work.request, sample.index, work.prompted, worn, switch=work.switch)
        for saved in work.request.saved:
            if saved.index == sample.index:
                restore_row(model, sample.row, saved.data)
        if sample.row.at_handover:  # an init image leaves the base model no step: it belongs to the refiner's group now
            self._policy.discard(sample)
            self._policy.add(sample)
        if not work.started:
            work.started = True
            self._started(work)
