"""Texts in one batch beside transformers' generate behind a lock: eight users at once, who begin a moment apart.

    python -m bench.text [--rounds N] [--threads N]

Each user asks for one text after another, of other lengths and with another sampling than the next. Ours is the engine itself, a
thread for its loop and one for each user; theirs a model that whoever wants a text takes for himself. Both are in this process,
take turns, and have the same weights, float32, and as many torch threads. Greedy texts are compared, the tokens of all counted.

    text_ratio          our tokens a second over theirs, with random weights of GPT-2's size (124 million), which memory bounds
    text_demo_ratio     the same with the embedded model (0.1 million), of which a pass is all calls and no arithmetic
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from ai.engine import Engine
from ai.text.cards import read_text_card
from ai.types import Answered, EngineEvent, EngineSettings, Failed, TextRequest
from bench.report import Spread, print_figures, print_machine, print_table, ratios
from config.settings import TEXT_DEMO_MODEL

USERS = 8
APART = 0.02  # seconds between two users' beginnings
WAYS: Sequence[dict[str, Any]] = (
    {"temperature": 0.0}, {"temperature": 1.0, "top_k": 50}, {"temperature": 0.8, "top_p": 0.9}, {"temperature": 1.2, "top_k": 5},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Done:
    """What one side wrote: seconds for all of it, tokens in all, and the greedy texts by request."""

    seconds: float
    tokens: int
    greedy: dict[str, str]


def orders(texts: int, shortest: int, longest: int) -> list[list[TextRequest]]:
    """What each user asks for, one after the other."""
    found = []
    for user in range(USERS):
        mine = []
        for number in range(texts):
            way = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, **WAYS[(user + number) % len(WAYS)]}
            length = shortest + (longest - shortest) * ((3 * user + 5 * number) % USERS) // (USERS - 1)
            prompt = ("", "a big", "a small red")[(user + number) % 3]
            mine.append(
                TextRequest(
                    request_id=f"{user}-{number}",
                    model="words",
                    prompt=prompt,
                    max_length=length,
                    seed=user + number,
                    **way,
                )
            )
        found.append(mine)
    return found


class Ours:
    """The engine, its loop on a thread of its own whenever there is work."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._ends: dict[str, threading.Event] = {}
        self._answers: dict[str, Answered] = {}
        settings = EngineSettings(device="cpu", dtype="float32", torch_threads=threads)
        self._engine = Engine([read_text_card("words", str(folder))], settings, self._start, self._heard)

    def _start(self) -> None:
        threading.Thread(target=self._engine.run, daemon=True).start()

    def _heard(self, events: Sequence[EngineEvent]) -> None:
        for event in events:
            if isinstance(event, Failed):
                raise SystemExit(f"a text failed: {event.error}")
            if isinstance(event, Answered):
                self._answers[event.request_id] = event
                self._ends[event.request_id].set()

    def write(self, request: TextRequest) -> tuple[str, int]:
        """The text, and its tokens."""
        self._ends[request.request_id] = end = threading.Event()
        self._engine.submit(request)
        end.wait()
        answer = self._answers[request.request_id]
        return answer.output, int(answer.figures["output_token_count"])


class Theirs:
    """transformers' generate, for one at a time."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._threads = threads
        self._lock = threading.Lock()
        self._network: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)

    def write(self, request: TextRequest) -> tuple[str, int]:
        """The text, and its tokens."""
        sampling: dict[str, Any] = {"do_sample": False}
        if request.temperature:
            sampling = {
                "do_sample": True, "temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k,
            }  # fmt: skip
        with self._lock, torch.inference_mode():
            torch.set_num_threads(self._threads)  # torch keeps it by thread
            torch.manual_seed(request.seed)
            given = self._tokenizer(
                request.prompt or self._tokenizer.bos_token,
                return_tensors="pt",
                add_special_tokens=bool(request.prompt),
            )
            prompt = given["input_ids"]
            whole = self._network.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=request.max_length,
                pad_token_id=self._tokenizer.eos_token_id, **sampling,
            )[0, prompt.shape[1] :]  # fmt: skip
            return self._tokenizer.decode(whole, skip_special_tokens=True), len(whole)


def run(side: Ours | Theirs, asked: Sequence[Sequence[TextRequest]], turn: int) -> Done:
    """All users at once, each on a thread."""
    written: dict[str, tuple[str, int]] = {}

    def user(number: int) -> None:
        time.sleep(APART * number)
        for request in asked[number]:
            written[request.request_id] = side.write(replace(request, request_id=f"{turn}-{request.request_id}"))

    users = [threading.Thread(target=user, args=(number,)) for number in range(USERS)]
    began = time.perf_counter()
    for one in users:
        one.start()
    for one in users:
        one.join()
    seconds = time.perf_counter() - began
    greedy = {
        request.request_id: written[request.request_id][0]
        for mine in asked
        for request in mine
        if not request.temperature
    }
    return Done(seconds, sum(tokens for _, tokens in written.values()), greedy)


def compare(name: str, folder: Path, asked: Sequence[Sequence[TextRequest]], rounds: int, threads: int) -> Spread:
    """Tokens a second of both sides in turns, as a ratio; their texts must be the same where nothing is drawn."""
    ours, theirs = Ours(folder, threads), Theirs(folder, threads)
    for side in (ours, theirs):  # loaded, and each kind of pass made once
        for number in range(len(WAYS)):
            side.write(replace(asked[number][0], request_id=f"warm-{number}", max_length=4))
    our_rates, their_rates = [], []
    for turn in range(rounds):
        mine, other = run(ours, asked, turn), run(theirs, asked, turn)
        if mine.greedy != other.greedy or not mine.greedy:
            raise SystemExit(f"{name}: greedy texts differ")
        if not 0.5 < mine.tokens / other.tokens < 2:
            raise SystemExit(f"{name}: {mine.tokens} tokens of ours are no match for {other.tokens}")
        our_rates.append(mine.tokens / mine.seconds)
        their_rates.append(other.tokens / other.seconds)
    found = ratios(our_rates, their_rates)
    rows = [["the engine", Spread.of(our_rates).text(0)], ["generate behind a lock", Spread.of(their_rates).text(0)]]
    print_table([f"{name}, {USERS} users", "tokens/s"], [*rows, ["ratio", found.text(2)]])
    return found


def write_random(folder: Path) -> Path:
    """GPT-2's own size, with the embedded model's words and weights that are drawn."""
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(TEXT_DEMO_MODEL)
    end = tokenizer.eos_token_id
    config = transformers.GPT2Config(bos_token_id=end, eos_token_id=end)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    print_machine(["torch", "transformers"], torch_threads=given.threads)
    demo = compare("the embedded model", TEXT_DEMO_MODEL, orders(12, 8, 40), given.rounds, given.threads)
    folder = Path(tempfile.mkdtemp())
    try:
        large = compare("GPT-2's size", write_random(folder), orders(4, 16, 64), given.rounds, given.threads)
    finally:
        shutil.rmtree(folder)
    figures = {"text_ratio": large.median, "text_ratio_low": min(large.values), "text_ratio_high": max(large.values)}
    print_figures(figures | {"text_demo_ratio": demo.median})


if __name__ == "__main__":
    main()
