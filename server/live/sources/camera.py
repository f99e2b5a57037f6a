"""A camera, or whatever else OpenCV's VideoCapture opens: a device by its number or path, a stream's URL, a video file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from server.live.sources.pictures import fitted, opencv
from server.live.sources.reading import Shape, SourceFailed, SourceFrame, Timed

USUAL_RATE = 30.0  # frames a second, of a video file that does not say


class CameraReader:
    """`rate` 0 is the camera's own; frames of one that is quicker are let go, so that what is given is always new.

    `now` gives seconds since 1970. A video file is played at `rate`, or at the one that it says of itself.
    """

    def __init__(
        self, device: str, shape: Shape, *, now: Callable[[], float], rate: float = 0.0, repeat: bool = False
    ) -> None:
        self._device = device
        self._shape = shape
        self._now = now
        self._rate = rate
        self._repeat = repeat
        self._capture: Any = None
        self._file_rate = 0.0  # 0: it is no file
        self._frames = 0
        self._next_at = now()  # with `rate`

    def open(self) -> None:
        """Raises SourceFailed."""
        cv2 = opencv()
        place: Any = int(self._device) if self._device.isdecimal() else self._device
        self._capture = cv2.VideoCapture(place)
        if not self._capture.isOpened():
            raise SourceFailed("the camera cannot be opened")
        if self._capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
            own = self._capture.get(cv2.CAP_PROP_FPS)
            self._file_rate = self._rate or (own if 0 < own < 1000 else USUAL_RATE)
        else:
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # where the driver listens: old frames are of no use

    def read(self) -> Timed | None:
        """The next frame, with the time at which it was there. Raises SourceFailed when a camera gives none any more."""
        if self._file_rate:
            return self._of_file()
        while True:
            if not self._capture.grab():
                raise SourceFailed("the camera gives no frames any more")
            at = self._now()
            if self._is_due(at):
                return Timed(self._frame(int(at * 1e6)))

    def close(self) -> None:
        """Release the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _is_due(self, at: float) -> bool:
        """Whether the frame of this moment is one of so many a second; a little early is not too early, since cameras waver."""
        if not self._rate:
            return True
        every = 1 / self._rate
        if at < self._next_at - every / 4:
            return False
        self._next_at = max(self._next_at, at - every) + every
        return True

    def _of_file(self) -> Timed | None:
        if not self._capture.grab():
            if not self._repeat or not self._frames:
                return None
            self._capture.set(opencv().CAP_PROP_POS_FRAMES, 0)
            if not self._capture.grab():
                raise SourceFailed("the video cannot be played again")
        due = self._frames / self._file_rate
        self._frames += 1
        return Timed(self._frame(0), due)

    def _frame(self, captured_us: int) -> SourceFrame:
        there, pixels = self._capture.retrieve()
        if not there:
            raise SourceFailed("a frame of the camera could not be decoded")
        return SourceFrame(image=fitted(pixels, self._shape), captured_us=captured_us)
