"""The roll of an engine: every request from the letter that brought it to its last event, and the samples of each.

Whoever is on the roll and neither painted nor waiting for adapters stands in the batch policy's line. On the loop's thread;
imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ai.batching import BatchPolicy, Group
from ai.failures import as_engine_error
from ai.types import Canceled, EngineError, EngineEvent, Failed, GenerationRequest
from ai.work import Sample, Work


class Roll:
    """`emit` tells of the end of a request, `forget` hears its id."""

    def __init__(
        self, policy: BatchPolicy[Sample], emit: Callable[[EngineEvent], None], forget: Callable[[str], None]
    ) -> None:
        self._policy = policy
        self._emit = emit
        self._forget = forget
        self._works: dict[str, Work] = {}
        self._arrivals = 0
        self.samples: list[Sample] = []  # those that have no picture yet, in order of arrival

    def __iter__(self) -> Iterator[Work]:
        """The requests, in order of arrival; the roll may change meanwhile."""
        return iter(list(self._works.values()))

    def __len__(self) -> int:
        return len(self._works)

    def __contains__(self, work: Work) -> bool:
        return work.request.request_id in self._works

    def has(self, sample: Sample) -> bool:
        """Whether a sample's request is here."""
        return sample.work in self

    def find(self, request_id: str) -> Work | None:
        """A request, if it is here."""
        return self._works.get(request_id)

    # Coming

    def enter(self, work: Work) -> None:
        """A request is here; it has no samples yet."""
        self._works[work.request.request_id] = work

    def line_up(self, work: Work) -> None:
        """Its samples are among those that wait for a seat."""
        work.add_samples(self._arrivals)
        self._arrivals += len(work.samples)
        self.samples += work.samples
        for sample in work.samples:
            self._policy.add(sample)

    # Going

    def fail(self, works: Iterable[Work], error: Exception) -> None:
        """End requests with an error, those of them that have not ended before."""
        for work in dict.fromkeys(works):
            if self.drop(work):
                self._emit(Failed(work.request.request_id, as_engine_error(error)))

    def cancel(self, request_ids: Iterable[str]) -> None:
        """End requests as canceled, those of them that have not ended before."""
        for request_id in request_ids:
            if request_id in self._works and self.drop(self._works[request_id]):
                self._emit(Canceled(request_id))

    def cancel_all(self) -> None:
        """End all requests as canceled."""
        self.cancel(list(self._works))

    def fail_late(self, now: float, least_seconds: Callable[[Group, int], float]) -> None:
        """Fail the requests that cannot make their deadline any more (see `Work.late`)."""
        for work in self:
            error = work.late(now, least_seconds)
            if error is not None:
                self.fail([work], error)

    def fail_model(self, model: str, error: EngineError) -> None:
        """Fail the requests whose next step is a model's."""
        self.fail([sample.work for sample in self.samples if sample.group.model == model], error)

    def give_back(self, images: int) -> tuple[GenerationRequest, ...]:
        """Let go of requests that have not begun, the latest first, of about so many images; in order of arrival."""
        requests: list[GenerationRequest] = []
        for work in reversed(list(self)):
            if images > 0 and not work.started and self.drop(work):
                requests.insert(0, work.request)
                images -= work.request.num_images
        return tuple(requests)

    def give_back_all(self) -> tuple[GenerationRequest, ...]:
        """Let go of all requests, begun or not."""
        return tuple(work.request for work in self if self.drop(work))

    def clear_painted(self) -> None:
        """Let go of the samples that have their pictures."""
        self.samples = [sample for sample in self.samples if sample.picture is None]

    def drop(self, work: Work) -> bool:
        """Let go of a request and its rows. False if it has gone before."""
        if self._works.pop(work.request.request_id, None) is None:
            return False
        self.samples = [sample for sample in self.samples if sample.work is not work]
        for sample in work.samples:
            self._policy.discard(sample)
        work.undress()
        self._forget(work.request.request_id)
        return True
