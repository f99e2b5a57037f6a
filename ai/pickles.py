"""Which files could run code when they are loaded. Imports nothing."""

from __future__ import annotations

PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle"})
"""Files that torch would unpickle: loading one may run any code its author put there."""
