"""An adapter is the same whatever layout it was stored in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from ai.adapters.adapter import Adapter
from ai.adapters.reading import read_adapter
from tests.ai.adapters.made import (
    LAYOUTS,
    UNET,
    Made,
    make,
    peft_names,
    save_diffusers,
    save_kohya,
    save_peft,
    tiny_targets,
    tiny_xl_targets,
)
from tests.ai.tiny import build_tokenizer, networks

ATTENTION = [layer for layer in tiny_targets().shapes if ".attn" in layer]
SOME = [
    "unet.mid_block.resnets.0.conv1",
    "unet.conv_in",
    "text_encoder.encoder.layers.1.self_attn.q_proj",
    *ATTENTION[:3],
]


def read(path: Path) -> Adapter:
    """For the tiny model."""
    return read_adapter(path, tiny_targets())


def assert_is(adapter: Adapter, made: Made) -> None:
    """The same layers, matrices and scale."""
    assert set(adapter.layers) == set(made.matrices)
    for name, (a, b) in made.matrices.items():
        layer = adapter.layers[name]
        assert torch.equal(layer.a, a)
        assert torch.equal(layer.b, b)
        assert layer.scale == made.alpha / layer.rank


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_layer_of_a_model_is_found(layout: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Linear layers and convolutions of UNet and text encoder, with their scale, as stored to the bit."""
    made = make(dtype=dtype)
    assert len(made.matrices) > 90
    assert_is(read(LAYOUTS[layout](made, tmp_path / "style")), made)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layer_of_a_model_with_two_text_encoders_is_found(layout: str, tmp_path: Path) -> None:
    """So it is in Stable Diffusion XL, whose UNet layers kohya calls by the original checkpoint's names."""
    made = make(targets=tiny_xl_targets())
    assert len(made.matrices) > 100
    assert_is(read_adapter(LAYOUTS[layout](made, tmp_path / "style"), tiny_xl_targets()), made)


def test_the_layout_does_not_show_in_the_hash(tmp_path: Path) -> None:
    """One content has one hash and one size; another scale or another number is another content."""
    made = make(SOME)
    adapters = [read(save(made, tmp_path / layout)) for layout, save in LAYOUTS.items()]
    assert len({adapter.content_hash for adapter in adapters}) == 1
    numbers = sum(a.numel() + b.numel() for a, b in made.matrices.values())
    assert {adapter.total_bytes for adapter in adapters} == {4 * numbers}
    others = [make(SOME, alpha=2.0), make(SOME, seed=2), make(SOME[:-1])]
    hashes = {read(save_kohya(other, tmp_path / str(n))).content_hash for n, other in enumerate(others)}
    assert len(hashes - {adapters[0].content_hash}) == 3


@pytest.mark.parametrize("part", [["unet.conv_in"], ["text_encoder.encoder.layers.0.mlp.fc1"], ATTENTION[:1]])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_adapter_of_a_single_layer(layout: str, part: list[str], tmp_path: Path) -> None:
    """However little of a model an adapter changes, it is recognised."""
    made = make(part)
    assert_is(read(LAYOUTS[layout](made, tmp_path / "style")), made)


@pytest.mark.parametrize("projection", ["q_proj", "k_proj", "v_proj", "out_proj"])
def test_kohya_text_encoders_need_not_be_whole(projection: str, tmp_path: Path) -> None:
    """One kind of projection alone is converted as well."""
    made = make([f"text_encoder.encoder.layers.{n}.self_attn.{projection}" for n in range(2)])
    assert_is(read(save_kohya(made, tmp_path / "style")), made)


def test_a_file_with_another_name_in_a_folder(tmp_path: Path) -> None:
    """A folder with a single .safetensors file is that file, whatever its layout."""
    made = make(SOME)
    (tmp_path / "neon").mkdir()
    save_kohya(made, tmp_path / "neon" / "neon-v2")
    assert_is(read(tmp_path / "neon"), made)


def test_a_diffusers_file_that_was_renamed(tmp_path: Path) -> None:
    """diffusers' file is read under any name."""
    made = make(SOME)
    save_diffusers(made, tmp_path / "style")
    (tmp_path / "style" / "pytorch_lora_weights.safetensors").rename(tmp_path / "neon.safetensors")
    assert_is(read(tmp_path / "neon.safetensors"), made)


def test_diffusers_files_of_older_versions(tmp_path: Path) -> None:
    """Attention processors' and linear layers' keys of earlier days; without an alpha the scale is 1."""
    made = make(
        [*ATTENTION, "text_encoder.encoder.layers.0.self_attn.out_proj", "text_encoder.encoder.layers.0.mlp.fc2"]
    )
    tensors: dict[str, torch.Tensor] = {}
    for layer, (a, b) in made.matrices.items():
        if layer.startswith(UNET):
            block, projection = layer.removesuffix(".to_out.0").removesuffix(".0"), "to_out"
            if not layer.endswith(".to_out.0"):
                block, projection = layer.rsplit(".", 1)
            stem = f"{block}.processor.{projection}_lora."
        else:
            stem = f"{layer.replace('encoder.layers', 'text_model.encoder.layers')}.lora_linear_layer."
        tensors |= {f"{stem}down.weight": a, f"{stem}up.weight": b}
    save_file(tensors, tmp_path / "old.safetensors")
    assert_is(read(tmp_path / "old.safetensors"), Made(made.matrices, alpha=4.0))


def test_kohya_files_with_the_original_checkpoint_s_names(tmp_path: Path) -> None:
    """UNet layers may be called as in the original (LDM) layout."""
    names = {
        "unet.down_blocks.0.attentions.0.proj_in": "lora_unet_input_blocks_1_1_proj_in",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q": (
            "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"
        ),
        "unet.up_blocks.1.attentions.1.proj_out": "lora_unet_output_blocks_3_1_proj_out",
    }
    made = make(names)
    tensors: dict[str, torch.Tensor] = {}
    for layer, (a, b) in made.matrices.items():
        tensors |= {f"{names[layer]}.lora_down.weight": a, f"{names[layer]}.lora_up.weight": b}
    save_file(tensors, tmp_path / "style.safetensors")
    assert_is(read(tmp_path / "style.safetensors"), Made(made.matrices, alpha=4.0))


def test_what_peft_itself_saves(tmp_path: Path) -> None:
    """A folder written by PeftModel.save_pretrained, with an alpha and a rank of some layers' own, and rsLoRA."""
    unet = networks(build_tokenizer()).unet
    config = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["to_q", "conv1", "conv_in"],
        rank_pattern={"mid_block.resnets.0.conv1": 2},
        alpha_pattern={"attn2.to_q": 12, "^conv_in": 9},
        use_rslora=True,
        init_lora_weights=False,
    )
    get_peft_model(unet, config).save_pretrained(str(tmp_path / "style"))
    adapter = read(tmp_path / "style")
    assert adapter.rank == 4
    assert adapter.layers["unet.mid_block.resnets.0.conv1"].rank == 2
    stem = "unet.mid_block.attentions.0.transformer_blocks.0"
    scales = [adapter.layers[f"{stem}.{name}.to_q"].scale for name in ("attn1", "attn2")]
    assert scales == [6 / math.sqrt(4), 12 / math.sqrt(4)]
    assert adapter.layers["unet.mid_block.resnets.0.conv1"].scale == 6 / math.sqrt(2)
    assert adapter.layers["unet.conv_in"].scale == 9 / math.sqrt(4)


def test_a_peft_folder_of_the_text_encoder_alone(tmp_path: Path) -> None:
    """Which network a PEFT folder is for is seen from its layers."""
    made = make([layer for layer in tiny_targets().shapes if layer.startswith("text_encoder")])
    assert_is(read(save_peft(made, tmp_path / "style")), made)


def test_peft_alphas_by_the_names_of_older_encoders(tmp_path: Path) -> None:
    """A text encoder's layers may have one name part more than the model's, in weights and configuration."""
    layer = "encoder.layers.0.self_attn.q_proj"
    made = make([f"text_encoder.{layer}"])
    (tmp_path / "style").mkdir()
    save_file(
        peft_names(made.of("text_encoder."), "base_model.model.text_model."),
        tmp_path / "style" / "adapter_model.safetensors",
    )
    config: dict[str, Any] = {"peft_type": "LORA", "lora_alpha": 4, "alpha_pattern": {f"text_model.{layer}": 2}}
    (tmp_path / "style" / "adapter_config.json").write_text(json.dumps(config))
    assert read(tmp_path / "style").layers[f"text_encoder.{layer}"].scale == 2 / 4


def test_reading_changes_no_file(tmp_path: Path) -> None:
    """What was read is in memory: the file may then go away."""
    made = make(SOME)
    path = save_kohya(made, tmp_path / "style")
    adapter = read(path)
    assert load_file(path)
    path.write_bytes(b"")
    assert_is(adapter, made)
