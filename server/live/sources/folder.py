"""A folder of pictures, in the order of their names; those that come later are seen in the next round."""

from __future__ import annotations

from pathlib import Path

import structlog

from server.live.sources.pictures import fitted, read_picture
from server.live.sources.reading import Shape, SourceFailed, SourceFrame, Timed

log = structlog.get_logger("atelier.live")

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
LARGEST = 64 << 20  # bytes of a file: more is no frame of anything


class FolderReader:
    """Gives a picture every 1 / `rate` seconds. What is no picture is passed over; a round without any is a failure."""

    def __init__(self, folder: Path, shape: Shape, *, rate: float, repeat: bool = True) -> None:
        self._folder = folder
        self._shape = shape
        self._rate = rate
        self._repeat = repeat
        self._round: list[Path] = []  # what is still to come of it, the next one last
        self._good = 0  # pictures of this round
        self._frames = 0

    def open(self) -> None:
        """Raises SourceFailed where there is no folder, or no picture in it."""
        self._begin_round()

    def read(self) -> Timed | None:
        """The next picture. Raises SourceFailed when none is left."""
        while True:
            if not self._round:
                if not self._good:
                    raise SourceFailed("no file of the folder could be read as a picture")
                if not self._repeat:
                    return None
                self._begin_round()
            path = self._round.pop()
            try:
                image = self._picture(path)
            except SourceFailed as error:
                log.warning("source.picture_passed_over", file=path.name, reason=str(error))
                continue
            self._good += 1
            due = self._frames / self._rate
            self._frames += 1
            return Timed(SourceFrame(image=image), due)

    def close(self) -> None:
        """There is nothing that is held."""

    def _begin_round(self) -> None:
        try:
            found = sorted(path for path in self._folder.iterdir() if path.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise SourceFailed(f"the folder cannot be read: {error.strerror}") from None
        if not found:
            raise SourceFailed("there is no picture in the folder")
        self._round, self._good = found[::-1], 0

    def _picture(self, path: Path) -> bytes:
        try:
            if path.stat().st_size > LARGEST:
                raise SourceFailed(f"larger than {LARGEST} bytes")
            data = path.read_bytes()
        except OSError as error:
            raise SourceFailed(str(error.strerror)) from None
        return fitted(read_picture(data), self._shape)
