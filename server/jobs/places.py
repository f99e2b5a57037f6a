"""How many jobs may be pending, in all and for one owner, and what pictures that came with them may take together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from server.errors import Code, Refusal


class _Room:
    """So many bytes for what jobs have brought along."""

    def __init__(self, limit: int, what: str) -> None:
        self.limit = limit
        self.what = what
        self.jobs: dict[str, int] = {}

    @property
    def taken(self) -> int:
        return sum(self.jobs.values())


class Places:
    """Places for jobs that have not ended, and room for `image_bytes` of pixels that they start from and `signature_bytes` of
    pictures that they are signed with. `retry_after` estimates, in seconds, when there will be more."""

    def __init__(
        self,
        total: int,
        per_owner: int,
        retry_after: Callable[[], float],
        *,
        image_bytes: int,
        signature_bytes: int,
    ) -> None:
        self._total = total
        self._per_owner = per_owner
        self._retry_after = retry_after
        self._images = _Room(image_bytes, "pending init images")
        self._signatures = _Room(signature_bytes, "pending signature images")
        self._taken: Counter[str] = Counter()

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
        self._take_room(self._images, job_id, size, "init_image")

    def take_signature(self, job_id: str, size: int) -> None:
        """The same for the picture that it is to be signed with."""
        self._take_room(self._signatures, job_id, size, "signature.image")

    def hold(self, owner: str, job_id: str, image_size: int, signature_size: int = 0) -> None:
        """Take a place, and room for pictures, for a job that was accepted before: it has its right to them, whatever the
        limits are now."""
        self._taken[owner] += 1
        for room, size in ((self._images, image_size), (self._signatures, signature_size)):
            if size:
                room.jobs[job_id] = size

    def release(self, owner: str, job_id: str) -> None:
        """Give back a job's place, and the room of its pictures."""
        for room in (self._images, self._signatures):
            room.jobs.pop(job_id, None)
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
        return self._images.taken

    @property
    def signature_bytes(self) -> int:
        """What the pictures take that they are signed with."""
        return self._signatures.taken

    def _take_room(self, room: _Room, job_id: str, size: int, field: str) -> None:
        if room.taken + size > room.limit:
            raise self._full(f"{room.limit} bytes of {room.what} in all", field)
        room.jobs[job_id] = size

    def _full(self, limit: str, field: str = "") -> Refusal:
        seconds = self._retry_after()
        text = f"the limit of {limit} is reached; try again in {seconds:.0f} s"
        return Refusal(Code.RESOURCE_EXHAUSTED, text, field=field, limit=limit, retry_after_seconds=seconds)
