"""The letters to an engine's loop, and whether a loop runs that will read them.

Any thread may put a letter in; the loop takes them out between two steps. One lock covers the letters and the loop's
decision to end, so a letter is either seen by the running loop or starts a new one. Imports no torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ai.loading import Letter
from ai.types import EngineStopped


class Inbox:
    """`start` must have a loop run soon that takes letters until `take` says that there is nothing to do (or at once, in a
    test). It is called exactly when there is a letter and no loop is running."""

    def __init__(self, start: Callable[[], None]) -> None:
        self._start = start
        self._lock = threading.Lock()  # guards all that follows
        self._letters: list[Letter] = []
        self._looping = False
        self._stopping = False
        self._lost = ""  # why no more is taken in
        self._known: set[str] = set()  # request ids from `submit` to `forget`
        self._submitted = 0  # images of requests whose letters nobody has read yet

    # From any thread.

    def submit(self, request_id: str, images: int, letter: Letter) -> None:
        """Take in a request's letter. Raises ValueError for an id that is known, EngineStopped once no more is taken in, and
        whatever `start` raises: then the letter stays here, and the next one tries to start the loop again."""
        with self._lock:
            if self._stopping:
                raise EngineStopped("the engine is stopping and takes no more requests")
            if self._lost:
                raise EngineStopped(self._lost)
            if request_id in self._known:
                raise ValueError(f"request_id: {request_id!r} is in the engine already")
            self._known.add(request_id)
            self._submitted += images
            self._letters.append(letter)
            wake = self._wakes()
        self._wake(wake)

    def post(self, letter: Letter) -> None:
        """Have the loop read a letter, in its turn; nobody does after the device was lost."""
        with self._lock:
            if self._lost:
                return
            self._letters.append(letter)
            wake = self._wakes()
        self._wake(wake)

    def stop(self) -> None:
        """Take in no more requests; a loop runs if any is known."""
        with self._lock:
            self._stopping = True
            wake = bool(self._known) and self._wakes()
        self._wake(wake)

    def knows(self, request_id: str) -> bool:
        """Whether a request was submitted and has not ended."""
        with self._lock:
            return request_id in self._known

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        with self._lock:
            return self._stopping

    @property
    def has_letters(self) -> bool:
        """Whether anybody wants something of the loop."""
        return bool(self._letters)  # as good as with the lock: a letter that comes now is read soon

    @property
    def submitted(self) -> int:
        """How many images have been asked for in letters that nobody has read yet."""
        with self._lock:
            return self._submitted

    def _wakes(self) -> bool:
        wake, self._looping = not self._looping, True
        return wake

    def _wake(self, wake: bool) -> None:
        if not wake:
            return
        try:
            self._start()  # outside the lock: a synchronous `start` runs the whole loop here
        except BaseException:
            with self._lock:
                self._looping = False  # the letter stays in the inbox; whoever comes next tries again
            raise

    # On the loop's thread.

    def take(self, goes_on: Callable[[bool], bool]) -> list[Letter] | None:
        """All letters. None if there are none and `goes_on`, which is told whether the engine is stopping, sees nothing to
        do without one: then the loop has ended, in the lock's eyes too."""
        with self._lock:
            letters = self._emptied()
            self._looping = bool(letters) or goes_on(self._stopping)
            return letters if self._looping else None

    def take_last(self, lost: str) -> list[Letter] | None:
        """All letters; None if there are none: then the loop has ended, and for the reason `lost` no more is taken in."""
        with self._lock:
            letters = self._emptied()
            if letters:
                return letters
            self._looping, self._lost = False, lost
            return None

    def forget(self, request_id: str) -> None:
        """A request has ended: its id may come again."""
        with self._lock:
            self._known.discard(request_id)

    def _emptied(self) -> list[Letter]:
        letters, self._letters, self._submitted = self._letters, [], 0
        return letters
