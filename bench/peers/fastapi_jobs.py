"""What Atelier's HTTP door is compared with: FastAPI on uvicorn with httptools, and nothing behind it.

GET /health answers what ours does. POST /v1/jobs takes the same body, checked by the same model, and answers with the same job,
which it forgets.
"""

from __future__ import annotations

import json
import secrets
import socket

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from server.doors.http.schemas import JobRequest

HEALTH = {"status": "healthy", "cuda_available": False, "cuda_device": None}


async def health() -> Response:
    """It answers."""
    return JSONResponse(HEALTH)


async def submit_job(asked: JobRequest) -> Response:
    """A job that is nowhere."""
    job = {
        "id": secrets.token_hex(16),
        "state": "queued",
        **asked.model_dump(include={"prompt", "model", "width", "height", "num_inference_steps", "seed"}),
    }
    return Response(json.dumps(job), 202, {"Location": f"/v1/jobs/{job['id']}"}, "application/json")


def main() -> None:
    """Serve until the process is ended; the port is told on stdout."""
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})  # as ours
    app.add_api_route("/health", health, methods=["GET"], response_model=None)
    app.add_api_route("/v1/jobs", submit_job, methods=["POST"], response_model=None)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as asyncio does where it opens the port itself
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(app, http="httptools", loop="asyncio", log_config=None, access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
