"""What makes a pass of the embedded model quicker, and what does not: the engine's own networks, each time changed in one thing.

    python -m bench.speedups [--rounds N] [--threads N] [--compiled] [--no-first]

In one process and in turns, round by round over the engine as it is: a forward pass of the UNet at 2, 8 and 20 rows, at 20
with ten adapters (those of bench.wardrobe), a decode of 1 and of 10 pictures. Every number format's promise is held to: the
latents and pictures of each kind must be the engine's, within docs/promises.md. CPU threads are the engine's way: tried, the
quickest number taken (ai/cores.py), except where that is what is changed.

    all_threads, one_thread     whatever is quicker
    no_grad                     in place of inference_mode
    plain_attention             in place of torch's fused one (SDPA)
    unet_channels_last          the UNet's weights, and with them its maps, laid out by pixels, as the VAE's are on a CPU
    vae_contiguous              the VAE's laid out by channels, as they are loaded
    packed                      the UNet's convolutions with weights laid out once for oneDNN (CPU)
    compiled, compiled_dynamic  the bare UNet, which knows no adapters, by torch.compile: for each batch size, or for all at once;
                                and the seconds until it had compiled, which are minutes: only where asked for
    graphs                      CUDA graphs over padded batch sizes (CUDA)

Then in processes of their own, in turns, with one thread: the first step and the first decode after loading, with and without
warming up.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn

from ai import families
from ai.adapters.folder import find_adapters
from ai.adapters.residents import Residents, Worn
from ai.cards import read_card
from ai.cores import TRIES, Cores
from ai.device import find_place
from ai.families.family import Model
from ai.gauge import cores_of
from ai.kept_text import replace_forward
from ai.types import AdapterUse, EngineSettings
from bench import wardrobe
from bench.first_passes import a_request, first_passes, firsts, settings_for, show_firsts
from bench.gpu import timed
from bench.painting import SIZE
from bench.report import Spread, print_figures, print_machine, print_table, ratios
from config.settings import DEMO_MODEL

ROWS = (2, 8, 20)
PICTURES = (1, 10)
UNET = (*(f"unet_{rows}" for rows in ROWS), "unet_20_ten")
VAE = tuple(f"vae_{count}" for count in PICTURES)
SETTLING = 2 * (TRIES + 1) + 1  # passes after which the threads of two cores are chosen, and everything is prepared
LATENTS_APART = 2e-3  # of their standard deviation, and
PIXELS_APART = 1 / 127.5  # one of 255, where a picture is -1 … 1: docs/promises.md, float32
HALF_AS_PRECISE = 2.5  # float16's latents are promised to 5e-3; on CUDA

Passes = dict[str, Callable[[], Tensor]]
Context = Callable[[], AbstractContextManager[Any]]


def loaded(device: torch.device, threads: int) -> Model:
    """The embedded model as the engine has it."""
    return families.load(read_card("demo", str(DEMO_MODEL)), settings_for(device, threads))


@dataclass(frozen=True, slots=True)
class Inputs:
    """The same for every variant."""

    latents: Mapping[int, Tensor]
    device: torch.device

    @classmethod
    def on(cls, device: torch.device, model: Model) -> Inputs:
        """Random latents of every size of batch."""
        generator, shape = torch.Generator().manual_seed(1), model.latent_shape(SIZE, SIZE)
        sizes = {*ROWS, *PICTURES}
        return cls({n: torch.randn((n, *shape), generator=generator).to(device) for n in sorted(sizes)}, device)

    def timesteps(self, rows: int) -> Tensor:
        """All in the middle."""
        return torch.full((rows,), 500.0, device=self.device)


def passes_of(model: Model, inputs: Inputs, wardrobe_folder: Path, names: Sequence[str]) -> Passes:
    """A model's passes by their kind; adapters are worn by neighbours in pairs, as by guided pictures."""
    residents = Residents(find_adapters(wardrobe_folder), model.adapters)
    outfits = [residents.wear([AdapterUse(name)], lambda *_: None) for name in names]
    if not all(outfit.ready for outfit in outfits):
        raise SystemExit("an adapter cannot be worn")
    ten = [outfit.worn for outfit in outfits for _ in range(2)]
    ten.sort(key=lambda worn: sum(len(one.resident.slots) for one in worn), reverse=True)
    told = model.prompt(a_request(), ()).positive

    def forward(rows: int, worn: Sequence[Sequence[Worn]]) -> Callable[[], Tensor]:
        text = {name: tensor.expand(rows, *tensor.shape[1:]).contiguous() for name, tensor in told.items()}
        lineup = model.adapters.line_up(worn)
        return lambda: model.predict(inputs.latents[rows], inputs.timesteps(rows), text, lineup)

    unet = {f"unet_{rows}": forward(rows, [()] * rows) for rows in ROWS}
    return unet | {"unet_20_ten": forward(20, ten)} | {
        f"vae_{count}": partial(model.decode, inputs.latents[count]) for count in PICTURES
    }  # fmt: skip


@dataclass(slots=True)
class Variant:
    """The engine but for one thing. `kinds` are the passes that this can change; `cores` None leaves the threads alone."""

    passes: Passes
    kinds: Sequence[str]
    threads: int
    cores: Cores | None = None
    context: Context = torch.inference_mode
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def run(self, kind: str) -> Tensor:
        """One pass."""
        torch.set_num_threads(self.threads)
        with self.context():
            return (
                self.passes[kind]() if self.cores is None else self.cores.run(kind, lambda parts: self.passes[kind]())
            )

    def time(self, kind: str, device: torch.device) -> None:
        """Measure one."""
        self.seconds.setdefault(kind, []).append(timed(device, lambda: self.run(kind)))


class Bench:
    """All variants on one device."""

    def __init__(self, device: torch.device, threads: int, folder: Path) -> None:
        self._device = device
        self._threads = threads
        self._folder = folder
        self._names, _ = wardrobe.gather(folder)
        with torch.inference_mode():
            self._inputs = Inputs.on(device, loaded(device, threads))
        self.compiled_in: dict[str, float] = {}

    def variants(self, *, compiled: bool) -> dict[str, Variant]:
        """Every one that this device has; the engine first."""
        on_cpu = self._device.type == "cpu"
        found = {
            "engine": self._variant(lambda model: None, (*UNET, *VAE)),
            "no_grad": self._variant(lambda model: None, (*UNET, *VAE), context=torch.no_grad),
            "plain_attention": self._variant(_attend_plainly, UNET),
            "unet_channels_last": self._variant(_unet_by_pixels, UNET),
        }
        if on_cpu:
            found["vae_contiguous"] = self._variant(partial(_lay_out_vae, layout=torch.contiguous_format), VAE)
            found["packed"] = self._variant(_pack, UNET)
            same = found["engine"].passes
            found["one_thread"] = Variant(same, (*UNET, *VAE), 1)
            found["all_threads"] = Variant(same, (*UNET, *VAE), self._threads)
        else:
            found["vae_channels_last"] = self._variant(partial(_lay_out_vae, layout=torch.channels_last), VAE)
            found["graphs"] = self._variant(lambda model: None, UNET)
            found["graphs"].passes = {
                kind: captured(work) for kind, work in found["graphs"].passes.items() if kind in UNET
            }
        if compiled:
            found["compiled"] = self._compiled("compiled", dynamic=False)
            found["compiled_dynamic"] = self._compiled("compiled_dynamic", dynamic=True)
        return found

    def _variant(
        self, change: Callable[[Any], None], kinds: Sequence[str], context: Context = torch.inference_mode
    ) -> Variant:
        model = loaded(self._device, self._threads)
        with torch.inference_mode(mode=False), torch.no_grad():
            change(model)
        with context():
            passes = passes_of(model, self._inputs, self._folder, self._names)
        settings = settings_for(self._device, self._threads)
        return Variant(passes, kinds, self._threads, cores_of(find_place(settings), settings), context)

    def _compiled(self, name: str, *, dynamic: bool) -> Variant:
        """The bare network: it knows no adapters."""
        place = find_place(settings_for(self._device, self._threads))
        unet: Any = UNet2DConditionModel.from_pretrained(
            DEMO_MODEL, subfolder="unet", use_safetensors=True, local_files_only=True
        ).to(place.device, place.dtype)
        compiled: Any = torch.compile(unet.eval(), dynamic=dynamic)
        model = loaded(self._device, self._threads)
        with torch.no_grad():
            text = model.prompt(a_request(), ()).positive["text"].clone()

        def forward(rows: int) -> Callable[[], Tensor]:
            told = text.expand(rows, -1, -1).contiguous()
            latents = self._inputs.latents[rows].clone().to(place.dtype)
            return lambda: compiled(
                latents, self._inputs.timesteps(rows), encoder_hidden_states=told, return_dict=False
            )[0]  # fmt: skip

        with torch.inference_mode(mode=False), torch.no_grad():
            passes = {f"unet_{rows}": forward(rows) for rows in ROWS}
        threads = 1 if self._device.type == "cpu" else self._threads
        variant = Variant(passes, list(passes), threads, None, torch.no_grad)
        began = time.perf_counter()
        for kind in passes:
            variant.run(kind)
        self.compiled_in[name] = time.perf_counter() - began
        return variant

    def measure(self, variants: Mapping[str, Variant], rounds: int) -> None:
        """A value a round of every kind of every variant; forwards and backwards in turn."""
        for variant in variants.values():
            for kind in variant.kinds:
                for _ in range(SETTLING):
                    variant.run(kind)
        for number in range(rounds):
            for kind in (*UNET, *VAE):
                for variant in list(variants.values())[:: 1 if number % 2 == 0 else -1]:
                    if kind in variant.kinds:
                        variant.time(kind, self._device)


def check_same(variants: Mapping[str, Variant], half: bool) -> None:
    """Every variant's pictures are the engine's. Exits with what is not."""
    engine = variants["engine"]
    for name, variant in variants.items():
        for kind in variant.kinds:
            ours, other = engine.run(kind).float(), variant.run(kind).float()
            allowed = PIXELS_APART if kind in VAE else LATENTS_APART * float(ours.std())
            apart = float((ours.clamp(-1, 1) - other.clamp(-1, 1) if kind in VAE else ours - other).abs().max())
            if apart > allowed * (HALF_AS_PRECISE if half else 1):
                raise SystemExit(f"{name}: {kind} is {apart:.1e} from the engine's, {allowed:.1e} are promised")


def _attend_plainly(model: Any) -> None:
    model._unet.set_attn_processor(AttnProcessor())


def _unet_by_pixels(model: Any) -> None:
    model._unet.to(memory_format=torch.channels_last)


def _lay_out_vae(model: Any, layout: torch.memory_format) -> None:
    model._vae.to(memory_format=layout)


def _pack(model: Any) -> None:
    for layer in model._unet.modules():
        if isinstance(layer, nn.Conv2d):
            replace_forward(layer, _packed(layer))


def _packed(layer: Any) -> Callable[[Tensor], Tensor]:
    """What inductor's freezing does to a convolution."""
    around = (layer.padding, layer.stride, layer.dilation, layer.groups)
    packed = torch._C._nn.mkldnn_reorder_conv2d_weight(layer.weight.detach().to_mkldnn(), *around)
    convolve: Any = torch.ops.mkldnn._convolution_pointwise
    return lambda x: convolve(x, packed, layer.bias, *around, "none", [], "")


def captured(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A pass as a CUDA graph: what an engine would replay for a batch padded to this size, its inputs copied in place."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(3):  # whatever is chosen or gathered at the first passes
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = work()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def show(variants: Mapping[str, Variant], compiled_in: Mapping[str, float], on_cpu: bool) -> dict[str, float]:
    """Print a table; the medians of the ratios by variant and kind."""
    engine, kinds = variants["engine"].seconds, (*UNET, *VAE)
    head = ["the engine, ms; else times that", *kinds]
    table = [["the engine", *(Spread.of(engine[kind]).text(1, 1000) for kind in kinds)]]
    figures: dict[str, float] = {}
    for name, variant in variants.items():
        if name == "engine":
            continue
        over = {kind: ratios(variant.seconds[kind], engine[kind]) for kind in kinds if kind in variant.kinds}
        figures |= {f"{name}_{kind}": spread.median for kind, spread in over.items()}
        table.append([name, *(over[kind].text(2) if kind in over else "" for kind in kinds)])
    print_table(head, table)
    for name, seconds in compiled_in.items():
        print(f"{name}: {seconds:.1f} s for its {len(ROWS)} sizes of batch")
    if on_cpu:
        print("graphs, and all of this on CUDA: not measured: no CUDA device")
    print()
    return figures | {f"{name}_seconds": seconds for name, seconds in compiled_in.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, check and print; a child of the last part measures itself alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="torch's, at most")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compiled", action="store_true", help="torch.compile too: minutes, and a C++ compiler")
    parser.add_argument("--no-first", action="store_true", help="leave the first passes after loading out")
    parser.add_argument("--first", choices=["warm", "cold"], help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    device = find_place(EngineSettings(device=given.device)).device
    if given.first:
        print(json.dumps(first_passes(device, given.threads, warm=given.first == "warm")))
        return
    policy = os.environ["OMP_WAIT_POLICY"]
    print_machine(["torch", "diffusers"], device=device, threads=given.threads, OMP_WAIT_POLICY=policy)
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        bench = Bench(device, given.threads, Path(folder))
        variants = bench.variants(compiled=given.compiled)
        check_same(variants, half=device.type == "cuda")
        bench.measure(variants, given.rounds)
    figures = show(variants, bench.compiled_in, device.type == "cpu")
    if not given.no_first:
        figures |= show_firsts(firsts(max(1, given.rounds // 3), 1, device))
    print_figures(figures)


if __name__ == "__main__":
    main()
