"""The Python doors: `LLM` for batches, in the caller's thread, with vLLM's names; `AsyncLLM` for streams of events.

Import them from `tutti`. `batch` imports torch, `stream` does not.
"""

from tutti.settings import calm_threads

calm_threads()  # here, because `batch` is about to import torch
