"""Settings: what an operator may set, with its reason, and nothing else."""

from config.settings import Settings, SettingsError, load_settings

__all__ = ["Settings", "SettingsError", "load_settings"]
