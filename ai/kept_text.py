"""The keys and values of the prompts, which a UNet's cross attention would make anew at every step. Imports torch.

They hang on the prompts and on the adapters alone: neither changes while the same rows step together. What is kept is what the
layer made, so the picture is the same to the bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ai.lineup import Kept

Forward = Callable[[Tensor], Tensor]

# As diffusers calls them: in each block the second attention is the one that looks at the text.
_OF_THE_TEXT = (".attn2.to_k", ".attn2.to_v")


class _Inside(threading.local):
    """Where the calling thread's forward passes keep what they make: parts of one batch run side by side."""

    kept: Kept | None = None


class KeptText:
    """Those layers of one network."""

    def __init__(self, network: nn.Module) -> None:
        self._inside = _Inside()
        for name, layer in network.named_modules():
            if name.endswith(_OF_THE_TEXT):
                layer.forward = _KeptLayer(name, layer.forward, lambda: self._inside.kept).forward

    @contextmanager
    def within(self, kept: Kept) -> Iterator[None]:
        """In the forward passes inside, the layers keep here what they make, and take it from here."""
        self._inside.kept = kept
        try:
            yield
        finally:
            self._inside.kept = None


class _KeptLayer:
    """Stands in for a layer's `forward`. Another text makes other keys; it is told by the tensor that it is."""

    def __init__(self, name: str, inner: Forward, kept: Callable[[], Kept | None]) -> None:
        self._name = name
        self._kept = kept
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """As the layer's own."""
        kept = self._kept()
        if kept is None:
            return self.inner(x)
        (output,) = kept.once(self._name, lambda: (self.inner(x),), of=x)
        return output


def replace_forward(layer: Any, forward: Forward) -> Forward:
    """Have `forward` compute what a layer does, and whatever is kept of the layer be its output; the forward until now."""
    outermost = getattr(layer.forward, "__self__", None)
    if isinstance(outermost, _KeptLayer):
        until_now, outermost.inner = outermost.inner, forward
    else:
        until_now, layer.forward = layer.forward, forward
    return until_now
