"""The embedded text model: small, and what it writes the painter understands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from ai.engine import Engine
from ai.text.cards import read_text_card
from ai.types import Answered, EngineEvent, EngineSettings, TextRequest
from config.settings import TEXT_DEMO_MODEL
from models.training.text_model import CONTEXT, END, loss_of, new_network, new_tokenizer, rows, train, word
from models.training.world import COLOURS, Scene, all_scenes, prompt_of

# Every scene that the grammar can say; of one colour on a ground of the same there is no picture, but the model may say so.
SCENES: dict[str, Scene] = {
    prompt_of(replace(scene, ground=ground)): replace(scene, ground=ground)
    for scene in all_scenes()
    for ground in (scene.ground, scene.colour)
}


def written(*prompts: str) -> list[str]:
    """What the committed model writes, the i-th with seed i, by its card's own defaults."""
    card, events = read_text_card("text-demo", str(TEXT_DEMO_MODEL)), list[EngineEvent]()
    engine = Engine([card], EngineSettings(device="cpu", torch_threads=1), lambda: None, events.extend)
    own = card.defaults
    for seed, prompt in enumerate(prompts):
        engine.submit(
            TextRequest(
                request_id=f"{seed:04}", model="text-demo", prompt=prompt, max_length=own.max_length,
                temperature=own.temperature, top_p=own.top_p, top_k=own.top_k, seed=seed,
            )
        )  # fmt: skip
    engine.run()
    answers = {event.request_id: event.output for event in events if isinstance(event, Answered)}
    return [prompt + answers[f"{seed:04}"] for seed, prompt in enumerate(prompts)]


def test_a_hundred_surprises_are_sentences_that_the_painter_knows_and_varied() -> None:
    """Each is of the world's grammar; every size, most colours, shapes and grounds come up, and the two colours differ."""
    texts = written(*[""] * 100)
    assert [text for text in texts if text not in SCENES] == []
    assert len(set(texts)) > 95
    scenes = [SCENES[text] for text in texts]
    assert sum(scene.colour != scene.ground for scene in scenes) >= 95
    assert {scene.size for scene in scenes} == {"small", "medium", "big"}
    assert len({scene.place for scene in scenes}) == 5
    for aspect in ("colour", "shape", "ground"):
        assert len({getattr(scene, aspect) for scene in scenes}) >= 10


def test_a_beginning_is_gone_on_with() -> None:
    """Whatever part of a sentence it is."""
    beginnings = ["a", "a big", "a small red", "a blue star on", "a pink heart on a green background at"]
    for begun, text in zip(beginnings, written(*beginnings), strict=True):
        assert text.startswith(begun)
        assert text in SCENES


def test_the_folder_is_small_and_holds_no_pickle() -> None:
    """Under five megabytes, all of it."""
    files = [file for file in Path(TEXT_DEMO_MODEL).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 5_000_000
    assert not {file.suffix for file in files} & {".bin", ".pt", ".pkl", ".ckpt"}


def test_the_tokenizer_takes_any_text_and_knows_the_world_s_words() -> None:
    """A word of the world is one token; all else is bytes."""
    tokenizer = new_tokenizer()
    sentence = "a big orange triangle on a purple background at the bottom"
    assert len(tokenizer(sentence)["input_ids"]) == 1 + len(sentence.split())
    for text in ("별 ✨", sentence, "<|", "\0\n"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_training_learns_and_goes_on_where_it_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps make it better; run again it begins after its last."""
    monkeypatch.setattr("models.training.text_model.STEPS", 12)
    monkeypatch.setattr("models.training.text_model.BATCH", 16)
    tokenizer = new_tokenizer()
    sample, end = rows(tokenizer)[::500], int(tokenizer.eos_token_id)
    ground, colours = word(tokenizer, " background"), torch.tensor([word(tokenizer, f" {one}") for one in COLOURS])

    def loss(network: transformers.GPT2LMHeadModel) -> float:
        return loss_of(network, sample, end, ground, colours)[0].item()

    torch.manual_seed(0)
    before = loss(new_network(tokenizer))
    train(tmp_path / "work", tmp_path / "out", minutes=1.0)
    made = read_text_card("made", str(tmp_path / "out"))
    assert (made.context, made.defaults.top_p) == (CONTEXT, 0.98)
    network = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out")
    assert loss(network) < before - 0.3
    first = (tmp_path / "out" / "model.safetensors").read_bytes()
    train(tmp_path / "work", tmp_path / "again", minutes=1.0)  # all steps are behind it
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first
    assert END in tokenizer.get_vocab()
