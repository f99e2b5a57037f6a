"""The ways in that bots take: each door's own dialect behind one small interface."""
