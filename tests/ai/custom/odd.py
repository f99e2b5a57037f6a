"""Classes for custom models that behave, and many that do not. Run in processes of their own; nothing imports torch."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from PIL import Image
from pydantic import Field

from ai.custom.authoring import Picture, Preview, Progress


class Echo:
    """Says it again.

    This is not told.
    """

    def predict(
        self,
        text: Annotated[str, Field(description="What to say.", max_length=100)],
        times: Annotated[int, Field(ge=1, le=5, description="How often.")] = 1,
        voice: Literal["loud", "soft"] = "soft",
    ) -> dict[str, Any]:
        said = text.upper() if voice == "loud" else text
        return {"said": said * times, "process": os.getpid()}


class Stored:
    """Is made with an argument, loaded and unloaded, and leaves a trace of each."""

    memory = 50_000_000
    cost = 2.5
    repeatable = True

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/life"
        self._note("made")

    def load(self) -> None:
        self._note("loaded")

    def predict(self, word: str) -> str:
        self._note(word)
        return word

    def unload(self) -> None:
        self._note("unloaded")

    def _note(self, word: str) -> None:
        with open(self._path, "a") as file:
            file.write(word + "\n")


class Teller:
    """Yields all that may be yielded."""

    model_type = "text-generation"

    def predict(self, words: int = 3) -> Iterator[str | Progress | Preview]:
        for number in range(words):
            yield Progress(number / words)
            yield f"word {number} "
        yield Preview(Image.new("RGB", (4, 2), (1, 2, 3)))


class Halves:
    """A picture, half as large."""

    model_type = "image-to-image"

    def predict(self, image: Picture) -> Image.Image:
        return image.resize((image.width // 2, image.height // 2))


class Large:
    """Says that it takes much."""

    memory = 390_000_000

    def predict(self) -> str:
        return "here"


class Patient:
    """Yields again and again, for as long as it is let."""

    def predict(self, seconds: float = 60.0) -> Iterator[Progress]:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            yield Progress(0.5)
            time.sleep(0.01)


class Deaf:
    """Never yields."""

    def predict(self, seconds: float = 60.0) -> str:
        time.sleep(seconds)
        return "rested"


class DeafToAll:
    """Holds Python's lock, so that no signal handler of Python's own would run."""

    predict_seconds = 0.5

    def predict(self) -> str:
        ctypes.PyDLL(None).sleep(60)
        return "rested"


class Chatty:
    """Floods its listener with pieces, and its terminal with lines."""

    def predict(self, pieces: int = 20_000) -> Iterator[str | Progress]:
        for number in range(pieces):
            sys.stdout.write(f"line {number}\n")
            yield "a"
            yield Progress(number / pieces)


class Troubled:
    """Does what it is asked to, all of it bad."""

    def predict(self, trouble: str) -> Any:
        return getattr(self, f"_{trouble}")()

    def _raise(self) -> None:
        raise ValueError("no such luck\nsecond line")

    def _exit(self) -> None:
        sys.exit(3)

    def _os_exit(self) -> None:
        os._exit(3)

    def _kill(self) -> None:
        os.kill(os.getpid(), 9)

    def _fault(self) -> None:
        ctypes.string_at(0)

    def _memory_error(self) -> None:
        raise MemoryError("no more")

    def _eat(self) -> None:
        eaten = []
        while True:
            eaten.append(bytearray(b"x" * 10_000_000))

    def _eat_in_children(self) -> None:
        eaten = "x = []\nwhile True: x.append(bytearray(b'x' * 1_000_000))"
        subprocess.run([sys.executable, "-c", eaten], start_new_session=True, check=False)

    def _print(self) -> str:
        sys.stdout.write("garbage on stdout\n")
        os.write(1, b"\x00\xff garbage below Python\n")
        sys.stderr.write("garbage on stderr\n")
        return "printed"

    def _garble(self) -> None:
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"\xff" * 64)
            except OSError:
                continue
        time.sleep(60)

    def _fork(self) -> str:
        """Both processes go on from here, and answer."""
        os.fork()
        return "forked"

    def _leave_children(self) -> list[int]:
        """One in a session of its own, whose parent has ended: nobody's."""
        script = (
            "import os, subprocess, sys\n"
            "new = {'start_new_session': True}\n"
            "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
            "child = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **new)\n"
            "print(child.pid)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return [int(done.stdout)]

    def _object(self) -> object:
        return object()

    def _nan(self) -> float:
        return float("nan")

    def _loop(self) -> list[Any]:
        loop: list[Any] = []
        loop.append(loop)
        return loop

    def _too_much(self) -> str:
        return "x" * 5_000_000

    def _large_picture(self) -> Image.Image:
        return Image.new("RGB", (2000, 2000))

    def _empty_picture(self) -> Image.Image:
        return Image.new("RGB", (0, 5))

    def _yield_nonsense(self) -> Iterator[object]:
        yield "a word"
        yield object()

    def _yield_too_far(self) -> Iterator[Progress]:
        yield Progress(1.5)

    def _yield_too_much(self) -> Iterator[str]:
        while True:
            yield "x" * 100_000

    def _inherited(self) -> dict[str, Any]:
        """What it has from the server."""
        descriptors = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                continue  # the one that the list was read by
        return {"environment": dict(os.environ), "descriptors": descriptors}


class LoadRaises:
    """Cannot be loaded."""

    def load(self) -> None:
        raise RuntimeError("the weights are gone")

    def predict(self) -> str:
        return ""


class LoadHangs(LoadRaises):
    """Is never loaded."""

    def load(self) -> None:
        time.sleep(60)


class LoadExits(LoadRaises):
    """Ends instead."""

    def load(self) -> None:
        os._exit(7)


class LoadEats(LoadRaises):
    """Takes more than there is."""

    def load(self) -> None:
        Troubled()._eat()


class UnloadRaises:
    """Is not let go without a word."""

    def predict(self) -> str:
        return "here"

    def unload(self) -> None:
        raise RuntimeError("not yet")


class Coroutine:
    """Is no function."""

    async def predict(self, text: str) -> str:
        return text


class Unannotated:
    """Says nothing of what it takes."""

    def predict(self, text):  # type: ignore[no-untyped-def]
        return text


class Unknowable:
    """Takes what has no form in JSON."""

    def predict(self, process: subprocess.Popen[bytes]) -> str:
        return str(process)


class Starred:
    """Takes whatever comes."""

    def predict(self, **anything: str) -> str:
        return str(anything)


class Mistyped:
    """Calls itself what there is not."""

    model_type = "astrology"

    def predict(self, text: str) -> str:
        return text


class Counted:
    """Costs more the more is asked of it."""

    cost: ClassVar = {"": 2, "times": 0.5}

    def predict(self, times: int | None = None) -> str:
        return "." * (times or 0)


class Misspelt(Counted):
    """Has a cost by nothing that there is."""

    cost: ClassVar = {"time": 0.5}


class Free(Counted):
    """Costs nothing for each."""

    cost: ClassVar = {"times": 0}


class Uncounted:
    """Has a cost by what is read only when it runs."""

    cost: ClassVar = {"image": 0.5}

    def predict(self, image: Picture) -> str:
        return "."


class Limitless:
    """Has no sense of limits."""

    predict_seconds = -1

    def predict(self, text: str) -> str:
        return text


class Predictless:
    """Has none."""


not_a_class = 5
