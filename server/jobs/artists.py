"""Whose signature a picture gets that asks for none: that of the artist whose style it wears."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ai.types import AdapterUse
from server.errors import Code, Refusal
from watermark import Signature


class Artists:
    """The artists of adapters, by model and adapter: a signature, or what is wrong with the one that was given."""

    def __init__(self, signatures: Mapping[tuple[str, str], Signature | str]) -> None:
        self._signatures = signatures

    def signature(self, model: str, adapters: Sequence[AdapterUse]) -> Signature | None:
        """Of the adapter that acts most among those that have an artist, the first of equals; None where none has one.

        Raises Refusal(ADAPTER_INVALID) where that artist's signature cannot be used: better no picture than an unsigned one.
        """
        strengths: dict[str, float] = defaultdict(float)
        for use in adapters:
            strengths[use.name] += use.scale
        signed = [name for name, strength in strengths.items() if strength and (model, name) in self._signatures]
        if not signed:
            return None
        name = max(signed, key=lambda each: abs(strengths[each]))
        signature = self._signatures[model, name]
        if isinstance(signature, str):
            index = next(number for number, use in enumerate(adapters) if use.name == name)
            message = f"adapter {name}: its artist's signature cannot be used: {signature}"
            raise Refusal(Code.ADAPTER_INVALID, message, field=f"adapters[{index}].name")
        return signature
