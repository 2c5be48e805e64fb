"""llama.cpp's part of `bench.gguf.speed`, in the peer's environment: `python run_llamacpp.py FILE THREADS`."""

from __future__ import annotations

import ctypes
import json
import sys
import time

from peer import Batch, library

PROMPT, ANSWER, LONG = 32, 64, 512
CONTEXT, BATCH, SEQUENCES = (
    8192,
    512,
    8,
)  # the first four numbers of llama_context_params, two of them the batch


def main() -> None:
    """Warm up, then each work."""
    file, threads = sys.argv[1], int(sys.argv[2])
    lib = library()
    for name in ("llama_set_n_threads", "llama_get_memory", "llama_memory_clear"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.llama_set_n_threads.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]
    lib.llama_get_memory.argtypes = [ctypes.c_void_p]
    lib.llama_memory_clear.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    model = lib.llama_model_load_from_file(file.encode(), lib.llama_model_default_params())
    parameters = lib.llama_context_default_params()
    numbers = ctypes.cast(ctypes.byref(parameters), ctypes.POINTER(ctypes.c_uint32))
    numbers[0], numbers[1], numbers[2], numbers[3] = CONTEXT, BATCH, BATCH, SEQUENCES
    context = model and lib.llama_init_from_model(model, parameters)
    if not context:
        raise RuntimeError(f"llama.cpp does not load {file}")
    lib.llama_set_n_threads(context, threads, threads)
    batch = lib.llama_batch_init(BATCH, 0, 1)

    def step(tokens: list[tuple[int, int, int, bool]]) -> None:
        """(token, position, sequence, whether its logits are wanted) of each."""
        fill(batch, tokens)
        if lib.llama_decode(context, batch) != 0:
            raise RuntimeError(f"llama.cpp does not compute {file}")
        lib.llama_get_logits(context)

    def clear() -> None:
        lib.llama_memory_clear(lib.llama_get_memory(context), True)

    def answers(sequences: int) -> float:
        """Tokens a second of so many answers, behind their prompts."""
        clear()
        for sequence in range(sequences):
            step([(1000 + place % 200, place, sequence, place == PROMPT - 1) for place in range(PROMPT)])
        start = time.perf_counter()
        for place in range(PROMPT, PROMPT + ANSWER - 1):
            step([(1000 + place % 200, place, sequence, True) for sequence in range(sequences)])
        return sequences * (ANSWER - 1) / (time.perf_counter() - start)

    def prompt() -> float:
        clear()
        start = time.perf_counter()
        step([(1000 + place % 200, place, 0, place == LONG - 1) for place in range(LONG)])
        return LONG / (time.perf_counter() - start)

    answers(1)
    print(json.dumps({"one": answers(1), "prompt": max(prompt(), prompt()), "eight": answers(8)}))


def fill(batch: Batch, tokens: list[tuple[int, int, int, bool]]) -> None:
    """A llama_batch of these tokens."""
    batch.n_tokens = len(tokens)
    for place, (token, position, sequence, wanted) in enumerate(tokens):
        batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, position, 1
        batch.seq_id[place][0], batch.logits[place] = sequence, int(wanted)


if __name__ == "__main__":
    main()
