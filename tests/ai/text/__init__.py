"""Of ai.text."""
