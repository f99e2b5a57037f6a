"""Is this a picture model that can be offered: asked of its files before anything of it is loaded. Imports no torch.

Stricter than loading is: what is looked at here was named by users. Nothing but plain files and folders (no link leads
elsewhere), no pickle anywhere, whole safetensors files, a known family, and no card that names files elsewhere.
"""

from __future__ import annotations

import hashlib
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ai.cards import MARKS, Card, read_card
from ai.families.known import local_index, recognise, tensor_header
from ai.pickles import PICKLES
from ai.text.cards import is_text_model, read_text_card
from ai.types import ModelLoadError

WEIGHTS = ".safetensors"
NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2")
MAX_FILES = 2000  # a model sharded into pieces has a few dozen
PIECE = 1 << 20  # bytes read at a time to hash them
CODE = frozenset({".py", ".so", ".pyc"})  # beside weights there is nothing to run


@dataclass(frozen=True, slots=True)
class Looked:
    """What the files say: the card, the numbers that all weights have together, and what tells this content from another
    (SHA-256 over names and contents, hex)."""

    card: Card
    numbers: int
    content_id: str


def look(name: str, path: Path) -> Looked:
    """The model at `path`, a folder or a single file, as a card of this name. Reads every byte of it once.

    Raises ModelLoadError, whose text names the file, from the model's own folder on.
    """
    root = path.parent if path.is_file() else path
    files = sorted(plain_files(path))
    for file in files:
        check_kind(file, root)
    if path.is_dir():
        _check_folder(path)
    weights = [file for file in files if file.suffix == WEIGHTS]
    if not weights:
        raise ModelLoadError(f"{path.name}: holds no {WEIGHTS} file")
    sizes = {file: check_safetensors(file, root) for file in weights}
    numbers = sum(size for file, size in sizes.items() if (path / "adapters") not in file.parents)
    try:
        family = recognise(_main_file(path))
        card = replace(read_card(name, str(path)), family=family)
    except ModelLoadError as error:
        raise ModelLoadError(str(error).replace(f"{root}/", "").replace(str(root), path.name)) from error
    return Looked(card, numbers, content_id(files, root))


def look_at_text(name: str, path: Path) -> Looked:
    """The same of a text model: a folder in transformers' layout."""
    files = sorted(plain_files(path))
    for file in files:
        check_kind(file, path)
    weights = [file for file in files if file.suffix == WEIGHTS]
    if not path.is_dir() or not is_text_model(str(path)) or not weights:
        raise ModelLoadError(
            f"{path.name}: is no folder with the config.json and {WEIGHTS} files of a causal language model"
        )
    numbers = sum(check_safetensors(file, path) for file in weights)
    try:
        card = read_text_card(name, str(path))
    except ModelLoadError as error:
        raise ModelLoadError(str(error).replace(f"{path}/", "")) from error
    return Looked(card, numbers, content_id(files, path))


def plain_files(path: Path) -> Iterator[Path]:
    """Every file of a model. Raises ModelLoadError for a link, or whatever else is neither a file nor a folder."""
    found, waiting = 0, [path]
    while waiting:
        place = waiting.pop()
        try:
            kind = place.lstat().st_mode
        except OSError as error:
            raise ModelLoadError(f"{place.name}: there is no such file or folder") from error
        if stat.S_ISDIR(kind):
            waiting += [inner for inner in place.iterdir() if not inner.name.startswith(".")]
        elif stat.S_ISREG(kind):
            found += 1
            yield place
        else:
            raise ModelLoadError(f"{place.relative_to(path.parent)}: a link, or no plain file; neither is followed")
        if found > MAX_FILES:
            raise ModelLoadError(f"{path.name}: has more than {MAX_FILES} files")


def check_kind(file: Path, root: Path) -> None:
    """Raise ModelLoadError for a file that could run code."""
    suffix = file.suffix.lower()
    if suffix in PICKLES:
        raise ModelLoadError(f"{file.relative_to(root)}: a pickle, which can run code; only {WEIGHTS} is read")
    if suffix in CODE:
        raise ModelLoadError(f"{file.relative_to(root)}: code; a model is weights and configurations alone")


def check_safetensors(file: Path, root: Path) -> int:
    """How many numbers it holds. Raises ModelLoadError where its header and its length contradict each other."""
    where = file.relative_to(root)
    try:
        header = tensor_header(file)
        with file.open("rb") as opened:
            begin = 8 + int.from_bytes(opened.read(8), "little")
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        spans = sorted(tuple(entry["data_offsets"]) for entry in entries)
        total = sum(_product(entry["shape"]) for entry in entries)
    except (ModelLoadError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelLoadError(f"{where}: not a sound safetensors file") from error
    end = 0
    for first, last in spans:
        if first != end or last < first:
            raise ModelLoadError(f"{where}: not a sound safetensors file: its tensors overlap, or leave holes")
        end = last
    size = file.stat().st_size
    if size != begin + end:
        raise ModelLoadError(
            f"{where}: has {size:,} bytes, its header says {begin + end:,}: it was cut short, or damaged"
        )
    return total


def content_id(files: list[Path], root: Path) -> str:
    """SHA-256 (hex) over every file's name and content."""
    whole = hashlib.sha256()
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as opened:
            while piece := opened.read(PIECE):
                digest.update(piece)
        whole.update(f"{file.relative_to(root).as_posix()}\0{digest.hexdigest()}\n".encode())
    return whole.hexdigest()


def _product(shape: list[int]) -> int:
    product = 1
    for side in shape:
        product *= int(side)
    return product


def _main_file(path: Path) -> Path:
    """What the family is told by: a folder of single files by its base model."""
    single = path / MARKS[-1]
    return single if path.is_dir() and not (path / "model_index.json").is_file() and single.is_file() else path


def _check_folder(folder: Path) -> None:
    if not any((folder / mark).is_file() for mark in MARKS):
        raise ModelLoadError(
            f"{folder.name}: holds none of {', '.join(MARKS)}; a model is a diffusers folder or a file"
        )
    card = folder / "card.toml"
    if card.is_file():
        try:
            told = tomllib.loads(card.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ModelLoadError(f"card.toml: {error}") from error
        elsewhere = sorted({"source", "refiner", "vae"} & set(told))
        if elsewhere:
            raise ModelLoadError(
                f"card.toml: {', '.join(elsewhere)}: leads to other files, which is the operator's to say"
            )
    if (folder / "model_index.json").is_file():
        index = local_index(folder) or {}
        for network in NETWORKS:
            told_of = index.get(network)
            if isinstance(told_of, list) and told_of[:1] != [None] and not any((folder / network).glob(f"*{WEIGHTS}")):
                raise ModelLoadError(f"{network}: holds no {WEIGHTS} file")
