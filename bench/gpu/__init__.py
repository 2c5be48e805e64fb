"""The workloads on a GPU, whenever one is at hand: `python -m bench.gpu`."""
