"""`atelier demo`: a server, ten prompts at once, ten signed pictures and a contact sheet, and the server stopped again."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from atelier.child import ChildServer
from atelier.contact_sheet import write_contact_sheet
from atelier.display import display_for
from atelier.painting import Order, Painting, Report, tell_failures
from atelier.running import connected, say
from bot.orders import SubmitFields
from proto import atelier_pb2 as pb

# The embedded model is small, and its pictures differ from seed to seed: these were looked at.
PROMPTS = (
    ("a big yellow star on a blue background", 6),
    ("a big red heart on a white background", 5),
    ("a big orange house on a blue background", 4),
    ("a big green tree on a yellow background", 2),
    ("a yellow moon on a purple background at the top", 1),
    ("a big blue cross on a white background", 1),
    ("a pink flower on a green background", 5),
    ("an orange circle on a purple background at the left", 6),
    ("a big white ring on a red background", 2),
    ("a small orange diamond on a cyan background", 3),
)
STEPS = 20
GUIDANCE = 2.5
SIGNATURE = "Atelier"


async def demo(reactor: Any, out: Path, count: int) -> int:
    """The exit status: 0 when every prompt was painted. Raises ServerDied."""
    with tempfile.TemporaryDirectory(prefix="atelier-demo-") as folder:
        say("starting a server of its own …")
        begun = time.monotonic()
        async with ChildServer(Path(folder)) as server:
            say(f"it listens on {server.address} after {time.monotonic() - begun:.1f} s, and loads its model")
            begun = time.monotonic()
            reports = await _paint(reactor, server.address, out, count)
            took = time.monotonic() - begun
            say("stopping the server …")
    if not tell_failures(reports):
        return 1
    pictures = [(path, report.prompt) for report in reports for path in report.files]
    sheet = await asyncio.to_thread(write_contact_sheet, out, pictures)
    print(f"{len(pictures)} pictures in {took:.1f} s, the model's loading included, in {out}/")
    print(f"all of them: {sheet}")
    return 0


async def _paint(reactor: Any, address: str, out: Path, count: int) -> list[Report]:
    async with connected(reactor, address, "") as client:
        with display_for(as_json=False) as display:
            return await Painting(client, display, out).paint([_order(*chosen) for chosen in PROMPTS[:count]])


def _order(prompt: str, seed: int) -> Order:
    signature = pb.Signature(text=SIGNATURE, size=pb.Signature.LARGE, artist=SIGNATURE)
    fields = SubmitFields(seed=seed, num_inference_steps=STEPS, guidance_scale=GUIDANCE, signature=signature)
    return Order(prompt, fields)
