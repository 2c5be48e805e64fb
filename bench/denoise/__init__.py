"""Drawing, beside diffusers. See `__main__`."""
