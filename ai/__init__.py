"""The engine: one loop per device that denoises all samples together, a step at a time.

Knows no network, no database and no Twisted. `ai.types` and `ai.cards` are plain Python; everything else
under here may import torch, and is imported for the first time on the engine's own thread.
"""
