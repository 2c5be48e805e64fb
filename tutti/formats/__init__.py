"""Formats: checkpoints on disk to tensors in the canonical form. Knows files, not layers."""
