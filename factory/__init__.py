"""Settings to running objects: the one place where everything is built and joined."""
