"""pico: the recipe of the model in the box.

A generated toy world in English and Chinese (`world`), a tokenizer made for it (`tokenizer`), a Qwen2-architecture
language model of about two and a half million parameters (`model`), its training (`train`) and its examination on
prompts that were held out (`evaluate`). What it makes is shipped in `tutti/assets/pico`. Nothing in `tutti` imports
this package.
"""
