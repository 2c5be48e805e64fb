"""Models: one folder per family, and what families share. Importing the package imports no torch."""
