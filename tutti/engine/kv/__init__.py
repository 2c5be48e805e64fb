"""Who holds which block of the KV cache: allocation, sharing and prefix hits. No arithmetic on keys or values."""
