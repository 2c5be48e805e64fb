"""The engine: one loop per device, three kinds of stage, KV cache, memory plan, and the processes they run in."""
