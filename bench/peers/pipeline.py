"""The baseline everybody writes first: StableDiffusionPipeline behind a lock, in a server with a thread a connection.

    python -m bench.peers.pipeline FOLDER THREADS

Takes lines of JSON (the pipeline's arguments, and a seed), answers each with a 4-byte length and a PNG. Encoding the PNG is done
outside of the lock.
"""

from __future__ import annotations

import io
import json
import socket
import socketserver
import struct
import sys
import threading
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline


class LockedPipeline:
    """A pipeline that one request at a time may use: its scheduler holds the state of the one under way."""

    def __init__(self, folder: str) -> None:
        self._lock = threading.Lock()
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

    def paint(self, seed: int, **arguments: Any) -> bytes:
        """One picture, as PNG."""
        with self._lock:
            generator = torch.Generator("cpu").manual_seed(seed)
            picture = self._pipeline(generator=generator, **arguments).images[0]
        png = io.BytesIO()
        picture.save(png, "PNG")
        return png.getvalue()


class Server(socketserver.ThreadingTCPServer):
    """A thread a connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, pipeline: LockedPipeline) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.pipeline = pipeline


class Requests(socketserver.StreamRequestHandler):
    """One connection."""

    server: Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """A picture a line."""
        for line in self.rfile:
            png = self.server.pipeline.paint(**json.loads(line))
            self.wfile.write(struct.pack(">I", len(png)) + png)


def main(folder: str, threads: int) -> None:
    """Serve until the process is ended; the port is told on stdout."""
    torch.set_num_threads(threads)
    server = Server(LockedPipeline(folder))
    host: tuple[str, int] = socket.socket.getsockname(server.socket)
    print(json.dumps({"port": host[1], "threads": torch.get_num_threads()}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
