"""LitServe (https://github.com/Lightning-AI/LitServe) with its dynamic batching: requests with one adapter share a run.

    python -m bench.peers.litserve_api FOLDER THREADS ADAPTERS PORT

POST /predict takes JSON (the pipeline's arguments, a seed and an adapter's name) and answers with the PNG in base64. A pipeline
wears one adapter at a time, so a batch that LitServe makes is painted a group of equal adapters after the other.
"""

from __future__ import annotations

import base64
import sys
from collections import defaultdict
from typing import Any

import litserve
import torch

from bench.peers.pipeline import WornPipeline, as_png

MAX_BATCH = 10  # all that the benchmark asks for at once
BATCH_TIMEOUT = 0.05  # seconds to wait for more; a picture takes a second


class Painting(litserve.LitAPI):  # type: ignore[misc]  # it has no types
    """One worker with one pipeline."""

    def __init__(self, folder: str, threads: int, adapters: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT)
        self._folder, self._threads, self._adapters = folder, threads, adapters

    def setup(self, device: str) -> None:
        """Load the pipeline and the adapters."""
        torch.set_num_threads(self._threads)
        self._pipeline = WornPipeline(self._folder, self._adapters)

    # An annotation would be LitServe's request type, and as text, which it is here, FastAPI takes it for a query parameter.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """As it is."""
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As they are."""
        return inputs

    def predict(self, inputs: list[dict[str, Any]]) -> list[bytes]:
        """Group by group."""
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for place, wanted in enumerate(inputs):
            groups[wanted["adapter"]].append(place)
        pngs = [b""] * len(inputs)
        for adapter, places in groups.items():
            seeds, prompts = ([inputs[place][key] for place in places] for key in ("seed", "prompt"))
            others = {
                key: value for key, value in inputs[places[0]].items() if key not in ("seed", "prompt", "adapter")
            }
            for place, picture in zip(places, self._pipeline.paint(seeds, prompts, adapter, **others), strict=True):
                pngs[place] = as_png(picture)
        return pngs

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """As they are."""
        return output

    def encode_response(self, output: bytes) -> dict[str, str]:
        """Base64."""
        return {"png": base64.b64encode(output).decode()}


def main(folder: str, threads: int, adapters: str, port: int) -> None:
    """Serve until the process is ended."""
    server = litserve.LitServer(Painting(folder, threads, adapters), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning", num_api_servers=1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
