"""LitServe (https://github.com/Lightning-AI/LitServe) with its dynamic batching: requests with one adapter share a run.

    python -m bench.peers.litserve_api FOLDER THREADS ADAPTERS PORT [--workers N] [--batch N] [--wait SECONDS] [--keep FOLDER]

POST /predict takes JSON (the pipeline's arguments, a seed and an adapter's name) and answers with the PNG in base64. A pipeline
wears one adapter at a time, so a batch that LitServe makes is painted a group of equal adapters after the other.
"""

from __future__ import annotations

import argparse
import base64
from pathlib import Path
from typing import Any

import litserve
import torch

from bench.peers.pipeline import WornPipeline, paint_in_groups

REQUEST_TIMEOUT = 300.0  # seconds; LitServe's own 30 would refuse what still waits


class Painting(litserve.LitAPI):  # type: ignore[misc]  # it has no types
    """A worker with one pipeline."""

    def __init__(self, folder: str, threads: int, adapters: str, batch: int, wait: float, keep: Path | None) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=wait)
        self._folder, self._threads, self._adapters, self._keep = folder, threads, adapters, keep

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

    def predict(self, inputs: Any) -> Any:
        """Group by group. Without batching LitServe gives one request, and takes one picture."""
        if isinstance(inputs, dict):
            return paint_in_groups(self._pipeline, [inputs], self._keep)[0]
        return paint_in_groups(self._pipeline, inputs, self._keep)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """As they are."""
        return output

    def encode_response(self, output: bytes) -> dict[str, str]:
        """Base64."""
        return {"png": base64.b64encode(output).decode()}


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("threads", type=int)
    parser.add_argument("adapters")
    parser.add_argument("port", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=10)  # all that bench.engine asks for at once
    parser.add_argument("--wait", type=float, default=0.05)  # seconds for more to come; a picture takes a second
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    api = Painting(given.folder, given.threads, given.adapters, given.batch, given.wait, given.keep)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=given.workers, timeout=REQUEST_TIMEOUT)
    server.run(host="127.0.0.1", port=given.port, generate_client_file=False, log_level="warning", num_api_servers=1)


if __name__ == "__main__":
    main()
