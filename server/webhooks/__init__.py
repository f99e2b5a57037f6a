"""Telling others of a job by HTTP: what is told, and how it gets there."""
