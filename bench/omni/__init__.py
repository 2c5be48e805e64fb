"""Speech, measured beside transformers on the same checkpoint: see `__main__`."""
