"""A custom model's own process: makes its class, and calls it as it is asked to, one prediction after the other.

    asked     {"do": "describe", "module", "name"}                         what the class takes, without making one
              {"do": "load", "module", "name", "argument"}                 once
              {"do": "predict", "id", "input", "files": [names]} + parts   the bytes of those inputs
              {"do": "cancel", "id"}                                       read where predict yields; one that does not is killed
              {"do": "unload"}                                             the last
    answers   {"say": "described", …} {"say": "loaded"} {"say": "unloaded"}
              {"say": "progress", "fraction"} {"say": "text", "text"} {"say": "preview", "size"} + pixels
              {"say": "done", "output"} or {"say": "done", "sizes": [[width, height]…]} + each one's pixels
              {"say": "canceled"} {"say": "failed", "kind", "reason", "trace"}      of the prediction, or of what else was asked

Its printed output is not here, but on descriptors that lead to the log. The process has one thread, which is the class's.
"""

from __future__ import annotations

import importlib
import inspect
import os
import select
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from PIL import Image

from ai.custom.authoring import Preview, Progress
from ai.custom.cards import COUNTED, MODEL_TYPES
from ai.custom.code_files import code_files
from ai.custom.framing import Frames, FramingError, Message, frame
from ai.custom.inputs import BadInput, BadSignature, Inputs

TOLD_A_SECOND = 50  # messages on the way of a prediction; text and progress beyond it are gathered
MAX_REQUEST = 1 << 30  # bytes of files; the server has let them through already
MAX_TEXT = 1 << 20  # characters that are told in pieces


class Nonsense(Exception):
    """The class gave something that is neither a picture nor plain data, or too much of it."""


class Asked:
    """Messages from the server."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._frames = Frames(MAX_REQUEST)
        self._messages: Iterator[Message] = iter(())

    def next(self) -> Message | None:
        """The next message, waited for. None: there will be none."""
        while True:
            for message in self._messages:
                return message
            data = os.read(self._descriptor, 1 << 20)
            if not data:
                return None
            self._messages = self._frames.receive(data)

    def canceled(self, prediction: str) -> bool:
        """Whether it is not wanted any more. Waits for nobody."""
        while select.select([self._descriptor], [], [], 0)[0]:
            message = self.next()
            if message is None:
                os._exit(0)
            if message.head.get("do") == "cancel" and message.head.get("id") == prediction:
                return True
        return False


class Teller:
    """Answers. In a process that the class has forked, nothing is told: there the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._process = os.getpid()
        self._text = ""
        self._fraction: float | None = None
        self._tokens, self._at = float(TOLD_A_SECOND), time.monotonic()

    def say(self, what: str, parts: Sequence[bytes] = (), **told: Any) -> None:
        """Tell it, after what was gathered."""
        self.answer(frame({"say": what, **told}, parts))

    def answer(self, data: bytes) -> None:
        """The same of a frame that was made already."""
        self.flush()
        self._write(data)

    def on_the_way(self, *, text: str = "", fraction: float | None = None) -> None:
        """Tell it now, or with what follows where there is much of it."""
        self._text += text
        self._fraction = self._fraction if fraction is None else fraction
        if self._may():
            self.flush()

    def flush(self) -> None:
        """Tell what was gathered."""
        text, fraction, self._text, self._fraction = self._text, self._fraction, "", None
        if text:
            self._write(frame({"say": "text", "text": text}))
        if fraction is not None:
            self._write(frame({"say": "progress", "fraction": fraction}))

    def _may(self) -> bool:
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._at) * TOLD_A_SECOND, float(TOLD_A_SECOND))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _write(self, data: bytes) -> None:
        if os.getpid() != self._process:
            os._exit(0)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


class Model:
    """The class, once it is loaded."""

    def __init__(self, asked: Asked, teller: Teller, max_output: int) -> None:
        self._asked = asked
        self._teller = teller
        self._max_output = max_output
        self._made: Any = None
        self._inputs: Inputs | None = None

    def load(self, head: Mapping[str, Any]) -> None:
        """Make it ready."""
        kind = find_class(head["module"], head["name"])
        self._inputs = Inputs(_predict_of(kind))
        self._made = kind() if head.get("argument") is None else kind(head["argument"])
        if hasattr(self._made, "load"):
            self._made.load()
        self._teller.say("loaded")

    def unload(self) -> None:
        """The last call."""
        if hasattr(self._made, "unload"):
            self._made.unload()
        self._teller.say("unloaded")

    def predict(self, message: Message) -> None:
        """One prediction, to its end."""
        assert self._inputs is not None
        head = message.head
        files = dict(zip(head.get("files", ()), message.parts, strict=True))
        arguments = self._inputs.read(head["input"], files)
        outcome, text = self._made.predict(**arguments), ""
        if inspect.isgenerator(outcome):
            outcome, text = self._listen(outcome, head["id"])
            if outcome is _CANCELED:
                self._teller.say("canceled")
                return
        self._done(text if outcome is None and text else outcome)

    def _listen(self, outcome: Any, prediction: str) -> tuple[Any, str]:
        """What the generator returned, and the text that it has yielded."""
        texts: list[str] = []
        size = 0
        while True:
            try:
                yielded = next(outcome)
            except StopIteration as end:
                return end.value, "".join(texts)
            if isinstance(yielded, str):
                texts.append(yielded)
                size += len(yielded)
                if size > min(MAX_TEXT, self._max_output):
                    raise Nonsense(f"predict yielded more than {min(MAX_TEXT, self._max_output):,} characters")
            self._told(yielded)
            if self._asked.canceled(prediction):
                outcome.close()
                return _CANCELED, ""

    def _told(self, yielded: object) -> None:
        if isinstance(yielded, str):
            self._teller.on_the_way(text=yielded)
        elif isinstance(yielded, Progress):
            fraction = yielded.fraction
            if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1:
                raise Nonsense(f"predict yielded a Progress of {fraction!r:.60}, which is not 0 to 1")
            self._teller.on_the_way(fraction=float(fraction))
        elif isinstance(yielded, Preview) and isinstance(yielded.picture, Image.Image):
            pixels = self._pixels([yielded.picture])
            self._teller.say("preview", pixels, size=yielded.picture.size)
        else:
            raise Nonsense(f"predict yielded {_kind(yielded)}: it may yield str, Progress and Preview")

    def _done(self, outcome: object) -> None:
        """A picture, a list of pictures, or plain data."""
        pictures = [outcome] if isinstance(outcome, Image.Image) else outcome
        if isinstance(pictures, list) and pictures and all(isinstance(one, Image.Image) for one in pictures):
            pixels = self._pixels(pictures)
            self._teller.say("done", pixels, sizes=[picture.size for picture in pictures])
        else:
            self._teller.answer(self._plain(outcome))

    def _plain(self, outcome: object) -> bytes:
        try:
            answer = frame({"say": "done", "output": outcome})
        except (TypeError, ValueError, RecursionError) as error:
            raise Nonsense(f"predict returned what is no plain data: {_first_line(error)}") from error
        except FramingError as error:
            raise Nonsense(f"predict returned too much: {error}") from error
        if len(answer) > self._max_output:
            raise Nonsense(f"predict returned more than {self._max_output:,} bytes of JSON")
        return answer

    def _pixels(self, pictures: Sequence[Image.Image]) -> list[bytes]:
        size = sum(3 * picture.width * picture.height for picture in pictures)
        if size > self._max_output:
            raise Nonsense(f"predict gave pictures of {size:,} bytes; {self._max_output:,} are allowed")
        if any(not picture.width or not picture.height for picture in pictures):
            raise Nonsense("predict gave a picture without a pixel")
        return [picture.convert("RGB").tobytes() for picture in pictures]


_CANCELED = object()


def find_class(module: str, name: str) -> type:
    """Import it. Raises BadSignature."""
    found = getattr(importlib.import_module(module), name, None)
    if not inspect.isclass(found):
        raise BadSignature(f"{module} has no class {name}")
    return found


def _predict_of(kind: type) -> Callable[..., Any]:
    predict = getattr(kind, "predict", None)
    if not inspect.isfunction(predict):
        raise BadSignature(f"{kind.__name__} has no method predict")
    if inspect.iscoroutinefunction(predict) or inspect.isasyncgenfunction(predict):
        raise BadSignature("predict: is a coroutine; its process has nothing else to do, so let it wait")
    return predict


def describe(head: Mapping[str, Any]) -> dict[str, Any]:
    """What a class says of itself. Raises BadSignature, and whatever importing it does."""
    kind = find_class(head["module"], head["name"])
    inputs = Inputs(_predict_of(kind))
    cost, cost_by = _cost(kind, inputs.schema)
    model_type = getattr(kind, "model_type", "custom")
    if model_type not in MODEL_TYPES:
        raise BadSignature(f"model_type: {model_type!r:.60} is none of {', '.join(MODEL_TYPES)}")
    repeatable = getattr(kind, "repeatable", False) is True
    return {
        "model_type": model_type,
        "description": " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()),
        "input_schema": inputs.schema,
        "memory": _number(kind, "memory"),
        "memory_limit": _number(kind, "memory_limit"),
        "predict_seconds": _number(kind, "predict_seconds"),
        "cost": cost,
        "cost_by": cost_by,
        "repeatable": repeatable,
        "code": code_files({head["module"], kind.__module__}) if repeatable else (),
    }


def _number(kind: type, name: str) -> float | None:
    return _above_0(name, getattr(kind, name, None))


def _above_0(name: str, value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < inf):
        raise BadSignature(f"{name}: {value!r:.60} is no number above 0")
    return value


def _cost(kind: type, schema: Mapping[str, Mapping[str, Any]]) -> tuple[float | None, dict[str, float]]:
    """What a call costs, and what each unit of some of its inputs does beside it."""
    told = getattr(kind, "cost", None)
    if not isinstance(told, Mapping):
        return _number(kind, "cost"), {}
    costs = {name: _above_0(f"cost: {name}", value) or 0.0 for name, value in told.items()}
    call = costs.pop("", None)
    for name in costs:
        if name not in schema:
            raise BadSignature(f"cost: {name!r:.60} is none of {', '.join(schema)}")
        if schema[name].get("type") not in COUNTED or "contentMediaType" in schema[name]:
            raise BadSignature(
                f"cost: {name} is neither a number nor a text nor a list, so that nothing of it is counted"
            )
    return call, costs


def run(requests: int, answers: int) -> None:
    """Answer until the server has nothing more to ask."""
    teller, asked = Teller(answers), Asked(requests)
    model: Model | None = None
    while (message := asked.next()) is not None:
        do = message.head.get("do")
        try:
            if do == "describe":
                teller.say("described", **describe(message.head))
            elif do == "load":
                model = Model(asked, teller, int(message.head["max_output"]))
                model.load(message.head)
            elif do == "predict" and model is not None:
                model.predict(message)
            elif do == "unload" and model is not None:
                model.unload()
        except BaseException as error:  # SystemExit too: it is the class's, and ends one prediction
            teller.say("failed", **failure(error))
        if do == "unload":
            return


def failure(error: BaseException) -> dict[str, Any]:
    """What is told of an exception: for callers its first line, for the log all of it."""
    trace = "".join(traceback.format_exception(error))[-20_000:]
    if isinstance(error, BadInput):
        return {"kind": "input", "field": error.field, "reason": error.reason, "trace": ""}
    if isinstance(error, (BadSignature, Nonsense)):
        return {"kind": "class", "reason": str(error), "trace": trace}
    reason = f"{type(error).__name__}: {_first_line(error)}"[:500]
    return {"kind": "memory" if isinstance(error, MemoryError) else "raised", "reason": reason, "trace": trace}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
