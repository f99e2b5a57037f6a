"""Whose signature a picture gets that asks for none: that of the artist whose style it wears."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from ai.types import AdapterUse
from server.adapter_names import is_registered
from server.errors import Code, Refusal
from watermark import Signature


class Artists:
    """The artists of adapters, by model and adapter: a signature, or what is wrong with the one that was given."""

    def __init__(
        self,
        signatures: Mapping[tuple[str, str], Signature | str],
        uploaded: Callable[[str], Signature | None] = lambda name: None,
    ) -> None:
        self._signatures = signatures
        self._uploaded = uploaded  # of an adapter that somebody uploaded, by what a request is recorded with

    def signature(self, model: str, adapters: Sequence[AdapterUse]) -> Signature | None:
        """Of the adapter that acts most among those that have an artist, the first of equals; None where none has one.

        Raises Refusal(ADAPTER_INVALID) where that artist's signature cannot be used: better no picture than an unsigned one.
        """
        strengths: dict[str, float] = defaultdict(float)
        for use in adapters:
            strengths[use.name] += use.scale
        signed = {name: self._of(model, name) for name, strength in strengths.items() if strength}
        names = [name for name, signature in signed.items() if signature is not None]
        if not names:
            return None
        name = max(names, key=lambda each: abs(strengths[each]))
        signature = signed[name]
        if isinstance(signature, str):
            index = next(number for number, use in enumerate(adapters) if use.name == name)
            message = f"adapter {name}: its artist's signature cannot be used: {signature}"
            raise Refusal(Code.ADAPTER_INVALID, message, field=f"adapters[{index}].name")
        return signature

    def _of(self, model: str, name: str) -> Signature | str | None:
        return self._uploaded(name) if is_registered(name) else self._signatures.get((model, name))
