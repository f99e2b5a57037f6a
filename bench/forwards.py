"""The bare networks, in a process of their own: what no server can be faster than, and what a loop beside them suffers.

    python -m bench.forwards FOLDER THREADS

Told {"do": "time", "repeats": N} on stdin, answers with the mean seconds of a UNet forward of 2 and of 20 rows and of a VAE
decode of 1 and of 10; told {"do": "lag", "seconds": S}, with the lag of a bare asyncio loop beside a thread that does nothing but
UNet forwards of 20 rows, by the server's own meter.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from bench.painting import SIZE
from server.clock import Clock
from server.lag import LagMeter

TOKENS = 77  # of a text embedding; CLIP's context
SETTLING = 1.0  # seconds of load before the lag counts


class Networks:
    """UNet and VAE with inputs for every number of rows."""

    def __init__(self, folder: str) -> None:
        loading = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
        self._unet: Any = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **loading).eval()
        self._vae: Any = AutoencoderKL.from_pretrained(folder, subfolder="vae", **loading).eval()
        self._pixels_per_latent = 2 ** (len(self._vae.config.block_out_channels) - 1)

    def forward(self, rows: int) -> Callable[[], object]:
        """A UNet forward to call."""
        latents = self._latents(rows)
        text = torch.randn(rows, TOKENS, self._unet.config.cross_attention_dim)
        timesteps = torch.full((rows,), 500.0)
        return lambda: self._unet(latents, timesteps, encoder_hidden_states=text, return_dict=False)

    def decode(self, rows: int) -> Callable[[], object]:
        """A VAE decode to call."""
        latents = self._latents(rows)
        return lambda: self._vae.decode(latents, return_dict=False)

    def _latents(self, rows: int) -> torch.Tensor:
        side = SIZE // self._pixels_per_latent
        return torch.randn(rows, int(self._unet.config.in_channels), side, side)


class LoopClock:
    """A bare asyncio loop as the meter's clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds = loop.time
        self.callLater = loop.call_later


def times(networks: Networks, repeats: int) -> dict[str, float]:
    """Mean seconds of each."""
    wanted = {
        "unet_2": (networks.forward(2), repeats),
        "unet_20": (networks.forward(20), repeats),
        "vae_1": (networks.decode(1), repeats),
        "vae_10": (networks.decode(10), max(1, repeats // 4)),
    }
    return {name: _mean_seconds(call, count) for name, (call, count) in wanted.items()}


def lag(networks: Networks, seconds: float) -> dict[str, float]:
    """What the meter says after so many seconds beside a busy thread."""
    stop = threading.Event()
    forward = networks.forward(20)

    def work() -> None:
        with torch.inference_mode():
            while not stop.is_set():
                forward()

    async def watch() -> float:
        meter = LagMeter(cast(Clock, LoopClock(asyncio.get_running_loop())))
        await asyncio.sleep(SETTLING)
        meter.start()
        await asyncio.sleep(seconds)
        return meter.p99_ms()

    busy = threading.Thread(target=work)
    busy.start()
    try:
        return {"p99_ms": asyncio.run(watch())}
    finally:
        stop.set()
        busy.join()


def main(folder: str, threads: int) -> None:
    """Answer a line with a line until stdin ends."""
    torch.set_num_threads(threads)
    networks = Networks(folder)
    with torch.inference_mode():
        times(networks, 1)  # the first pass of each shape prepares what the others use
        print(json.dumps({"threads": torch.get_num_threads()}), flush=True)
        for line in sys.stdin:
            wanted = json.loads(line)
            done = times(networks, wanted["repeats"]) if wanted["do"] == "time" else lag(networks, wanted["seconds"])
            print(json.dumps(done), flush=True)


def _mean_seconds(call: Callable[[], object], repeats: int) -> float:
    call()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
