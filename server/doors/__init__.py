"""The doors beside TCP. Each decodes, dispatches and encodes; none knows a backend, or another door."""
