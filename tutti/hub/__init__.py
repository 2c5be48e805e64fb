"""The hub: from a model's name to its files on this machine.

`resolve` knows the kinds of names (a packaged model, a directory, a model of the store, a Hugging Face id) and says
what was tried; `huggingface` downloads from there. `store` keeps models in Ollama's layout; `pull`, `push` and `create`
fill it and send from it; `modelfile` reads and writes Modelfiles. Nothing here reads weights or knows engines.
"""

from tutti.hub.huggingface import cache_folder
from tutti.hub.resolve import PACKAGED, outline_model, resolve_model, stored_model

__all__ = ["PACKAGED", "cache_folder", "outline_model", "resolve_model", "stored_model"]
