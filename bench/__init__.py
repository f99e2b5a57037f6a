"""Side-by-side measurements: both sides in one run, in turns, every answer checked; figures are medians with their spread."""
