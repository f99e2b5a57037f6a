"""Signatures that come with requests: their pictures small enough, counted, and sound before there is a job."""

from __future__ import annotations

from server.errors import Code, Refusal
from server.interfaces import Pool
from server.jobs.places import Places
from watermark import ImageMark, Signature, SignatureError
from watermark.signing import decoded


class Signatures:
    """`max_image_bytes` is what one picture may have."""

    def __init__(self, places: Places, pool: Pool, max_image_bytes: int) -> None:
        self._places = places
        self._pool = pool
        self._max_image_bytes = max_image_bytes

    def check(self, signature: Signature | None) -> None:
        """Raise Refusal for a picture that is too large."""
        png = picture_of(signature)
        if len(png) > self._max_image_bytes:
            limit = f"at most {self._max_image_bytes} bytes"
            text = f"signature.image has {len(png)} bytes; at most {self._max_image_bytes} are taken"
            raise Refusal(Code.INVALID_PARAMETER, text, field="signature.image", limit=limit)

    async def take(self, job_id: str, signature: Signature | None) -> None:
        """Room for its picture, which is decoded once now, in a thread, rather than found after the painting not to be one.

        Raises Refusal.
        """
        if signature is None or not isinstance(signature.mark, ImageMark):
            return
        self._places.take_signature(job_id, len(signature.mark.png))
        try:
            await self._pool.run(decoded, signature.mark)
        except SignatureError as error:
            field = f"signature.{error.field}"
            raise Refusal(Code.INVALID_PARAMETER, error.message, field=field, limit=error.limit) from error


def picture_of(signature: Signature | None) -> bytes:
    """b"" where it has none."""
    mark = signature.mark if signature is not None else None
    return mark.png if isinstance(mark, ImageMark) else b""
