"""The settings of live sessions (docs/realtime.md)."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings

from config.fields import setting


class LiveSettings(BaseSettings):
    """Part of `config.Settings`."""

    stream_models_dir: Path | None = setting(
        None, "STREAM_MODELS_DIR",
        why="A folder of stream models' folders (manifest.toml, model.pt2). A .pt2 is code: keep it where only you write. "
        "The embedded stream-demo is there without it.",
    )  # fmt: skip
    stream_ready: bool = setting(
        False, "STREAM_READY",
        why="Have stream models loaded before the server listens (it waits 60 s at most), and keep them: the first session waits "
        "for nothing, nor do sessions that come over from a process that died.",
    )  # fmt: skip
    stream_spare: bool = setting(
        True, "STREAM_SPARE",
        why="Keep a second process of each stream model in use ready, so that sessions go on within a second when the first "
        "dies; it takes the memory of one more (some 340 MB with torch, part of it shared).",
    )  # fmt: skip
    stream_threads: int = setting(
        1, "STREAM_THREADS", ge=1, le=256,
        why="CPU threads of a stream model's tick. Small models are quickest on one, and painting keeps the others.",
    )  # fmt: skip
    stream_load_timeout: float = setting(
        60.0, "STREAM_LOAD_TIMEOUT", gt=0, why="For a stream model's process to begin and to load its program."
    )
    stream_tick_timeout: float = setting(
        2.0, "STREAM_TICK_TIMEOUT", gt=0,
        why="A tick that takes longer hangs: its process is killed, and sessions go on in the next.",
    )  # fmt: skip
    stream_idle_timeout: float = setting(
        300.0, "STREAM_IDLE_TIMEOUT", gt=0,
        why="A stream model's processes end when nobody has had a session on it for so long.",
    )  # fmt: skip
    max_live_sessions: int = setting(
        1000, "MAX_LIVE_SESSIONS", ge=1,
        why="In this process. 200 at 30 frames a second are a good part of a core's work (docs/realtime.md).",
    )  # fmt: skip
    max_live_sessions_per_owner: int = setting(
        300, "MAX_LIVE_SESSIONS_PER_OWNER", ge=1, why="So that one owner cannot take all of them."
    )
