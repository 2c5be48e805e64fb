"""Speed, measured: against peers on the same files (`bench.peers`), against the machine's limits, on a GPU."""
