"""Every setting of the server: its environment name, its default and its reason.

Values come from the environment, then from a `.env` file in the working folder, then from the defaults here. A name that
existing systems use (docs/configuration.md lists them) is accepted beside ours; where both are set, ours wins. An unknown
ATELIER_ name, or a value that does not fit, stops the start with a message that names the variable. Secrets are `SecretStr`, so
that no repr, log or error shows them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import AliasChoices, ByteSize, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from config.calling import CallingSettings
from config.fetching import FetchingSettings
from config.fields import PREFIX as PREFIX
from config.fields import setting as _setting
from config.hosts import hosts_of
from config.http import HttpSettings
from config.local_model import local_model
from config.measuring import MeasuringSettings
from config.profile import known_profile, read_profile
from config.solver_words import known_word, solver_of
from config.storing import StoringSettings

CLIENT_NAMES = frozenset({"ATELIER_SERVER", "ATELIER_TOKEN"})  # the command line's own, for talking to a server
CHUNK_ENVELOPE = 256  # bytes of a Chunk that are not picture: ids, numbers, tags
AMQP_PORT, AMQPS_PORT = 5672, 5671  # as brokers have them
DEMO_MODEL = Path(__file__).resolve().parent.parent / "models" / "demo"
_OWNER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MODEL_NAME = re.compile(r"[A-Za-z0-9._/-]{1,100}")
_LISTEN_KINDS = ("tcp:", "tcp6:", "ssl:", "tls:", "unix:", "systemd:")


class SettingsError(Exception):
    """A setting that the server cannot start with. The text names the variable."""


class Settings(HttpSettings, StoringSettings, FetchingSettings, CallingSettings, MeasuringSettings):
    """All settings, checked. Seconds and bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        case_sensitive=True,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
    )

    profile: str = _setting(
        "", "PROFILE",
        why="Ready-made settings for other servers' front ends: sdxl-api, predictions (docs/http.md). All others come before it.",
    )  # fmt: skip

    # The TCP door
    tcp_listen: str = _setting(
        "tcp:9000:interface=127.0.0.1", "TCP_LISTEN",
        why="Where TCP clients connect: a Twisted endpoint string (tcp:, ssl:, unix:). Loopback until tokens are set.",
    )  # fmt: skip
    tokens: Annotated[dict[str, SecretStr], NoDecode] = _setting(
        {}, "TOKENS",
        why="Who may connect: owner:token,owner:token. A token has 16 characters or more. None: loopback addresses only.",
    )  # fmt: skip
    allow_plaintext: bool = _setting(
        False, "ALLOW_PLAINTEXT",
        why="Serve other machines without TLS. Tokens and pictures can then be read on the way.",
    )  # fmt: skip
    handshake_frame_bytes: int = _setting(
        4096, "HANDSHAKE_FRAME_BYTES", ge=256, le=1 << 20,
        why="Largest frame before Hello: a token and a name need a few hundred bytes, a stranger gets no more.",
    )  # fmt: skip
    max_frame_bytes: int = _setting(
        1 << 20, "MAX_FRAME_BYTES", ge=1 << 16, le=1 << 26,
        why="Largest frame after Hello: a Submit with a signature image fits well.",
    )  # fmt: skip
    chunk_bytes: int = _setting(
        256 * 1024, "CHUNK_BYTES", ge=1024, le=256 * 1024,
        why="Pictures travel in pieces of this size, so that none holds up another job's progress.",
    )  # fmt: skip
    handshake_timeout: float = _setting(
        10.0, "HANDSHAKE_TIMEOUT", gt=0,
        why="From connecting to a good Hello, however many bytes come: strangers hold no connection longer.",
    )  # fmt: skip
    frame_timeout: float = _setting(
        30.0, "FRAME_TIMEOUT", gt=0,
        why="From a frame's first byte to its last: a slow sender holds no memory longer.",
    )  # fmt: skip
    idle_timeout: float = _setting(
        300.0, "IDLE_TIMEOUT", gt=0,
        why="A connection on which no whole message came for so long is closed; the client pings more often.",
    )  # fmt: skip
    slow_reader_timeout: float = _setting(
        60.0, "SLOW_READER_TIMEOUT", gt=0,
        why="A client that reads nothing for so long is disconnected; its jobs live on and can be watched again.",
    )  # fmt: skip
    max_connections: int = _setting(
        10_000, "MAX_CONNECTIONS", ge=1,
        why="In all. One costs about 10 kB, and an open file: raise `ulimit -n` too.",
    )  # fmt: skip
    max_connections_per_address: int = _setting(
        500, "MAX_CONNECTIONS_PER_ADDRESS", ge=1,
        why="From one address, so that one machine cannot take all places; an office behind one address fits.",
    )  # fmt: skip
    max_requests_per_connection: int = _setting(
        1000, "MAX_REQUESTS_PER_CONNECTION", ge=1,
        why="Jobs that one connection follows at once; each holds its latest progress in memory.",
    )  # fmt: skip

    # Jobs
    max_pending_jobs: int = _setting(
        2000, "MAX_PENDING_JOBS", ge=1,
        why="Jobs not yet ended, in all: beyond, a new one would wait longer than anybody does.",
    )  # fmt: skip
    max_pending_jobs_per_owner: int = _setting(
        500, "MAX_PENDING_JOBS_PER_OWNER", ge=1,
        why="The same for one owner, so that one cannot fill the queue for all.",
    )  # fmt: skip
    max_prompt_characters: int = _setting(
        4000, "MAX_PROMPT_CHARACTERS", ge=1,
        why="Prompt and negative prompt each. 77 tokens are about 400 characters; the rest is cut with a warning.",
    )  # fmt: skip
    max_width: int = _setting(1280, "MAX_WIDTH", "MAX_WIDTH", ge=64, le=8192, why="Pixels. Memory grows with the area.")
    max_height: int = _setting(1280, "MAX_HEIGHT", "MAX_HEIGHT", ge=64, le=8192, why="Pixels, as MAX_WIDTH.")
    max_num_inference_steps: int = _setting(
        100, "MAX_NUM_INFERENCE_STEPS", "MAX_STEPS", ge=1, le=1000,
        why="More steps change nothing that can be seen, and keep a row from others.",
    )  # fmt: skip
    default_width: int | None = _setting(None, "DEFAULT_WIDTH", "DEFAULT_WIDTH", why="Instead of the model card's.")
    default_height: int | None = _setting(None, "DEFAULT_HEIGHT", "DEFAULT_HEIGHT", why="Instead of the model card's.")
    default_num_inference_steps: int | None = _setting(
        None, "DEFAULT_NUM_INFERENCE_STEPS", "DEFAULT_STEPS", ge=1, why="Instead of the model card's."
    )
    default_guidance_scale: float | None = _setting(
        None, "DEFAULT_GUIDANCE_SCALE", "DEFAULT_GUIDANCE", ge=0, le=50, why="Instead of the model card's."
    )
    use_refiner: bool = _setting(
        True, "USE_REFINER", "USE_REFINER",
        why="Whether a model's refiner makes the last steps of a request that does not say. One without a refiner does without.",
    )  # fmt: skip
    default_refiner_strength: float | None = _setting(
        None, "DEFAULT_REFINER_STRENGTH", "DEFAULT_REFINER_STRENGTH", ge=0, le=1,
        why="A refiner's share of the noise schedule, instead of the model card's (1 - refiner_switch, 0.2 by default).",
    )  # fmt: skip
    default_solver: str = _setting(
        "", "DEFAULT_SOLVER", "SCHEDULER_TYPE",
        why="Instead of each model's own: a name of docs/solvers.md, or dpm++, which is Karras's unless USE_KARRAS=false.",
    )  # fmt: skip
    use_karras: bool | None = _setting(
        None,
        "USE_KARRAS",
        "USE_KARRAS",
        why="Whether dpm++ has Karras's noise levels. Beside another solver true is refused.",
    )
    max_signature_image_bytes: int = _setting(
        256 * 1024, "MAX_SIGNATURE_IMAGE_BYTES", ge=1024,
        why="Largest signature image inside a request; a signature of 500 pixels needs a tenth of it.",
    )  # fmt: skip

    max_pending_signature_image_bytes: int = _setting(
        256 << 20, "MAX_PENDING_SIGNATURE_IMAGE_BYTES", ge=1,
        why="Signature images of all jobs not yet ended, in memory: 1000 of the largest.",
    )  # fmt: skip

    max_init_image_bytes: int = _setting(
        700_000, "MAX_INIT_IMAGE_BYTES", ge=1024,
        why="Largest init image (PNG, JPEG, WebP) inside a request; a good JPEG of 1024 pixels has half. Mind MAX_FRAME_BYTES.",
    )  # fmt: skip
    max_init_image_pixels: int = _setting(
        4_194_304, "MAX_INIT_IMAGE_PIXELS", ge=64 * 64, le=64_000_000,
        why="2048 × 2048: decoding takes 4 bytes a pixel. Waiting jobs keep 3 bytes for each pixel of their own size.",
    )  # fmt: skip
    max_pending_init_image_bytes: int = _setting(
        1_000_000_000, "MAX_PENDING_INIT_IMAGE_BYTES", ge=1,
        why="Pixels of the init images of all jobs not yet ended, in memory: 3 bytes each, 1,200 images of 512 × 512.",
    )  # fmt: skip

    # Records
    database_url: SecretStr = _setting(
        SecretStr(""), "DATABASE_URL", "DATABASE_URL",
        why="postgresql://user:password@host/name, or sqlite:///path. Empty: SQLite in DATA_DIR/atelier.db.",
    )  # fmt: skip
    database_timeout: float = _setting(
        5.0, "DATABASE_TIMEOUT", ge=0.1, le=60,
        why="For a connection, a statement, a lock that another program holds; then what needs it is refused or tried again.",
    )  # fmt: skip
    database_threads: int = _setting(
        2, "DATABASE_THREADS", ge=1, le=32,
        why="Threads, and connections, that read records. One more writes: a single writer shares its commits.",
    )  # fmt: skip
    job_lease: float = _setting(
        30.0, "JOB_LEASE", ge=3, le=3600,
        why="A node that was not heard of for so long has lost its jobs to another; it says so every third of it.",
    )  # fmt: skip
    max_job_attempts: int = _setting(
        10, "MAX_JOB_ATTEMPTS", ge=1, le=1000,
        why="Beginnings of a job that each ended with the server's sudden end: it may be what ends the server.",
    )  # fmt: skip
    retry_delays: Annotated[tuple[float, ...], NoDecode] = _setting(
        (0.0, 30.0, 120.0), "RETRY_DELAYS",
        why="Seconds before each retry of what may go well later (no memory, no storage). As many retries; empty: none.",
    )  # fmt: skip
    max_unstored_bytes: int = _setting(
        256 << 20, "MAX_UNSTORED_BYTES", ge=0,
        why="Pixels of pictures that the storage did not take, kept for the retry: 340 of 512 × 512. Others are painted anew.",
    )  # fmt: skip
    keep_finished_jobs: int = _setting(
        100_000, "KEEP_FINISHED_JOBS", ge=1,
        why="Ended jobs that are remembered (about 3 kB each); what ended first is forgotten first, with its pictures.",
    )  # fmt: skip
    keep_finished_days: float = _setting(
        30.0, "KEEP_FINISHED_DAYS", gt=0, le=36_500,
        why="Ended jobs and their pictures are forgotten after so long: a month to fetch them, and no disk fills unseen.",
    )  # fmt: skip
    max_stored_bytes: int = _setting(
        100_000_000_000, "MAX_STORED_BYTES", ge=1,
        why="Of all pictures together (a 512 × 512 one has about 400 kB); beyond, the oldest job's are deleted first.",
    )  # fmt: skip

    # The RabbitMQ door, and several nodes
    role: Literal["all", "gateway", "worker"] = _setting(
        "all", "ROLE",
        why="gateway: doors only, its jobs go to workers by RabbitMQ. worker: the engine only (docs/operations.md).",
    )  # fmt: skip
    rabbitmq_host: str = _setting(
        "", "RABBITMQ_HOST", "RABBITMQ_HOST",
        why="The broker from which jobs are taken (docs/rabbitmq.md); of a cluster all hosts: a,b:5673. Empty: none.",
    )  # fmt: skip
    rabbitmq_port: int = _setting(
        0, "RABBITMQ_PORT", "RABBITMQ_PORT", ge=0, le=65_535, why="Of hosts that name none. 0: 5672, or 5671 with TLS."
    )
    rabbitmq_user: str = _setting("guest", "RABBITMQ_USER", "RABBITMQ_USER", why="The broker's own default.")
    rabbitmq_pass: SecretStr = _setting(
        SecretStr(""), "RABBITMQ_PASS", "RABBITMQ_PASS",
        why="Empty: the broker's default, which it takes from its own machine alone. One that was changed needs a restart here.",
    )  # fmt: skip
    rabbitmq_vhost: str = _setting("/", "RABBITMQ_VHOST", why="The virtual host in which the queues are.")
    rabbitmq_tls: bool = _setting(
        False, "RABBITMQ_TLS", why="Connect by TLS; the broker's certificate has to be for RABBITMQ_HOST."
    )
    rabbitmq_ca_file: Path | None = _setting(
        None, "RABBITMQ_CA_FILE", why="A PEM file of the authority that signed it, instead of the system's."
    )
    rabbitmq_heartbeat: int = _setting(
        10, "RABBITMQ_HEARTBEAT", ge=1, le=600,
        why="Seconds. A broker that fell silent is given up after about twice this and ten more.",
    )  # fmt: skip
    rabbitmq_queue: str = _setting(
        "image_generation", "RABBITMQ_QUEUE", pattern=r"^[A-Za-z0-9._-]{1,200}$",
        why="Where jobs come from. Refused messages go to QUEUE.dead, retries wait in QUEUE.delay.MILLISECONDS.",
    )  # fmt: skip
    rabbitmq_owner: str = _setting(
        "backend", "RABBITMQ_OWNER",
        why="Who owns jobs that come this way: with a token for this name they can be watched over TCP.",
    )  # fmt: skip
    rabbitmq_prefetch: int = _setting(
        10, "RABBITMQ_PREFETCH", "MAX_CONCURRENT_GENERATIONS", ge=1, le=1000,
        why="Messages taken and not yet ended: as many jobs are under way from here, in one batch where they fit.",
    )  # fmt: skip
    dispatch_again_after: float = _setting(
        60.0, "DISPATCH_AGAIN_AFTER", ge=1, le=86_400,
        why="A gateway's job that no worker has taken for so long, while nothing waits in atelier.jobs, is dispatched again.",
    )  # fmt: skip
    max_message_bytes: int = _setting(
        2 << 20, "MAX_MESSAGE_BYTES", ge=1024, le=1 << 27,
        why="Largest message that is read: an init image and a signature, in base64, fit. Beyond, it is refused unread.",
    )  # fmt: skip

    # Models and the engine
    models: Annotated[dict[str, str], NoDecode] = _setting(
        {}, "MODELS",
        why="name=source,name=source: diffusers folders, .safetensors files or hub ids. The first is the default.",
    )  # fmt: skip
    model_id: str = _setting(
        "", "MODEL_ID", "MODEL_ID",
        why="One model by its source, before all of ATELIER_MODELS. With neither: what lies in ./model, else the embedded one.",
    )  # fmt: skip
    adapters_dir: Path | None = _setting(
        None, "ADAPTERS_DIR",
        why="A folder of adapters for every model, beside each model's own `adapters/` (docs/adapters.md).",
    )  # fmt: skip
    adapter_slots: int = _setting(
        64, "ADAPTER_SLOTS", ge=1, le=4096,
        why="Room in memory for adapters, for each model: a slot holds eight ranks, 10 MB of SD 1.5 in float16, 40 of SDXL.",
    )  # fmt: skip
    max_adapter_bytes: int = _setting(
        200_000_000, "MAX_ADAPTER_BYTES", ge=1000,
        why="Of one adapter's files. kohya's usual layers of SD 1.5 at rank 128 have 151 MB; it is read whole.",
    )  # fmt: skip
    max_adapter_rank: int = _setting(
        128, "MAX_ADAPTER_RANK", ge=1, le=1024,
        why="Beyond, an adapter is hardly smaller than what it changes; most have 4 to 64.",
    )  # fmt: skip
    device: str = _setting(
        "auto", "DEVICE", "DEVICE", pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        why="auto takes the first CUDA device, or the CPU where there is none.",
    )  # fmt: skip
    devices: Annotated[tuple[str, ...], NoDecode] = _setting(
        (), "DEVICES",
        why="Several devices, each with an engine of its own: cuda:0,cuda:1. They share one queue. None: the one of DEVICE.",
    )  # fmt: skip
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = _setting(
        "auto", "DTYPE", "DTYPE", why="auto is float16 on CUDA and float32 on the CPU."
    )
    max_batch: int = _setting(
        16, "MAX_BATCH", "MAX_CONCURRENT_GENERATIONS", "MAX_CONCURRENCY", ge=1, le=256,
        why="Pictures denoised together. More share one pass, and each step then takes longer.",
    )  # fmt: skip
    max_step_seconds: float = _setting(
        1.0, "MAX_STEP_SECONDS", gt=0,
        why="Whoever joins or cancels waits for a step. A batch whose step takes longer only grows while that pays.",
    )  # fmt: skip
    parking: bool = _setting(
        True, "PARKING",
        why="A job of higher priority may take the place of one that is being painted, which goes on later.",
    )  # fmt: skip
    max_parked: int = _setting(
        32, "MAX_PARKED", ge=0, le=10_000,
        why="Pictures parked at a time; each keeps its latents and adapters in the device's memory.",
    )  # fmt: skip
    max_passed_over: int = _setting(
        9, "MAX_PASSED_OVER", ge=1, le=10_000,
        why="So many seats in a row may go past a lower priority that waits; the next is its. No priority starves.",
    )  # fmt: skip
    torch_threads: int = _setting(
        0, "TORCH_THREADS", ge=0, le=1024,
        why="The engine's CPU threads, at most: fewer are taken where that is quicker, which is tried. 0: one a core.",
    )  # fmt: skip

    memory_limit: ByteSize = _setting(
        0, "MEMORY_LIMIT", validate_default=True,
        why="Of each device: 6GiB, 500MB. Models are unloaded and batches made smaller to keep to it. 0: all but the reserve.",
    )  # fmt: skip
    memory_reserve: ByteSize = _setting(
        "1GiB", "MEMORY_RESERVE", validate_default=True,
        why="Left free of a device where there is no MEMORY_LIMIT: the driver and the libraries take 0.5 to 0.8 GB beside.",
    )  # fmt: skip
    idle_unload: float = _setting(
        0.0, "IDLE_UNLOAD", ge=0,
        why="A model that nobody used for so long is unloaded; its next job waits for it. 0: only when another needs the room.",
    )  # fmt: skip

    weights: Literal["same", "int8"] = _setting(
        "same", "WEIGHTS",
        why="int8: the linear layers' weights in a quarter of float32's room, half of float16's (docs/small-cards.md).",
    )  # fmt: skip
    attention: Literal["sdpa", "sliced"] = _setting(
        "sdpa", "ATTENTION",
        why="sdpa is torch's fused attention, which takes little memory. sliced: head by head, where a device lacks it.",
    )  # fmt: skip
    vae_slicing: bool = _setting(
        False, "VAE_SLICING", why="Decode picture by picture: the memory of one, the time of all."
    )
    vae_tiling: bool = _setting(
        False, "VAE_TILING", why="Decode large pictures in overlapping tiles. Colours may shift a little between them."
    )
    cpu_offload: Literal["none", "encoders", "layers"] = _setting(
        "none", "CPU_OFFLOAD",
        why="encoders: text encoders and VAE are on the GPU while they run only. layers: the UNet layer by layer too, slowly.",
    )  # fmt: skip

    # Stopping
    finishing_threads: int = _setting(
        2, "FINISHING_THREADS", ge=1, le=64, why="Threads that sign, encode and store pictures."
    )
    drain_timeout: float = _setting(
        30.0, "DRAIN_TIMEOUT", ge=0,
        why="After a stop signal, running jobs get so long; what is left then is taken up by the next start.",
    )  # fmt: skip

    # Logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = _setting(
        "INFO", "LOG_LEVEL", "LOG_LEVEL", why="DEBUG adds every connection and every batch change."
    )
    log_format: Literal["console", "json"] = _setting("console", "LOG_FORMAT", why="json: one object a line.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over `.env`; tests give values by argument."""
        return init_settings, env_settings, dotenv_settings

    @field_validator("profile")
    @classmethod
    def _a_profile(cls, value: str) -> str:
        return known_profile(value)

    @field_validator("tcp_listen")
    @classmethod
    def _known_endpoint(cls, value: str) -> str:
        if not value.startswith(_LISTEN_KINDS):
            raise ValueError(f"must begin with one of {', '.join(_LISTEN_KINDS)}")
        return value

    @field_validator("rabbitmq_host")
    @classmethod
    def _broker_hosts(cls, value: str) -> str:
        hosts_of(value, 0)
        return value

    @field_validator("rabbitmq_owner")
    @classmethod
    def _an_owner(cls, value: str) -> str:
        if not _OWNER.fullmatch(value):
            raise ValueError("must be 1 to 64 letters, digits, dots, _ and -")
        return value

    @field_validator("tokens", mode="before")
    @classmethod
    def _split_tokens(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        tokens: dict[str, str] = {}
        for position, pair in enumerate(filter(None, (part.strip() for part in value.split(","))), start=1):
            owner, colon, token = pair.partition(":")
            if not colon or not _OWNER.fullmatch(owner):  # the text must not show a token
                raise ValueError(f"entry {position} must be owner:token, the owner of letters, digits, dot, _ and -")
            if len(token) < 16:  # nor the owner, which is the token where someone swapped the two
                raise ValueError(f"entry {position} must have a token of 16 characters or more")
            if owner in tokens or token in tokens.values():
                raise ValueError(f"entry {position} repeats an owner or a token")
            tokens[owner] = token
        return tokens

    @field_validator("retry_delays", mode="before")
    @classmethod
    def _split_delays(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("retry_delays")
    @classmethod
    def _delays(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(value) > 10 or not all(0 <= delay <= 86_400 for delay in value):
            raise ValueError("must be at most 10 numbers of seconds, each from 0 to 86400")
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _split_models(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        models: dict[str, str] = {}
        for pair in filter(None, (part.strip() for part in value.split(","))):
            name, equals, source = pair.partition("=")
            if not equals or not source or not _MODEL_NAME.fullmatch(name):
                raise ValueError(f"{pair!r} must be name=source")
            if name in models:
                raise ValueError(f"{name} stands twice")
            models[name] = source
        return models

    @field_validator("devices", mode="before")
    @classmethod
    def _split_devices(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        devices = tuple(filter(None, (part.strip() for part in value.split(","))))
        for device in devices:
            if not re.fullmatch(r"cpu|cuda:\d+", device):
                raise ValueError(f"{device[:32]!r} is neither cpu nor cuda:NUMBER")
            if device != "cpu" and devices.count(device) > 1:
                raise ValueError(f"{device} stands twice; two engines on one device only share its time")
        return devices

    @field_validator("default_width", "default_height")
    @classmethod
    def _a_size(cls, value: int | None) -> int | None:
        if value is not None and (value < 64 or value % 8):
            raise ValueError("must be 64 or more, in steps of 8")
        return value

    @field_validator("default_solver")
    @classmethod
    def _a_solver(cls, value: str) -> str:
        return known_word(value)

    @model_validator(mode="after")
    def _solver_and_karras_agree(self) -> Self:
        try:
            self.solver()
        except ValueError as error:
            raise ValueError(f"ATELIER_DEFAULT_SOLVER, SCHEDULER_TYPE: {self.default_solver}: {error}") from error
        return self

    @model_validator(mode="after")
    def _measures_go_together(self) -> Self:
        if self.weights == "int8" and self.cpu_offload == "layers":
            raise ValueError("ATELIER_WEIGHTS=int8 cannot be used with ATELIER_CPU_OFFLOAD=layers")
        return self

    @model_validator(mode="after")
    def _roles_need_a_broker(self) -> Self:
        if self.role != "all" and not self.rabbitmq_host:
            raise ValueError(f"ATELIER_ROLE={self.role} needs RABBITMQ_HOST")
        return self

    @model_validator(mode="after")
    def _chunks_fit_frames(self) -> Self:
        if self.chunk_bytes + CHUNK_ENVELOPE > self.max_frame_bytes:
            raise ValueError(f"ATELIER_CHUNK_BYTES must be at least {CHUNK_ENVELOPE} less than ATELIER_MAX_FRAME_BYTES")
        return self

    @model_validator(mode="after")
    def _init_images_fit_frames(self) -> Self:
        if self.max_init_image_bytes >= self.max_frame_bytes:
            raise ValueError("ATELIER_MAX_INIT_IMAGE_BYTES must be less than ATELIER_MAX_FRAME_BYTES")
        return self

    @model_validator(mode="after")
    def _an_init_image_fits(self) -> Self:
        if self.max_pending_init_image_bytes < 3 * self.max_width * self.max_height:
            raise ValueError(
                "ATELIER_MAX_PENDING_INIT_IMAGE_BYTES must hold an image of MAX_WIDTH × MAX_HEIGHT, "
                f"{3 * self.max_width * self.max_height} bytes"
            )
        return self

    @model_validator(mode="after")
    def _a_signature_image_fits(self) -> Self:
        if self.max_pending_signature_image_bytes < self.max_signature_image_bytes:
            raise ValueError(
                "ATELIER_MAX_PENDING_SIGNATURE_IMAGE_BYTES must be at least ATELIER_MAX_SIGNATURE_IMAGE_BYTES"
            )
        return self

    def rabbitmq_hosts(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every node of the broker."""
        return hosts_of(self.rabbitmq_host, self.rabbitmq_port or (AMQPS_PORT if self.rabbitmq_tls else AMQP_PORT))

    def engine_devices(self) -> tuple[str, ...]:
        """The devices, each of which has an engine."""
        return self.devices or (self.device,)

    def solver(self) -> str:
        """The solver of requests that name none; "" for each model's own first."""
        return solver_of(self.default_solver, self.use_karras)

    def model_sources(self) -> dict[str, str]:
        """Name → source, the default first. Where none is named: what lies in the folder `model/`, else the embedded model."""
        chosen = {self.model_id: self.model_id} if self.model_id else {}
        chosen.update(self.models)
        return chosen or local_model() or {"demo": str(DEMO_MODEL)}


def environment_names(field: str) -> tuple[str, ...]:
    """The variables that set `field`, ours first."""
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return tuple(dict.fromkeys(str(choice) for choice in alias.choices))


def load_settings(**given: Any) -> Settings:
    """Read the settings; `given` values (by field name) win over the environment. Raises SettingsError."""
    try:
        environment = {**dotenv_values(".env", encoding="utf-8"), **os.environ}
    except UnicodeDecodeError as error:
        raise SettingsError(f".env: it is not UTF-8 text: {error.reason} at byte {error.start}") from None
    _refuse_unknown(environment)
    try:
        values = {environment_names(field)[0]: value for field, value in given.items()}
        return Settings(**_of_profile(given, environment), **values)
    except ValidationError as error:
        problems = error.errors(include_input=False)  # the input may be a secret
        raise SettingsError("\n".join(_explain(problem, environment) for problem in problems)) from None


def _of_profile(given: Mapping[str, Any], environment: Mapping[str, str | None]) -> dict[str, Any]:
    """What the profile sets of the settings that nothing else does, under whichever name."""
    profile = read_profile(given.get("profile") or environment.get(environment_names("profile")[0]) or "")
    names = {field: environment_names(field) for field in Settings.model_fields}
    told = {field for field in names if field in given or any(environment.get(name) for name in names[field])}
    others = {name for field in names if field not in told for name in names[field]}
    return {name: value for name, value in profile.items() if name in others}


def _refuse_unknown(environment: Mapping[str, str | None]) -> None:
    known = {name for field in Settings.model_fields for name in environment_names(field)} | CLIENT_NAMES
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(
            "\n".join(f"{name}: no such setting (docs/configuration.md lists them)" for name in unknown)
        )


def _explain(problem: Any, environment: Mapping[str, str | None]) -> str:
    """One of pydantic's error dictionaries as text that names the variable as the operator wrote it."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:  # of several settings together; the message names them
        return message
    place = str(problem["loc"][0])
    names = next((n for f in Settings.model_fields if place in (n := environment_names(f))), (place,))
    written = next((name for name in names if environment.get(name)), names[0])
    return f"{written}: {message}"
