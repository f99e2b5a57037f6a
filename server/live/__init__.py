"""Live sessions: frames in, a stream model's answer to the newest of each session, tick by tick (docs/realtime.md)."""
