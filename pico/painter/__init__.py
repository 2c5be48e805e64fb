"""How pico draws: a small VAE and a Z-Image transformer, in diffusers' format, conditioned on the thinker's own states."""
