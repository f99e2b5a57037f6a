"""The examples, in their own processes, over tiny checkpoints of real architectures."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from ai.types import Answered, Finished, ModelLoadError, Previewed, Stepped
from tests.ai.custom.hosted import a_card, error_of, hosting

WORDS = ["[PAD]", "[UNK]", "[END]", "a", "red", "green", "blue", "cat", "tree", "on", "the"]
VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TORCH_MEMORY = 2_000_000_000  # torch and transformers take some hundred megabytes before a weight is read


def a_picture(width: int = 8, height: int = 6) -> str:
    """As a data URL: a gradient."""
    file = BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def a_tokenizer(folder: Path) -> None:
    """Leave one there that knows these words."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]", model_max_length=32
    )
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A classifier, a captioner and an embedder, with random weights."""
    root = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(5)
    found = {name: root / name for name in ("classifier", "captioner", "embedder")}
    eyes = ViTConfig(image_size=16, patch_size=8, num_labels=3, id2label={0: "cat", 1: "tree", 2: "house"}, **VIT)
    ViTForImageClassification(eyes).save_pretrained(found["classifier"])
    mouth = GPT2Config(
        vocab_size=len(WORDS), n_positions=64, n_embd=16, n_layer=1, n_head=2, add_cross_attention=True,
        bos_token_id=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    config: Any = VisionEncoderDecoderConfig
    speaker = VisionEncoderDecoderModel(config.from_encoder_decoder_configs(eyes, mouth))
    speaker.config.decoder_start_token_id = speaker.generation_config.decoder_start_token_id = 2
    speaker.config.pad_token_id = speaker.generation_config.pad_token_id = 0
    speaker.save_pretrained(found["captioner"])
    BertModel(
        BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **VIT), add_pooling_layer=False
    ).save_pretrained(found["embedder"])
    for name in ("classifier", "captioner"):
        ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(found[name])
    for name in ("captioner", "embedder"):
        a_tokenizer(found[name])
    return found


async def test_the_upscaler_makes_a_larger_picture() -> None:
    """As Pillow would in one piece, told as it goes, with a preview first."""
    card = a_card("upscaler", "ai.custom.examples.upscaling:Upscaler")
    async with hosting(card, max_output=10_000_000) as hosted:
        end = await hosted.ask("upscaler", image=a_picture(40, 300), scale=3, filter="nearest")
        assert isinstance(end, Finished)
        (picture,) = end.pictures
        assert (picture.width, picture.height) == (120, 900)
        small = Image.linear_gradient("L").resize((40, 300)).convert("RGB")
        assert picture.rgb == small.resize((120, 900), Image.Resampling.NEAREST).tobytes()
        assert [event.fraction for event in hosted.of(Stepped)] == pytest.approx([256 / 900, 512 / 900, 768 / 900, 1.0])
        assert len(hosted.of(Previewed)) == 1
        sharp = await hosted.ask("upscaler", "sharp", image=a_picture(40, 30), sharpen=2.0)
        plain = await hosted.ask("upscaler", "plain", image=a_picture(40, 30))
        assert isinstance(sharp, Finished)
        assert isinstance(plain, Finished)
        assert sharp.pictures[0].rgb != plain.pictures[0].rgb


async def test_the_classifier_says_what_the_network_says(folders: dict[str, Path]) -> None:
    """The likeliest first, with the names of its configuration, and the same scores as the network called here."""
    card = a_card("classifier", f"ai.custom.examples.classification:Classifier@{folders['classifier']}")
    async with hosting(card, memory=TORCH_MEMORY) as hosted:
        end = await hosted.ask("classifier", image=a_picture(), top_k=2)
    assert isinstance(end, Answered)
    network = ViTForImageClassification.from_pretrained(folders["classifier"]).eval()
    seen = ViTImageProcessorPil.from_pretrained(folders["classifier"])(
        images=Image.linear_gradient("L").resize((8, 6)).convert("RGB"), return_tensors="pt"
    )
    with torch.inference_mode():
        scores = network(**seen).logits[0].softmax(-1)
    best = scores.argsort(descending=True)[:2].tolist()
    assert [told["label"] for told in end.output] == [network.config.id2label[place] for place in best]
    assert [told["score"] for told in end.output] == pytest.approx(scores[best].tolist(), abs=1e-5)


async def test_the_captioner_speaks_the_words_of_its_model(folders: dict[str, Path]) -> None:
    """The same each time, no longer than it may be."""
    card = a_card("captioner", f"ai.custom.examples.captioning:Captioner@{folders['captioner']}")
    async with hosting(card, memory=TORCH_MEMORY) as hosted:
        first = await hosted.ask("captioner", "first", image=a_picture(), max_length=4)
        again = await hosted.ask("captioner", "again", image=a_picture(), max_length=4)
    assert isinstance(first, Answered)
    assert isinstance(again, Answered)
    assert first.output == again.output
    assert 0 < len(first.output.split()) <= 4
    assert set(first.output.split()) <= set(WORDS)


async def test_the_embedder_makes_a_vector_of_each_text(folders: dict[str, Path]) -> None:
    """Of length 1; a text's does not depend on the others, and two of the same words are the same."""
    card = a_card("embedder", f"ai.custom.examples.embedding:Embedder@{folders['embedder']}")
    async with hosting(card, memory=TORCH_MEMORY) as hosted:
        end = await hosted.ask("embedder", texts=["a red cat", "the green tree on a blue cat", "a  red   cat"])
        alone = await hosted.ask("embedder", "alone", texts=["a red cat"])
    assert isinstance(end, Answered)
    assert isinstance(alone, Answered)
    cat, tree, same = end.output
    assert [len(vector) for vector in end.output] == [16, 16, 16]
    assert sum(value * value for value in tree) == pytest.approx(1, abs=1e-5)
    assert cat == pytest.approx(same, abs=1e-5)
    assert cat == pytest.approx(alone.output[0], abs=1e-5)
    assert cat != pytest.approx(tree, abs=1e-3)


async def test_a_folder_with_a_pickle_is_not_read(tmp_path: Path) -> None:
    """Weights in safetensors, or none."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    card = a_card("classifier", f"ai.custom.examples.classification:Classifier@{tmp_path}")
    async with hosting(card) as hosted:
        error = error_of(await hosted.ask("classifier", image=a_picture()))
    assert isinstance(error, ModelLoadError)
    assert "holds no .safetensors" in str(error)
