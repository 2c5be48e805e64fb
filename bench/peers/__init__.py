"""Paired comparison with other inference systems on the same random-weight checkpoints."""
