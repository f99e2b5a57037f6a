"""The settings as the engine, admission and the TCP door take them."""

from __future__ import annotations

from ai.types import EngineSettings
from config import Settings
from proto import atelier_pb2 as pb
from server.commands import MAX_IMAGES
from server.door_parts import DoorLimits
from server.jobs.admission import Limits


def engine_settings(settings: Settings, device: str) -> EngineSettings:
    """One device's part of the settings."""
    return EngineSettings(
        device=device,
        dtype=settings.dtype,
        max_batch=settings.max_batch,
        max_step_seconds=settings.max_step_seconds,
        max_passed_over=settings.max_passed_over,
        parking=settings.parking,
        max_parked=settings.max_parked,
        max_texts=settings.max_texts,
        torch_threads=settings.torch_threads,
        adapter_slots=settings.adapter_slots,
        max_adapter_bytes=settings.max_adapter_bytes,
        max_adapter_rank=settings.max_adapter_rank,
        memory_limit=settings.memory_limit,
        memory_reserve=settings.memory_reserve,
        idle_unload=settings.idle_unload,
        weights=settings.weights,
        attention=settings.attention,
        vae_slicing=settings.vae_slicing,
        vae_tiling=settings.vae_tiling,
        cpu_offload=settings.cpu_offload,
    )


def job_limits(settings: Settings) -> Limits:
    """What a request may ask for, and what stands where it says nothing."""
    return Limits(
        max_prompt_characters=settings.max_prompt_characters,
        max_width=settings.max_width,
        max_height=settings.max_height,
        max_num_inference_steps=settings.max_num_inference_steps,
        max_signature_image_bytes=settings.max_signature_image_bytes,
        max_init_image_bytes=settings.max_init_image_bytes,
        max_init_image_pixels=settings.max_init_image_pixels,
        default_width=settings.default_width,
        default_height=settings.default_height,
        default_num_inference_steps=settings.default_num_inference_steps,
        default_guidance_scale=settings.default_guidance_scale,
        use_refiner=settings.use_refiner,
        default_refiner_strength=settings.default_refiner_strength,
    )


def door_limits(settings: Settings) -> DoorLimits:
    """The TCP door's part of the settings."""
    return DoorLimits(
        handshake_frame_bytes=settings.handshake_frame_bytes,
        max_frame_bytes=settings.max_frame_bytes,
        chunk_bytes=settings.chunk_bytes,
        handshake_timeout=settings.handshake_timeout,
        frame_timeout=settings.frame_timeout,
        idle_timeout=settings.idle_timeout,
        slow_reader_timeout=settings.slow_reader_timeout,
        max_requests=settings.max_requests_per_connection,
        told=pb.Limits(
            max_frame_bytes=settings.max_frame_bytes,
            max_chunk_bytes=settings.chunk_bytes,
            max_prompt_characters=settings.max_prompt_characters,
            max_width=settings.max_width,
            max_height=settings.max_height,
            max_num_inference_steps=settings.max_num_inference_steps,
            max_num_images=MAX_IMAGES,
            max_pending_jobs_per_owner=settings.max_pending_jobs_per_owner,
            max_signature_image_bytes=settings.max_signature_image_bytes,
            max_init_image_bytes=settings.max_init_image_bytes,
            max_init_image_pixels=settings.max_init_image_pixels,
            idle_timeout_seconds=settings.idle_timeout,
        ),
    )
