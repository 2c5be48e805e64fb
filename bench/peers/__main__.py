"""`python -m bench.peers` is `python -m bench.peers.compare`."""

from bench.peers.compare import main

main()
