"""What a model is called by those who say owner/name and version, as Replicate's clients do.

demo                          the name on its card, and of the settings: what Atelier itself says
atelier/demo                  its full name; one that has an owner already (stabilityai/sdxl) keeps it
3b4c…, 64 hex digits          its version: follows from the full name alone, so that it is the same on every node and after every
                              restart, and does not change when an operator puts other weights under the name
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

from server.errors import Code, Refusal

OWNER = "atelier"
_OWNED = re.compile(r"[^/:]+/[^/:]+")


@lru_cache(256)
def full_name(model: str) -> str:
    """owner/name of a model; a path's last part where it is one."""
    if _OWNED.fullmatch(model):
        return model
    return f"{OWNER}/{model.rstrip('/').rpartition('/')[2].replace(':', '-') or 'model'}"


@lru_cache(256)
def version_of(model: str) -> str:
    """The id of the one version that a model has."""
    return hashlib.sha256(f"atelier model {full_name(model)}".encode()).hexdigest()


def find_model(models: Iterable[str], wanted: str, field: str) -> str:
    """The model that is meant by its name, full name, version, or full name:version.

    Raises Refusal (MODEL_NOT_FOUND) that names `field`.
    """
    known = tuple(models)
    for model in known:
        full, version = full_name(model), version_of(model)
        if wanted in (model, full, version, f"{full}:{version}"):
            return model
    limit = f"one of {', '.join(map(full_name, known))}"
    shown = wanted if len(wanted) <= 60 else f"{wanted[:57]}..."
    raise Refusal(
        Code.MODEL_NOT_FOUND, f"{field}: model {shown!r} is not here; there is {limit}", field=field, limit=limit
    )
