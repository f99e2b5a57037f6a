"""From pixels to stored pictures: sign, encode, hash, store. Nothing of it happens on the reactor thread."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import structlog
from PIL import Image

from ai.types import Finished, GenerationRequest, Picture
from server.adapter_names import shown_name
from server.errors import Code, JobFailure
from server.events import Artifact
from server.interfaces import ArtifactStore, Pool
from server.job import Job
from server.model_names import shown
from watermark import encode_png, sign

log = structlog.get_logger("atelier.jobs")

CONTENT_TYPE = "image/png"
_OURS = "jobs/"


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A picture ready to store."""

    png: bytes
    sha256: str
    warnings: tuple[str, ...]


class Finisher:
    """Signs and stores what the engine painted."""

    def __init__(self, store: ArtifactStore, pool: Pool) -> None:
        self._store = store
        self._pool = pool

    async def finish(self, job: Job, finished: Finished) -> tuple[tuple[Artifact, ...], tuple[str, ...]]:
        """The job's artifacts, stored, and all warnings. Raises JobFailure (SIGNATURE_FAILED, STORAGE_FAILED)."""
        artifacts: list[Artifact] = []
        warnings = list(finished.warnings)
        try:
            await self._finish(job, finished, artifacts, warnings)
        except Exception:
            await self.discard(artifacts)
            raise
        return tuple(artifacts), tuple(dict.fromkeys(warnings))

    async def copied(self, job: Job, earlier: Sequence[Artifact]) -> tuple[Artifact, ...]:
        """Another job's pictures, signed already, as this one's own: under its keys, and naming it.

        Raises OSError where one cannot be read, ValueError for one that is not what was stored, JobFailure (STORAGE_FAILED).
        """
        artifacts: list[Artifact] = []
        try:
            for one in earlier:
                picture, encoded = await self._pool.run(_encoded_again, job, one, await self._read(one))
                artifacts.append(await self._keep(job, one.image_index, picture, encoded))
        except BaseException:
            await self.discard(artifacts)
            raise
        return tuple(artifacts)

    async def _read(self, artifact: Artifact) -> bytes:
        read = bytearray()
        while len(read) < artifact.size:
            piece = await self._store.read(artifact.key, len(read), artifact.size - len(read))
            if not piece:
                raise ValueError(f"{artifact.key}: ends after {len(read)} of {artifact.size} bytes")
            read += piece
        return bytes(read)

    async def discard(self, artifacts: Sequence[Artifact]) -> None:
        """Delete our pictures of a job that did not succeed after all. One that resists is left for the cleaning."""
        for artifact in artifacts:
            if not is_ours(artifact.key):
                continue
            try:
                await self._store.delete(artifact.key)
            except OSError as error:
                log.warning("picture.not_deleted", key=artifact.key, reason=error.strerror or str(error))

    async def _finish(self, job: Job, finished: Finished, artifacts: list[Artifact], warnings: list[str]) -> None:
        for index, picture in enumerate(finished.pictures):
            try:
                encoded = await self._pool.run(_sign_and_encode, job, picture, index)
            except Exception as error:
                if job.signature is None:  # then it is no signature's fault, but ours
                    raise
                raise JobFailure(Code.SIGNATURE_FAILED, f"picture {index} could not be signed: {error}") from error
            warnings.extend(encoded.warnings)
            artifacts.append(await self._keep(job, index, picture, encoded))

    async def preview(self, width: int, height: int, rgb: bytes) -> bytes:
        """A preview as PNG."""
        return await self._pool.run(encode_preview, width, height, rgb)

    async def _keep(self, job: Job, index: int, picture: Picture, encoded: _Encoded) -> Artifact:
        key = artifact_key(job, index)
        try:
            await self._store.put(key, encoded.png, CONTENT_TYPE, encoded.sha256)
            url = await self._store.address(key)
        except OSError as error:
            raise JobFailure(
                Code.STORAGE_FAILED, f"picture {index} could not be stored: {error.strerror or error}"
            ) from error
        return Artifact(
            image_index=index,
            key=key,
            url=url,
            size=len(encoded.png),
            sha256=encoded.sha256,
            content_type=CONTENT_TYPE,
            width=picture.width,
            height=picture.height,
            seed=picture.seed,
        )


def artifact_key(job: Job, index: int) -> str:
    """Where image `index` of a job is stored: by the door's own rule, or the server's; nothing a caller chose is in it.

    The server's has a folder for each hour (UTC): a folder for each job would be made, and waited for, with each picture, and one
    for all would hold millions.
    """
    if not job.object_key:
        hour = time.strftime("%Y-%m-%d-%H", time.gmtime(job.created_at))
        return f"{_OURS}{hour}/{job.id}-{index}.png"
    name, dot, ending = job.object_key.rpartition(".")
    return f"{name}-{index}{dot}{ending}" if index else job.object_key


def keys_ever(job: Job, index: int) -> tuple[str, ...]:
    """Where an image may lie that no record names: also where older versions stored it, in a folder for each job."""
    key = artifact_key(job, index)
    return (key,) if job.object_key else (key, f"{_OURS}{job.id}/{index}.png")


def is_ours(key: str) -> bool:
    """Whether a picture is the server's to delete. One under a backend's own name is the backend's from the moment it is there:
    another job may have been asked for it before, and its address sold."""
    return key.startswith(_OURS)


def _sign_and_encode(job: Job, picture: Picture, index: int) -> _Encoded:
    image = Image.frombytes("RGB", (picture.width, picture.height), picture.rgb)
    warnings: tuple[str, ...] = ()
    if job.signature is not None:
        image, warnings = sign(image, job.signature)
    png = encode_png(image, _metadata(job, picture, index))
    return _Encoded(png, hashlib.sha256(png).hexdigest(), tuple(warnings))


def _encoded_again(job: Job, artifact: Artifact, png: bytes) -> tuple[Picture, _Encoded]:
    """The same pixels, which say that they are this job's."""
    if hashlib.sha256(png).hexdigest() != artifact.sha256:
        raise ValueError(f"{artifact.key}: is not what was stored")
    with Image.open(BytesIO(png), formats=["PNG"]) as stored:
        image = stored.convert("RGB")
    picture = Picture(artifact.seed, image.width, image.height, b"")
    again = encode_png(image, _metadata(job, picture, artifact.image_index))
    return picture, _Encoded(again, hashlib.sha256(again).hexdigest(), ())


def encode_preview(width: int, height: int, rgb: bytes) -> bytes:
    """A preview's pixels as PNG."""
    return encode_png(Image.frombytes("RGB", (width, height), rgb), {})


def _metadata(job: Job, picture: Picture, index: int) -> dict[str, str]:
    """What a picture says of itself, as PNG text chunks."""
    request = job.request
    if not isinstance(request, GenerationRequest):
        artist = job.signature.artist if job.signature else ""
        return {"job_id": job.id, "image_index": str(index), "model": request.model, "artist": artist}
    return {
        "job_id": job.id,
        "image_index": str(index),
        "model": shown(request.model),
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": str(picture.seed),
        "steps": str(request.num_inference_steps),
        "guidance_scale": f"{request.guidance_scale:g}",
        "solver": request.solver,
        "strength": f"{request.strength:g}" if request.strength else "",
        "size": f"{picture.width}x{picture.height}",
        "adapters": ", ".join(f"{shown_name(use.shown)}:{use.scale:.12g}" for use in request.adapters),
        "artist": job.signature.artist if job.signature else "",
    }
