"""What people write first: FastAPI, one pipeline, and a lock around it.

    python -m bench.peers.fastapi_lock FOLDER THREADS ADAPTERS PORT [--keep FOLDER]

POST /predict takes JSON (the pipeline's arguments, a seed, an adapter's name, a signature) and answers with the PNG. Waiting
is in order; the picture is signed and written outside of the lock. GET /health says that it is loaded.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request, Response

from bench.peers.pipeline import WornPipeline, finished


def made(pipeline: WornPipeline, keep: Path | None) -> FastAPI:
    """The application."""
    app, lock = FastAPI(), asyncio.Lock()

    def painted(wanted: dict[str, Any]) -> Any:
        given = {key: value for key, value in wanted.items() if key != "signature"}
        (picture,) = pipeline.paint([given.pop("seed")], [given.pop("prompt")], **given)
        return picture

    async def predict(request: Request) -> Response:
        wanted = await request.json()
        async with lock:
            picture = await asyncio.to_thread(painted, wanted)
        return Response(await asyncio.to_thread(finished, picture, wanted, keep), media_type="image/png")

    async def health(request: Request) -> Response:
        return Response("ok")

    app.add_route("/predict", predict, methods=["POST"])
    app.add_route("/health", health)
    return app


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("threads", type=int)
    parser.add_argument("adapters")
    parser.add_argument("port", type=int)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    app = made(WornPipeline(given.folder, given.adapters), given.keep)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False, http="httptools")


if __name__ == "__main__":
    main()
