"""Where pictures are written, and under which names. Blocking: call it in a thread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from server.events import Artifact, Preview

SLUG_LENGTH = 48  # characters; enough to tell prompts apart, and far from any file system's limit


def write_pictures(
    out: Path, prompt: str, job_id: str, artifacts: Sequence[Artifact], pictures: Sequence[bytes]
) -> list[Path]:
    """Write each picture as <prompt>-<job>-<image>.png; gives the paths. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for artifact, picture in zip(artifacts, pictures, strict=True):
        path = out / f"{stem(prompt, job_id)}-{artifact.image_index}.png"
        path.write_bytes(picture)
        paths.append(path)
    return paths


def write_preview(out: Path, prompt: str, preview: Preview) -> None:
    """Write a preview beside its picture. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    name = f"{stem(prompt, preview.job_id)}-{preview.image_index}-step{preview.step:03}.png"
    (out / name).write_bytes(preview.png)


def stem(prompt: str, job_id: str) -> str:
    """A readable beginning of a file name; the job's first 8 characters keep two of one prompt apart."""
    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:SLUG_LENGTH].strip("-") or "picture"
    job = re.sub(r"[^A-Za-z0-9]+", "", job_id)[:8]
    return f"{slug}-{job}"
