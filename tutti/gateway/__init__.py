"""Who may call, and which backend answers: keys, limits, the local engine as one backend among others."""
