"""`atelier status`, `models` and `cancel`: one question, one answer."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from atelier.output import as_plain, print_json
from atelier.running import connected
from proto import atelier_pb2 as pb


async def status(reactor: Any, server: str, token: str, *, as_json: bool) -> int:
    """Print how the server is doing."""
    async with connected(reactor, server, token) as client:
        answer = await client.status()
    if as_json:
        print_json(as_plain(answer))
        return 0
    plain = as_plain(answer)
    devices, outbox = plain.pop("devices"), plain.pop("outbox", None) or {}
    table = Table(show_header=False, box=None)
    for name, value in plain.items():
        if value != "":
            table.add_row(name.replace("_", " "), _shown(value))
    for name, value in outbox.items():
        table.add_row(name.replace("_", " "), _shown(value))
    for device in devices:
        memory = device.pop("memory")
        table.add_section()
        table.add_row("device", device.pop("device") or "not yet known")
        for name, value in device.items():
            if value not in ("", None):
                table.add_row(f"  {name.replace('_', ' ')}", _shown(value))
        for kind, size in memory.items():
            table.add_row(f"  memory {kind}", f"{size / 1e6:,.1f} MB")
    Console().print(table)
    return 0


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


async def models(reactor: Any, server: str, token: str, *, as_json: bool) -> int:
    """Print what the server can paint with, the default first."""
    async with connected(reactor, server, token) as client:
        answer = await client.models()
    if as_json:
        print_json({"models": [as_plain(model) for model in answer]})
        return 0
    for model in answer:
        print(described(model))
    return 0


def described(model: pb.Model) -> str:
    """A model in a few lines, by its kind."""
    state = pb.ModelState.Name(model.state).removeprefix("MODEL_").lower().replace("_", " ")
    if model.input_schema:
        names = ", ".join(json.loads(model.input_schema))
        about = model.problem or model.description
        return f"{model.name} ({model.model_type}): {state}\n  {about}\n  inputs: {names}"
    if model.model_type == "stream":
        return f"{model.name} (stream): {state}\n  {model.problem or model.description}\n  for live sessions: docs/realtime.md"
    lines = [
        f"{model.name} ({model.family}): {state}",
        f"  {model.problem or model.description}",
        f"  {model.default_width}x{model.default_height}, sizes from {model.min_size} in steps of {model.size_multiple}",
        f"  {model.default_num_inference_steps} steps, guidance {model.default_guidance_scale:g}, "
        f"solvers: {', '.join(model.solvers)}",
    ]
    if model.adapters:
        lines.append(f"  adapters: {', '.join(model.adapters)}")
    return "\n".join(lines)


async def cancel(reactor: Any, server: str, token: str, job_id: str) -> int:
    """Ask that a job be stopped, and print its state at that moment."""
    async with connected(reactor, server, token) as client:
        state = pb.JobState.Name(await client.cancel(job_id)).removeprefix("JOB_").lower()
    over = state in ("succeeded", "failed", "canceled")
    print(f"job {job_id} had {state} already" if over else f"job {job_id} is being cancelled; it was {state}")
    return 0
