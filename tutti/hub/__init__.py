"""The hub: from a model's name to its files on this machine.

`resolve` knows the kinds of names (a packaged model, a directory, a Hugging Face id) and says what was tried;
`huggingface` downloads. Nothing here reads weights or knows engines.
"""

from tutti.hub.huggingface import cache_folder
from tutti.hub.resolve import PACKAGED, outline_model, resolve_model

__all__ = ["PACKAGED", "cache_folder", "outline_model", "resolve_model"]
