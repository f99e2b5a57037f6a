"""The pictures of signatures, which messages name by their keys in the storage."""

from __future__ import annotations

from server.errors import Code, Refusal
from server.interfaces import ArtifactStore

MAX_KEY = 1000  # characters; object stores take 1024 bytes


class StoredSignatures:
    """Reads them, at most `max_bytes` of each."""

    def __init__(self, store: ArtifactStore, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes

    async def read(self, key: str) -> bytes:
        """The whole picture. Raises Refusal for a key that can be none's, is nobody's, or holds too much; else OSError."""
        try:
            if len(key) > MAX_KEY:
                raise ValueError(key)
            picture = await self._store.read(key, 0, self._max_bytes + 1)
        except ValueError:
            raise Refusal.invalid("signature", "the key of a picture in the storage", key) from None
        except FileNotFoundError:
            raise Refusal.invalid("signature", "the key of a picture that is in the storage", key) from None
        if len(picture) > self._max_bytes:
            text = f"signature: the picture has more than {self._max_bytes} bytes"
            raise Refusal(Code.INVALID_PARAMETER, text, field="signature", limit=f"at most {self._max_bytes} bytes")
        return picture
