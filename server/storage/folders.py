"""Files of a folder of this machine, put there several at a time: whole or not at all, and on the disk.

A disk takes about as long to keep one change as to keep many, but each has to be waited for. So all files of a group are written,
the disk is asked to begin with all of them, each is waited for, then named, then their folders are waited for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PIECE = 1 << 20  # bytes of a large file at a time

Parts = tuple[str, ...]

Known = tuple[int, int]
"""Which folder it is: its inode, and when names were last made or removed in the one above (ns). The inode alone would not do: a
file system may give it to the next folder that is made."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """`parts` are the folders' names below the root, and the file's; what is in it is `data`, or what another file has."""

    parts: Parts
    data: bytes = field(default=b"", repr=False)
    source: Path | None = None

    def pieces(self) -> Iterator[bytes]:
        """What is in it, in pieces where it comes from a file."""
        if self.source is None:
            yield self.data
            return
        with self.source.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


class Folders:
    """Folders below `root`, opened step by step, so that nobody can put a link in the way; each once. Raises OSError.

    With `kept` they are made where they are missing; it holds those whose names are known to be on the disk: one that is there
    may have been made a moment ago, by somebody who still waits for it, also in the place of one that was known.
    """

    def __init__(self, root: Path, kept: dict[Parts, Known] | None = None) -> None:
        if kept is not None:
            root.mkdir(parents=True, exist_ok=True)
        self._kept = kept
        self._handles: dict[Parts, int] = {(): os.open(root, os.O_RDONLY | os.O_DIRECTORY)}
        self._unsure: dict[Parts, dict[Parts, int]] = {}  # in which something may be new: folders, by inode

    def handle(self, parts: Parts) -> int:
        """One of them."""
        known = self._handles.get(parts)
        if known is not None:
            return known
        above = self.handle(parts[:-1])
        if self._kept is not None:
            with suppress(FileExistsError):
                os.mkdir(parts[-1], dir_fd=above)
                self._kept.pop(parts, None)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        handle = self._handles[parts] = os.open(parts[-1], flags, dir_fd=above)
        if self._kept is not None:
            inode = os.fstat(handle).st_ino
            if self._kept.get(parts) != (inode, os.fstat(above).st_mtime_ns):
                self._unsure.setdefault(parts[:-1], {})[parts] = inode
        return handle

    def forget(self, parts: Parts) -> None:
        """Open this folder, and those above, anew when they are next asked for: somebody has removed one, since it was empty."""
        for depth in range(1, len(parts) + 1):
            if parts[:depth] in self._handles:
                os.close(self._handles.pop(parts[:depth]))

    def changed(self, parts: Parts) -> None:
        """Something in it has another name now."""
        self._unsure.setdefault(parts, {})

    def keep(self, parts: Parts) -> None:
        """Wait until what is new in this folder, and in those above it, is on the disk."""
        handles = [self.handle(parts[:depth]) for depth in range(len(parts) + 1)]  # some may have been forgotten
        for depth, handle in enumerate(handles):
            if parts[:depth] in self._unsure:
                changed_at = os.fstat(handle).st_mtime_ns  # first: what comes later may not be on the disk
                os.fsync(handle)
                named = self._unsure.pop(parts[:depth])
                if self._kept is not None:
                    self._kept.update({inner: (inode, changed_at) for inner, inode in named.items()})

    def close(self) -> None:
        """Done with them."""
        for handle in self._handles.values():
            os.close(handle)


class _Writing:
    """One file on its way: written beside its place, and renamed, so that a reader, or a crash, sees the old file or the new."""

    def __init__(self, folders: Folders, file: NewFile) -> None:
        self._folders = folders
        self._file = file
        self._above = file.parts[:-1]
        self._name = ""
        self._handle = -1
        self.problem: OSError | None = None

    def write(self) -> None:
        """Beside its place."""
        name = f".writing-{os.urandom(8).hex()}"
        try:
            self._handle = self._open(name)
        except FileNotFoundError:  # who deletes a picture removes its folder if that was the last
            if not self._above:
                raise
            self._folders.forget(self._above)
            self._handle = self._open(name)
        self._name = name
        os.fchmod(self._handle, 0o644)  # something else may serve the folder, as another user
        for piece in self._file.pieces():
            left = memoryview(piece)
            while left:
                left = left[os.write(self._handle, left) :]

    def _open(self, name: str) -> int:
        folder = self._folders.handle(self._above)
        return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)

    def begin(self) -> None:
        """Let the disk begin: whoever is waited for first would else be the only one that it knows of."""
        if hasattr(os, "posix_fadvise"):  # on Linux this starts to write what is not written yet
            with suppress(OSError):
                os.posix_fadvise(self._handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def wait(self) -> None:
        """Until its content is on the disk."""
        os.fsync(self._handle)

    def appear(self) -> None:
        """In its place."""
        folder = self._folders.handle(self._above)
        os.replace(self._name, self._file.parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
        self._name = ""
        self._folders.changed(self._above)

    def keep(self) -> None:
        """A rename lasts when its folder is on the disk."""
        self._folders.keep(self._above)

    def close(self) -> None:
        """Leave nothing half done behind."""
        if self._handle >= 0:
            os.close(self._handle)
        if self._name:
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._folders.handle(self._above))


def put_files(root: Path, files: Sequence[NewFile], kept: dict[Parts, Known]) -> list[OSError | None]:
    """Each one's problem, if it has one; those without are on the disk, with all folders that lead there. `kept`: see Folders."""
    try:
        folders = Folders(root, kept)
    except OSError as problem:
        return [problem for _ in files]
    writings = [_Writing(folders, file) for file in files]
    try:
        for step in (_Writing.write, _Writing.begin, _Writing.wait, _Writing.appear, _Writing.keep):
            for writing in writings:
                if writing.problem is None:
                    try:
                        step(writing)
                    except OSError as problem:
                        writing.problem = problem
        return [writing.problem for writing in writings]
    finally:
        for writing in writings:
            writing.close()
        folders.close()
