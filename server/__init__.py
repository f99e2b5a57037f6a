"""The server: commands, jobs and the doors they come through."""

__version__ = "0.1.0"
