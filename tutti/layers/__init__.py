"""Layers: what models are made of. Devices, files and models' names do not occur here."""
