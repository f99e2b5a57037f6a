"""The baseline everybody writes first: StableDiffusionPipeline behind a lock, in a server with a thread a connection.

    python -m bench.peers.pipeline FOLDER THREADS [ADAPTERS]

Takes lines of JSON (the pipeline's arguments, a seed and an adapter's name or ""), answers each with a 4-byte length and a PNG.
Encoding the PNG is done outside of the lock. ADAPTERS is a folder of NAME.safetensors: all of them are loaded at the start,
and each request's is chosen by `set_adapters`.
"""

from __future__ import annotations

import io
import json
import socket
import socketserver
import struct
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from watermark import Signature, TextMark, encode_png, sign


class WornPipeline:
    """A pipeline for one caller at a time (its scheduler holds the state of the run), and adapters to choose from."""

    def __init__(self, folder: str, adapters: str | None = None) -> None:
        self._pipeline: Any = StableDiffusionPipeline.from_pretrained(
            folder,
            dtype=torch.float32,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            use_safetensors=True,
            local_files_only=True,
        )
        self._pipeline.set_progress_bar_config(disable=True)
        if type(self._pipeline.scheduler) is not DPMSolverMultistepScheduler:
            raise SystemExit(f"{folder}: its scheduler is a {type(self._pipeline.scheduler).__name__}")
        self._worn = ""
        for path in sorted(Path(adapters).glob("*.safetensors")) if adapters else ():
            self._pipeline.load_lora_weights(str(path), adapter_name=path.stem)

    def paint(self, seeds: Sequence[int], prompts: Sequence[str], adapter: str, **arguments: Any) -> list[Any]:
        """Pictures in one batch, all with the same adapter."""
        if adapter != self._worn:
            self._pipeline.set_adapters([adapter], [1.0])
            self._worn = adapter
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        images: list[Any] = self._pipeline(prompt=list(prompts), generator=generators, **arguments).images
        return images


def as_png(picture: Any) -> bytes:
    """A Pillow image."""
    png = io.BytesIO()
    picture.save(png, "PNG")
    return png.getvalue()


def paint_in_groups(
    pipeline: WornPipeline, wanted: Sequence[Mapping[str, Any]], keep: Path | None = None
) -> list[bytes]:
    """The PNGs of several requests: those of one adapter share a run, since a pipeline wears one at a time."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(wanted):
        groups[one["adapter"]].append(place)
    pngs = [b""] * len(wanted)
    for adapter, places in groups.items():
        seeds, prompts = ([wanted[place][key] for place in places] for key in ("seed", "prompt"))
        others = {key: value for key, value in wanted[places[0]].items() if key not in _EACH_ITS_OWN}
        for place, picture in zip(places, pipeline.paint(seeds, prompts, adapter, **others), strict=True):
            pngs[place] = finished(picture, wanted[place], keep)
    return pngs


_EACH_ITS_OWN = frozenset({"seed", "prompt", "adapter", "signature"})


def finished(picture: Any, wanted: Mapping[str, Any], keep: Path | None) -> bytes:
    """A PNG; where the request has a signature, signed as Atelier signs and saying what it is; kept as a file in `keep`."""
    text = wanted.get("signature")
    if not text:
        return as_png(picture)
    signed, _ = sign(picture, Signature(TextMark(text), artist=text))
    about = {"prompt": wanted["prompt"], "seed": str(wanted["seed"]), "adapters": wanted["adapter"], "artist": text}
    png = encode_png(signed, about)
    if keep is not None:
        (keep / f"{wanted['seed']}.png").write_bytes(png)
    return png


class Server(socketserver.ThreadingTCPServer):
    """A thread a connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, pipeline: WornPipeline) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.pipeline = pipeline
        self.lock = threading.Lock()


class Requests(socketserver.StreamRequestHandler):
    """One connection."""

    server: Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """A picture a line."""
        for line in self.rfile:
            wanted = json.loads(line)
            with self.server.lock:
                (picture,) = self.server.pipeline.paint([wanted.pop("seed")], [wanted.pop("prompt")], **wanted)
            png = as_png(picture)
            self.wfile.write(struct.pack(">I", len(png)) + png)


def main(folder: str, threads: int, adapters: str | None = None) -> None:
    """Serve until the process is ended; the port is told on stdout."""
    torch.set_num_threads(threads)
    server = Server(WornPipeline(folder, adapters))
    host: tuple[str, int] = socket.socket.getsockname(server.socket)
    print(json.dumps({"port": host[1], "threads": torch.get_num_threads()}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
