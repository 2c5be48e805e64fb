"""llama.cpp's logits, computed in the peer's environment: `python peer.py FILE TOKEN,TOKEN,... OUT.npy`.

The library is the one that the package `xllamacpp` carries; its C interface (llama.h) is called. Parameters are taken
as the library fills them in and passed on as bytes, so that their fields need not be known here.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import xllamacpp


class Parameters(ctypes.Structure):
    """llama_model_params or llama_context_params: no larger than this, and passed in memory."""

    _fields_ = [("bytes", ctypes.c_uint8 * 1024)]


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


def library() -> ctypes.CDLL:
    """The library, with the types of what is called."""
    (file,) = Path(xllamacpp.__file__).parent.glob("xllamacpp*.so")
    lib = ctypes.CDLL(str(file))
    for name, result, arguments in (
        ("llama_model_default_params", Parameters, []),
        ("llama_context_default_params", Parameters, []),
        ("llama_model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, Parameters]),
        ("llama_init_from_model", ctypes.c_void_p, [ctypes.c_void_p, Parameters]),
        ("llama_batch_init", Batch, [ctypes.c_int32] * 3),
        ("llama_decode", ctypes.c_int32, [ctypes.c_void_p, Batch]),
        ("llama_get_logits", ctypes.POINTER(ctypes.c_float), [ctypes.c_void_p]),
        ("llama_model_get_vocab", ctypes.c_void_p, [ctypes.c_void_p]),
        ("llama_vocab_n_tokens", ctypes.c_int32, [ctypes.c_void_p]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def logits(file: str, tokens: list[int]) -> np.ndarray:
    """float32 [tokens, vocabulary]. Raises RuntimeError when llama.cpp cannot."""
    lib = library()
    model = lib.llama_model_load_from_file(file.encode(), lib.llama_model_default_params())
    context = model and lib.llama_init_from_model(model, lib.llama_context_default_params())
    if not context:
        raise RuntimeError(f"llama.cpp does not load {file}")
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for place, token in enumerate(tokens):
        batch.token[place], batch.pos[place], batch.n_seq_id[place], batch.logits[place] = token, place, 1, 1
        batch.seq_id[place][0] = 0
    if lib.llama_decode(context, batch) != 0:
        raise RuntimeError(f"llama.cpp does not compute {file}")
    width = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    return np.ctypeslib.as_array(lib.llama_get_logits(context), (len(tokens), width)).copy()


if __name__ == "__main__":
    np.save(sys.argv[3], logits(sys.argv[1], [int(token) for token in sys.argv[2].split(",")]))
