"""What is no adapter for this model is refused, with the file and the key, before anything is changed."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ai.adapters.reading import read_adapter
from ai.types import AdapterError
from tests.ai.adapters.made import kohya_keys, make, peft_names, save_diffusers, save_kohya, save_peft, tiny_targets

QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "unet.mid_block.resnets.0.conv1"
TEXT = "text_encoder.encoder.layers.0.mlp.fc1"
K_QUERY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
K_CONV = "lora_unet_mid_block_resnets_0_conv1"

Tensors = dict[str, Tensor]


def refusal(path: Path, **limits: Any) -> str:
    """The words with which a file is refused; they begin with its name, and show no path of this machine."""
    with pytest.raises(AdapterError) as caught:
        read_adapter(path, tiny_targets(), **limits)
    text = str(caught.value)
    assert text.startswith(path.name)
    assert str(path.parent) not in text
    assert len(text) < 600
    return text


def kohya_file(tmp_path: Path, change: Callable[[Tensors], object]) -> Path:
    """A kohya file of three layers, changed."""
    tensors = kohya_keys(make([QUERY, CONV, TEXT]))
    change(tensors)
    path = tmp_path / "style.safetensors"
    save_file(tensors, path)
    return path


def setting(key: str, tensor: Tensor) -> Callable[[Tensors], object]:
    """A change that puts a tensor under a key."""
    return lambda tensors: tensors.__setitem__(key, tensor)


def without(key: str) -> Callable[[Tensors], object]:
    """A change that takes a key away."""
    return lambda tensors: tensors.pop(key)


BAD: Mapping[str, tuple[Callable[[Tensors], object], str]] = {
    "unknown key": (setting("extra.thing", torch.zeros(2)), "extra.thing: not a key of any layout"),
    "unknown suffix": (setting(f"{K_QUERY}.bias", torch.zeros(2)), f"{K_QUERY}.bias: not a key of any layout"),
    "unknown layer": (
        lambda tensors: tensors.update({f"lora_unet_cellar.lora_{way}.weight": torch.ones(2, 2) for way in ("down", "up")}),
        ".weight: the model has no such layer; it was made for another base model",
    ),
    "another encoder": (
        lambda tensors: tensors.update(
            {f"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_{way}.weight": torch.ones(2, 2) for way in ("down", "up")}
        ),
        ".weight: the model has no such layer; it was made for another base model",
    ),
    "no up": (without(f"{K_CONV}.lora_up.weight"), f"{K_CONV}.lora_up.weight: missing"),
    "no down": (without(f"{K_CONV}.lora_down.weight"), f"{K_CONV}.lora_down.weight: missing"),
    "no block's number": (
        lambda tensors: tensors.update(
            {f"lora_unet_input_blocks_x_1_proj_in.lora_{way}.weight": torch.ones(2, 2) for way in ("down", "up")}
        ),
        ".weight: the model has no such layer",
    ),
    "alpha alone": (setting("lora_unet_conv_in.alpha", torch.tensor(1.0)), "lora_unet_conv_in.lora_down.weight: missing"),
    "alpha of many": (setting(f"{K_QUERY}.alpha", torch.ones(3)), f"{K_QUERY}.alpha: must be one number"),
    "alpha NaN": (setting(f"{K_QUERY}.alpha", torch.tensor(torch.nan)), "alpha is not a finite number"),
    "NaN": (setting(f"{K_QUERY}.lora_down.weight", torch.full((4, 32), torch.nan)), "lora_down.weight: has numbers that"),
    "infinite": (setting(f"{K_QUERY}.lora_up.weight", torch.full((32, 4), torch.inf)), "lora_up.weight: has numbers that"),
    "integers": (setting(f"{K_QUERY}.lora_up.weight", torch.ones((32, 4), dtype=torch.int8)), "lora_up.weight: is int8"),
    "doubles": (setting(f"{K_QUERY}.lora_up.weight", torch.ones((32, 4), dtype=torch.float64)), "is float64; float32"),
    "other width in": (
        setting(f"{K_QUERY}.lora_down.weight", torch.ones(4, 768)),
        f"{K_QUERY}.lora_down.weight: has shape [4, 768], the model's {QUERY} needs [4, 32]; it was made for another base",
    ),
    "other width out": (
        setting(f"{K_QUERY}.lora_up.weight", torch.ones(320, 4)),
        f"{K_QUERY}.lora_up.weight: has shape [320, 4], the model's {QUERY} needs [32, 4]; it was made for another base",
    ),
    "ranks that differ": (setting(f"{K_QUERY}.lora_up.weight", torch.ones(32, 5)), "has shape [32, 5]"),
    "linear for a convolution": (setting(f"{K_CONV}.lora_down.weight", torch.ones(4, 32)), "needs [4, 32, 3, 3]"),
    "other kernel": (setting(f"{K_CONV}.lora_down.weight", torch.ones(4, 32, 1, 1)), "needs [4, 32, 3, 3]"),
    "up of a convolution": (setting(f"{K_CONV}.lora_up.weight", torch.ones(32, 4, 3, 3)), "needs [32, 4, 1, 1]"),
    "rank 0": (setting(f"{K_QUERY}.lora_down.weight", torch.ones(0, 32)), "has shape [0, 32]"),
    "one number": (setting(f"{K_QUERY}.lora_down.weight", torch.tensor(1.0)), "has shape []"),
    "DoRA": (setting(f"{K_QUERY}.dora_scale", torch.ones(32)), "dora_scale: this is DoRA; only plain LoRA"),
    "LoHa": (setting(f"{K_QUERY}.hada_w1_a", torch.ones(32, 4)), "hada_w1_a: this is LoHa; only plain LoRA"),
    "LoKr": (setting(f"{K_QUERY}.lokr_w1", torch.ones(4, 4)), "lokr_w1: this is LoKr; only plain LoRA"),
    "Tucker": (setting(f"{K_CONV}.lora_mid.weight", torch.ones(4, 4, 3, 3)), "lora_mid.weight: this is LoCon with a Tucker"),
    "whole weights": (setting(f"{K_CONV}.diff", torch.ones(4)), "diff: this is a difference of whole weights"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), BAD.values(), ids=BAD.keys())
def test_bad_kohya_files(change: Callable[[Tensors], object], words: str, tmp_path: Path) -> None:
    """The first key that does not fit is named, with what would have fitted."""
    assert words in refusal(kohya_file(tmp_path, change))


def diffusers_file(tmp_path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Path:
    """A file in diffusers' layout."""
    path = tmp_path / "style.safetensors"
    save_file(tensors, path, metadata=dict(metadata or {}))
    return path


NAMED = peft_names(make([QUERY, CONV, TEXT]).matrices)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"unet.extra": torch.ones(2)}, "unet.extra: not a key of any layout"),
        ({"text_encoder.extra": torch.ones(2)}, "text_encoder.extra: not a key of any layout"),
        ({"transformer.x.lora_A.weight": torch.ones(2)}, "transformer.x.lora_A.weight: not a key of any layout"),
        ({"base_model.model.x.lora_A.weight": torch.ones(2, 2)}, "base_model.model.x.lora_A.weight: not a key"),
        ({f"{QUERY}.lora_B.bias": torch.ones(32)}, f"{QUERY}.lora_B.bias: not a key"),
        ({f"{QUERY}.alpha": torch.tensor(1.0)}, f"{QUERY}.alpha: not a key"),
        ({f"{QUERY}.lora_magnitude_vector": torch.ones(32)}, "lora_magnitude_vector: this is DoRA"),
        ({"unet.cellar.lora_A.weight": torch.ones(2, 2)}, "unet.cellar.lora_A.weight: the model has no such layer"),
        ({"unet.conv_in.lora_A.weight": torch.ones(4, 4, 3, 3)}, "unet.conv_in.lora_A.weight: its other half (lora_B"),
        ({f"{QUERY.removesuffix('.to_q')}.processor.to_q_lora.down.weight": torch.ones(4, 32)}, "not a key"),
    ],
)  # fmt: skip
def test_bad_diffusers_files(extra: Tensors, words: str, tmp_path: Path) -> None:
    """The key is named as it stands in the file."""
    assert words in refusal(diffusers_file(tmp_path, NAMED | extra))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "lora_adapter_metadata: not JSON"),
        ("[" * 100_000, "lora_adapter_metadata: not JSON"),
        ("[]", "lora_adapter_metadata: not a JSON object"),
        ('{"unet.lora_alpha": NaN}', "lora_alpha: must be a finite number"),
        ('{"unet.lora_alpha": "8"}', "lora_alpha: must be a finite number"),
        ('{"unet.alpha_pattern": {"(a+)+": 1}}', "alpha_pattern: '(a+)+' is not a layer's name"),
        ('{"unet.alpha_pattern": [1]}', "alpha_pattern: must be an object"),
        ('{"unet.use_dora": true}', "use_dora: this is DoRA"),
    ],
)
def test_bad_configurations_in_a_header(config: str, words: str, tmp_path: Path) -> None:
    """What diffusers keeps in a file's header is checked as well."""
    path = diffusers_file(tmp_path, NAMED, {"lora_adapter_metadata": config})
    assert words in refusal(path)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"peft_type": "LOHA"}, "peft_type: this is 'LOHA'"),
        ({"peft_type": "LOKR"}, "peft_type: this is 'LOKR'"),
        ({"use_dora": True}, "use_dora: this is DoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights: 'pissa_niter_4' changes the base model"),
        ({"lora_alpha": None}, "lora_alpha: must be a finite number"),
    ],
)
def test_bad_peft_folders(entry: dict[str, object], words: str, tmp_path: Path) -> None:
    """An adapter_config.json that is of something else than plain LoRA is refused."""
    folder = save_peft(make([QUERY]), tmp_path / "style")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entry))
    assert words in refusal(folder)


def test_a_layer_that_is_named_in_two_ways(tmp_path: Path) -> None:
    """Which of them counts is not guessed."""
    folder = save_peft(make([QUERY]), tmp_path / "style")
    once = peft_names(make([QUERY]).of("unet."))
    save_file(
        once | {f"base_model.model.{key}": value.clone() for key, value in once.items()},
        folder / "adapter_model.safetensors",
    )
    assert "says the same as" in refusal(folder)


def test_peft_folders_without_or_with_too_much_configuration(tmp_path: Path) -> None:
    """Without a configuration the strength is not known; one of megabytes is none."""
    folder = save_peft(make([QUERY]), tmp_path / "style")
    (folder / "adapter_config.json").write_text(" " * 2_000_000)
    assert "adapter_config.json: has 2,000,000 bytes" in refusal(folder)
    (folder / "adapter_config.json").unlink()
    assert "adapter_config.json: missing" in refusal(folder)


@pytest.mark.parametrize("key", ["base_model.model.cellar.lora_A.weight", "base_model.model.conv_in.weight"])
def test_bad_peft_keys(key: str, tmp_path: Path) -> None:
    """A layer that the model has not, and weights that are no LoRA."""
    folder = save_peft(make([QUERY]), tmp_path / "style")
    save_file({key: torch.ones(4, 4)}, folder / "adapter_model.safetensors")
    assert key in refusal(folder)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth"])
def test_pickles(suffix: str, tmp_path: Path) -> None:
    """A pickle is refused by its name and never opened, alone and in a folder."""
    file = tmp_path / f"style{suffix}"
    file.touch(mode=0)
    assert f"{suffix} files are pickles" in refusal(file)
    (tmp_path / "folder").mkdir()
    file.rename(tmp_path / "folder" / f"pytorch_lora_weights{suffix}")
    assert f"folder/pytorch_lora_weights{suffix}: a pickle" in refusal(tmp_path / "folder")


def test_folders_that_hold_none_or_several(tmp_path: Path) -> None:
    """Nothing is guessed."""
    folder = tmp_path / "style"
    folder.mkdir()
    assert "holds no pytorch_lora_weights.safetensors" in refusal(folder)
    for name in ("a", "b"):
        save_kohya(make([QUERY]), folder / name)
    assert "which of a.safetensors, b.safetensors is the adapter?" in refusal(folder)


def test_other_files(tmp_path: Path) -> None:
    """A file of another kind, one that has gone, and a pipe, which is not waited for."""
    (tmp_path / "style.zip").touch()
    assert "not a .safetensors file" in refusal(tmp_path / "style.zip")
    assert "cannot be read: No such file" in refusal(tmp_path / "gone.safetensors")
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert "not a plain file" in refusal(tmp_path / "pipe.safetensors")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 64,
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,4]}}' + b"1234",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        b"PK\x03\x04" + b"\x00" * 100,
        b"\x80\x02cos\nsystem\n(S'false'\ntR.",
    ],
)
def test_damaged_files(data: bytes, tmp_path: Path) -> None:
    """Whatever the bytes are, an error says that this is no sound file."""
    path = tmp_path / "style.safetensors"
    path.write_bytes(data)
    assert any(words in refusal(path) for words in ("not a sound safetensors file", "holds no tensors"))


def test_files_that_were_cut_short(tmp_path: Path) -> None:
    """At any length."""
    whole = save_kohya(make([QUERY, CONV]), tmp_path / "whole").read_bytes()
    path = tmp_path / "style.safetensors"
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        assert "not a sound safetensors file" in refusal(path)


def test_the_limit_of_size_is_of_all_files_together(tmp_path: Path) -> None:
    """Told in bytes; exactly the limit is taken."""
    path = save_kohya(make([QUERY]), tmp_path / "style")
    size = path.stat().st_size
    read_adapter(path, tiny_targets(), max_bytes=size)
    assert f"too large; an adapter may have {size - 1:,} bytes" in refusal(path, max_bytes=size - 1)
    folder = save_peft(make([QUERY, TEXT]), tmp_path / "two")
    total = sum(file.stat().st_size for file in folder.rglob("*.*"))
    read_adapter(folder, tiny_targets(), max_bytes=total)
    assert "two/text_encoder/adapter_model.safetensors: too large" in refusal(folder, max_bytes=total - 1)


def test_the_limit_of_rank(tmp_path: Path) -> None:
    """The rank is told with the key."""
    path = save_diffusers(make([QUERY], rank=9), tmp_path / "style")
    read_adapter(path, tiny_targets(), max_rank=9)
    assert f"{QUERY}.lora_A.weight: has rank 9; at most 8 is taken" in refusal(path, max_rank=8)
    assert "has rank 129; at most 128" in refusal(save_diffusers(make([QUERY], rank=129), tmp_path / "large"))


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "any.safetensors"])
def test_links_out_of_the_folder_are_not_followed(name: str, tmp_path: Path) -> None:
    """A file inside an adapter's folder may not be a link to elsewhere on the machine."""
    secret = save_kohya(make([QUERY]), tmp_path / "secret")
    (tmp_path / "adapters" / "style").mkdir(parents=True)
    (tmp_path / "adapters" / "style" / name).symlink_to(secret)
    assert f"style/{name}: a link that leaves the folder" in refusal(tmp_path / "adapters" / "style")
