"""Stream models: torch.export programs that run tick by tick, all sessions in one batch, in a process of their own.

`manifests` and `packing` are plain Python, for the server too; `program`, `batch` and `child` run in the stream process alone.
"""
