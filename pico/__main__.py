"""`python -m pico` trains the model, as `python -m pico.train` does."""

from .train import main

main()
