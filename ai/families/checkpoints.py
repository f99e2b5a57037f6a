"""What all families' checkpoints have in common: found, checked and read into a diffusers pipeline. Imports torch.

A model is one of:

- a diffusers folder;
- `NAME.safetensors` in the original (LDM) layout. The networks' configurations come from the folder `NAME.config`
  beside it, in the diffusers layout without weights, else from those shipped with the family; a tokenizer from
  `NAME.config/tokenizer`, else from the folder `tokenizer` beside it, else from the hub
  (openai/clip-vit-large-patch14; its vocabulary is not shipped here);
- a hub id.

Its VAE may be replaced by another: a folder of that one network in the diffusers layout, or a single file in either layout.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from ai.device import Place, find_place
from ai.families.family import Model
from ai.families.known import FAMILIES, config_beside, family_of, local_index, recognise
from ai.families.sources import SourceKind, check_weights, find_source, variant_of
from ai.families.sparing import spare_memory
from ai.types import EngineSettings, ModelLoadError

CLIP_VOCABULARY = "openai/clip-vit-large-patch14"

# What the engine has no use for: no picture is an input of the prompt here.
_LEFT_OUT: dict[str, Any] = {"feature_extractor": None, "image_encoder": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What one kind of checkpoint consists of, beside `unet` and `vae`.

    `text_encoders` are transformers classes by the components' names; the tokenizer of "text_encoder_2" is
    "tokenizer_2", which differs from "tokenizer" by the token it pads with (`pad_tokens`; None: the tokenizer's own).
    `unet_inputs` are the entries of the UNet's configuration that say what it must be told beside a prompt and a timestep.
    `left_out` are further arguments of the pipeline: parts that are not loaded.
    """

    family: str
    pipeline: Any
    text_encoders: Mapping[str, Any]
    shipped_config: Path
    unet_inputs: Mapping[str, object]
    pad_tokens: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, Any] = field(default_factory=dict)

    @property
    def components(self) -> tuple[str, ...]:
        """All networks, by their folders' names."""
        return ("unet", "vae", *self.text_encoders)


def recognise_source(source: str) -> str:
    """The name of the family of whatever `source` names. Raises ModelLoadError."""
    if find_source(source) is SourceKind.HUB:
        return family_of(model_index(source) or {}, source)
    return recognise(Path(source))


def model_index(source: str) -> Mapping[str, Any] | None:
    """The model_index.json of a folder, of a hub id, or of what lies beside a single file; None for a file without."""
    if find_source(source) is not SourceKind.HUB:
        return local_index(Path(source))
    with telling(source):
        index: Mapping[str, Any] = diffusers.DiffusionPipeline.load_config(source)
        return index


def load_model(
    source: str, recipe: Recipe, settings: EngineSettings, build: Callable[[Any, Place], Model], vae: str = ""
) -> Model:
    """What `build` makes of the loaded pipeline, with the VAE at `vae` instead of its own unless that is empty.

    Raises ModelLoadError for whatever is missing, refused or damaged.
    """
    _settle_libraries()
    place = find_place(settings)
    # Bars on stderr are for people at a terminal; this is process-wide, as the libraries have it.
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    loaders = {SourceKind.FOLDER: _load_folder, SourceKind.FILE: _load_file, SourceKind.HUB: _load_hub}
    # The caller is in inference mode, where parameters would become tensors that nothing else can work with.
    with telling(source), torch.inference_mode(mode=False), torch.no_grad():
        _check_class(source, recipe)
        instead = {"vae": _load_vae(vae, _vae_config(source, recipe), place.dtype)} if vae else {}
        pipeline = loaders[find_source(source)](source, recipe, place.dtype, instead)
        _check_networks(pipeline, recipe)
        if place.device.type == "cpu":  # a fifth to a quarter less of a decode there; a UNet gains nothing
            pipeline.vae.to(memory_format=torch.channels_last)
        spare_memory(pipeline, place, settings)
        return build(pipeline, place)


@cache
def _settle_libraries() -> None:
    """Have the garbage collector pass over what the libraries made when they were imported, which lives as long as the process.

    A model that is unloaded is collected (its parts refer to each other in circles), and going through the libraries' objects
    each time would hold up every thread for a second.
    """
    gc.freeze()


@contextmanager
def telling(source: str) -> Iterator[None]:
    """Turn whatever is raised inside into a ModelLoadError that begins with the source."""
    try:
        yield
    except ModelLoadError as error:
        raise ModelLoadError(f"{source}: {str(error).removeprefix(f'{source}: ')}") from error
    except Exception as error:  # the libraries raise anything from OSError to KeyError for a bad file
        raise ModelLoadError(f"{source}: cannot be loaded: {type(error).__name__}: {error}") from error


def _check_class(source: str, recipe: Recipe) -> None:
    index, wanted = model_index(source), FAMILIES[recipe.family].pipeline_classes
    if index is not None and index.get("_class_name") not in wanted:
        found = index.get("_class_name")
        raise ModelLoadError(f"pipeline class {found!r} is not known to this family, which loads {', '.join(wanted)}")


def _load_vae(vae: str, config: Path, dtype: torch.dtype) -> Any:
    """The VAE at `vae`; that of a single file has the configuration in the sub-folder `vae` of `config`."""
    with telling(f"vae: {vae}"):
        kind, path = find_source(vae), Path(vae)
        if kind is SourceKind.FILE:
            return diffusers.AutoencoderKL.from_single_file(
                vae, config=str(config), subfolder="vae", dtype=dtype, local_files_only=True
            )
        if kind is SourceKind.FOLDER:
            check_weights(path.parent, [path.name])
        variant = variant_of(path.parent, path.name)
        return diffusers.AutoencoderKL.from_pretrained(vae, dtype=dtype, variant=variant, use_safetensors=True)


def _vae_config(source: str, recipe: Recipe) -> Path:
    """Where the model's own VAE is configured, by the files if they say."""
    path = Path(source)
    found = path if path.is_dir() else config_beside(path)
    return found if found is not None and (found / "vae" / "config.json").is_file() else recipe.shipped_config


def _load_folder(source: str, recipe: Recipe, dtype: torch.dtype, instead: Mapping[str, Any]) -> Any:
    check_weights(Path(source), [name for name in recipe.components if name not in instead])
    variant = variant_of(Path(source), "unet")
    how = {"dtype": dtype, "variant": variant, "use_safetensors": True, "local_files_only": True}
    return _load_diffusers(source, recipe, how, instead)


def _load_hub(source: str, recipe: Recipe, dtype: torch.dtype, instead: Mapping[str, Any]) -> Any:
    return _load_diffusers(source, recipe, {"dtype": dtype, "use_safetensors": True}, instead)


def _load_diffusers(source: str, recipe: Recipe, how: Mapping[str, Any], instead: Mapping[str, Any]) -> Any:
    # diffusers refuses networks whose files lack a tensor; transformers makes one up and says so in a log. So the text
    # encoders are loaded apart, to be asked what was missing.
    encoders = {name: _load_text_encoder(source, name, kind, how) for name, kind in recipe.text_encoders.items()}
    return recipe.pipeline.from_pretrained(source, **encoders, **instead, **how, **_LEFT_OUT, **recipe.left_out)


def _load_text_encoder(source: str, name: str, kind: Any, how: Mapping[str, Any]) -> Any:
    text_encoder, report = kind.from_pretrained(source, subfolder=name, output_loading_info=True, **how)
    if report["missing_keys"]:
        raise ModelLoadError(f"{name}: not in the file: {', '.join(sorted(report['missing_keys']))}")
    return text_encoder


def _load_file(source: str, recipe: Recipe, dtype: torch.dtype, instead: Mapping[str, Any]) -> Any:
    path = Path(source)
    tokenizers = {name: _tokenizer_for(path, name, recipe) for name in map(tokenizer_of, recipe.text_encoders)}
    return recipe.pipeline.from_single_file(
        source,
        config=str(config_beside(path) or recipe.shipped_config),
        dtype=dtype,
        local_files_only=True,
        **tokenizers,
        **instead,
        **_LEFT_OUT,
        **recipe.left_out,
    )


def tokenizer_of(text_encoder: str) -> str:
    """The name of the component that makes a text encoder's tokens."""
    return text_encoder.replace("text_encoder", "tokenizer")


def _tokenizer_for(checkpoint: Path, name: str, recipe: Recipe) -> Any:
    config, beside = checkpoint.with_suffix(".config"), checkpoint.parent / "tokenizer"
    for folder in (config / name, checkpoint.parent / name):
        if (folder / "tokenizer_config.json").is_file():
            return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    padding = {"pad_token": recipe.pad_tokens[name]} if name in recipe.pad_tokens else {}
    for folder in (config / name, checkpoint.parent / name, config / "tokenizer", beside):
        if (folder / "vocab.json").is_file() or (folder / "tokenizer.json").is_file():
            return transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True, **padding)
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(CLIP_VOCABULARY, **padding)
        _check_tokenizer(name, tokenizer)
    except Exception as error:  # no network, no cache: OSError of several kinds, or a tokenizer without words
        raise ModelLoadError(
            f"{checkpoint}: a single file holds no tokenizer, and {CLIP_VOCABULARY} could not be had from the hub; "
            f"put its vocab.json, merges.txt and tokenizer_config.json into {beside}"
        ) from error
    return tokenizer


def _check_tokenizer(name: str, tokenizer: Any) -> None:
    # Where its files are missing, transformers 5 makes a tokenizer of nothing but the special tokens, to which all
    # prompts are alike.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ModelLoadError(f"{name}: its vocabulary is missing")


def _check_networks(pipeline: Any, recipe: Recipe) -> None:
    """Raise ModelLoadError for weights that the files did not hold and for networks that do not fit each other."""
    for name in recipe.components:
        missing = [key for key, weight in getattr(pipeline, name).named_parameters() if weight.is_meta]
        if missing:
            raise ModelLoadError(f"{name}: {len(missing)} weights are not in the file, {missing[0]} for one")
    for name in recipe.text_encoders:
        tokenizer = getattr(pipeline, tokenizer_of(name))
        _check_tokenizer(tokenizer_of(name), tokenizer)
        known, embedded = len(tokenizer), getattr(pipeline, name).config.vocab_size
        if known > embedded:
            raise ModelLoadError(f"{tokenizer_of(name)}: knows {known} tokens, its text encoder only {embedded}")
    unet, vae = pipeline.unet.config, pipeline.vae.config
    if unet.in_channels != vae.latent_channels or unet.out_channels != vae.latent_channels:
        raise ModelLoadError(
            f"unet: takes {unet.in_channels} channels (inpainting?), the VAE has {vae.latent_channels}"
        )
    for key, wanted in recipe.unet_inputs.items():
        if unet.get(key) != wanted:
            raise ModelLoadError(f"unet: {key} is {unet.get(key)!r}, this family's is {wanted!r}")
