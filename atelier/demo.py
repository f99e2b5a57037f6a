"""`atelier demo`: a server, ten prompts at once in ten styles, each signed by its artist, a contact sheet, and the server
stopped again."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from atelier.child import ChildServer
from atelier.contact_sheet import write_contact_sheet
from atelier.display import display_for
from atelier.gallery import gallery_for
from atelier.painting import Order, Painting, Report, tell_failures
from atelier.running import connected, say
from bot.orders import SubmitFields
from watermark import read_metadata

# The embedded model is small, and its pictures differ from seed to seed: these were looked at.
PROMPTS = (
    ("outline", "a big yellow star on a blue background", 4),
    ("pixel", "a big red heart on a white background", 3),
    ("watercolour", "a big orange house on a blue background", 3),
    ("neon", "a big green tree on a purple background", 4),
    ("stripes", "a big yellow moon on a purple background", 3),
    ("mosaic", "a big blue cross on a white background", 3),
    ("chalk", "a pink flower on a green background", 4),
    ("poster", "an orange circle on a purple background at the left", 2),
    ("blueprint", "a big white ring on a red background", 4),
    ("gradient", "a small orange diamond on a cyan background", 1),
)
STEPS = 20
GUIDANCE = 2.5


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
    pictures = [path for report in reports for path in report.files]
    sheet = await asyncio.to_thread(lambda: write_contact_sheet(out, [(path, _caption(path)) for path in pictures]))
    print(f"{len(pictures)} pictures in {took:.1f} s, the model's loading included, in {out}/")
    print(f"all of them: {sheet}")
    return 0


def _caption(picture: Path) -> str:
    """As the picture's own metadata has it."""
    told = read_metadata(picture.read_bytes())
    return f"{told['prompt']}, {told['adapters'].partition(':')[0]} by {told['artist']}"


async def _paint(reactor: Any, address: str, out: Path, count: int) -> list[Report]:
    gallery = gallery_for(Console())
    orders = [_order(*chosen, previews=gallery is not None) for chosen in PROMPTS[:count]]
    async with connected(reactor, address, "") as client:
        with gallery or display_for(as_json=False) as display:
            return await Painting(client, display, out, keep_previews=False).paint(orders)


def _order(style: str, prompt: str, seed: int, *, previews: bool) -> Order:
    """No signature is asked for: whoever wears a style is signed by its artist."""
    fields = SubmitFields(
        seed=seed,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        adapters=[style],
        preview_every_steps=1 if previews else 0,
    )
    return Order(prompt, fields, title=f"{style}: {prompt}")
