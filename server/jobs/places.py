"""How many jobs may be pending, in all and for one owner, and what their init images may take together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from server.errors import Code, Refusal


class Places:
    """Places for jobs that have not ended, and room for `image_bytes` of pixels that they start from. `retry_after` estimates, in
    seconds, when there will be more."""

    def __init__(self, total: int, per_owner: int, retry_after: Callable[[], float], *, image_bytes: int) -> None:
        self._total = total
        self._per_owner = per_owner
        self._retry_after = retry_after
        self._image_bytes = image_bytes
        self._taken: Counter[str] = Counter()
        self._images: dict[str, int] = {}  # by job

    def take(self, owner: str) -> None:
        """Take a place for one more job of `owner`. Raises Refusal (RESOURCE_EXHAUSTED)."""
        if self._taken[owner] >= self._per_owner:
            raise self._full(f"{self._per_owner} pending jobs for one owner")
        if self._taken.total() >= self._total:
            raise self._full(f"{self._total} pending jobs in all")
        self._taken[owner] += 1

    def take_image(self, job_id: str, size: int) -> None:
        """Take room for the init image of a job that has a place, until that is given back. Raises Refusal
        (RESOURCE_EXHAUSTED)."""
        if self.image_bytes + size > self._image_bytes:
            raise self._full(f"{self._image_bytes} bytes of pending init images in all", "init_image")
        self._images[job_id] = size

    def hold(self, owner: str, job_id: str, image_size: int) -> None:
        """Take a place, and room for an image, for a job that was accepted before: it has its right to them, whatever the
        limits are now."""
        self._taken[owner] += 1
        if image_size:
            self._images[job_id] = image_size

    def release(self, owner: str, job_id: str) -> None:
        """Give back a job's place, and the room of its image."""
        self._images.pop(job_id, None)
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]

    @property
    def taken(self) -> int:
        """Jobs that have a place."""
        return self._taken.total()

    @property
    def image_bytes(self) -> int:
        """What the init images of these jobs take."""
        return sum(self._images.values())

    def _full(self, limit: str, field: str = "") -> Refusal:
        seconds = self._retry_after()
        text = f"the limit of {limit} is reached; try again in {seconds:.0f} s"
        return Refusal(Code.RESOURCE_EXHAUSTED, text, field=field, limit=limit, retry_after_seconds=seconds)
