"""The embedded model: its weights (demo/), how they are made (training/), how they are judged (check)."""
