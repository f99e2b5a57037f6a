"""The settings of what may be asked for, and of what stands where nothing is said."""

from __future__ import annotations

from typing import Self

from pydantic import field_validator, model_validator
from pydantic_settings import BaseSettings

from config.fields import setting
from config.solver_words import known_word, solver_of


class JobSettings(BaseSettings):
    """Part of `config.Settings`."""

    max_pending_jobs: int = setting(
        2000, "MAX_PENDING_JOBS", ge=1,
        why="Jobs not yet ended, in all: beyond, a new one would wait longer than anybody does.",
    )  # fmt: skip
    max_pending_jobs_per_owner: int = setting(
        500, "MAX_PENDING_JOBS_PER_OWNER", ge=1,
        why="The same for one owner, so that one cannot fill the queue for all.",
    )  # fmt: skip
    max_prompt_characters: int = setting(
        4000, "MAX_PROMPT_CHARACTERS", ge=1,
        why="Prompt and negative prompt each. 77 tokens are about 400 characters; the rest is cut with a warning.",
    )  # fmt: skip
    max_width: int = setting(1280, "MAX_WIDTH", "MAX_WIDTH", ge=64, le=8192, why="Pixels. Memory grows with the area.")
    max_height: int = setting(1280, "MAX_HEIGHT", "MAX_HEIGHT", ge=64, le=8192, why="Pixels, as MAX_WIDTH.")
    max_num_inference_steps: int = setting(
        100, "MAX_NUM_INFERENCE_STEPS", "MAX_STEPS", ge=1, le=1000,
        why="More steps change nothing that can be seen, and keep a row from others.",
    )  # fmt: skip
    default_width: int | None = setting(None, "DEFAULT_WIDTH", "DEFAULT_WIDTH", why="Instead of the model card's.")
    default_height: int | None = setting(None, "DEFAULT_HEIGHT", "DEFAULT_HEIGHT", why="Instead of the model card's.")
    default_num_inference_steps: int | None = setting(
        None, "DEFAULT_NUM_INFERENCE_STEPS", "DEFAULT_STEPS", ge=1, why="Instead of the model card's."
    )
    default_guidance_scale: float | None = setting(
        None, "DEFAULT_GUIDANCE_SCALE", "DEFAULT_GUIDANCE", ge=0, le=50, why="Instead of the model card's."
    )
    use_refiner: bool = setting(
        True, "USE_REFINER", "USE_REFINER",
        why="Whether a model's refiner makes the last steps of a request that does not say. One without a refiner does without.",
    )  # fmt: skip
    default_refiner_strength: float | None = setting(
        None, "DEFAULT_REFINER_STRENGTH", "DEFAULT_REFINER_STRENGTH", ge=0, le=1,
        why="A refiner's share of the noise schedule, instead of the model card's (1 - refiner_switch, 0.2 by default).",
    )  # fmt: skip
    default_solver: str = setting(
        "", "DEFAULT_SOLVER", "SCHEDULER_TYPE",
        why="Instead of each model's own: a name of docs/solvers.md, or dpm++, which is Karras's unless USE_KARRAS=false.",
    )  # fmt: skip
    use_karras: bool | None = setting(
        None,
        "USE_KARRAS",
        "USE_KARRAS",
        why="Whether dpm++ has Karras's noise levels. Beside another solver true is refused.",
    )
    max_signature_image_bytes: int = setting(
        256 * 1024, "MAX_SIGNATURE_IMAGE_BYTES", ge=1024,
        why="Largest signature image inside a request; a signature of 500 pixels needs a tenth of it.",
    )  # fmt: skip

    max_pending_signature_image_bytes: int = setting(
        256 << 20, "MAX_PENDING_SIGNATURE_IMAGE_BYTES", ge=1,
        why="Signature images of all jobs not yet ended, in memory: 1000 of the largest.",
    )  # fmt: skip

    max_init_image_bytes: int = setting(
        700_000, "MAX_INIT_IMAGE_BYTES", ge=1024,
        why="Largest init image (PNG, JPEG, WebP) inside a request; a good JPEG of 1024 pixels has half. Mind MAX_FRAME_BYTES.",
    )  # fmt: skip
    max_init_image_pixels: int = setting(
        4_194_304, "MAX_INIT_IMAGE_PIXELS", ge=64 * 64, le=64_000_000,
        why="2048 × 2048: decoding takes 4 bytes a pixel. Waiting jobs keep 3 bytes for each pixel of their own size.",
    )  # fmt: skip
    max_pending_init_image_bytes: int = setting(
        1_000_000_000, "MAX_PENDING_INIT_IMAGE_BYTES", ge=1,
        why="Pixels of the init images of all jobs not yet ended, in memory: 3 bytes each, 1,200 images of 512 × 512.",
    )  # fmt: skip

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

    def solver(self) -> str:
        """The solver of requests that name none; "" for each model's own first."""
        return solver_of(self.default_solver, self.use_karras)
