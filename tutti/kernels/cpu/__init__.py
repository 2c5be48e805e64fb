"""The CPU's implementations: own kernels in C++ (`native`, `ops`, `linear`) and oneDNN through torch (`onednn`)."""
