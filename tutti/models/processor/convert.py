"""A tokenizer.json for a checkpoint that has only an older form of tokenizer (SentencePiece, vocab and merges, tekken).

The conversion is transformers' own, run once in a child process, so that the process that serves requests never
imports transformers or torch.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tutti.errors import CheckpointError

OLDER_FILES = ("tokenizer.model", "spiece.model", "tekken.json", "tiktoken.model", "vocab.json", "vocab.txt")

_PROGRAM = """
import sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
sys.stdout.buffer.write(tokenizer.backend_tokenizer.to_str().encode())
"""


def convert_tokenizer(folder: Path, *, limit: float = 300.0) -> str:
    """The text of the tokenizer.json that `folder` lacks, within `limit` seconds.

    Raises CheckpointError, saying what is missing, when there is nothing to convert or the conversion fails.
    """
    found = [name for name in OLDER_FILES if (folder / name).is_file()]
    if not found:
        raise CheckpointError(
            f"{folder} has no tokenizer: tokenizer.json is missing. Copy it (and tokenizer_config.json) from where "
            "the checkpoint came from, or name another folder with --tokenizer"
        )
    command = [sys.executable, "-c", _PROGRAM, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(f"{folder}: converting {found[0]} took over {limit:.0f} s") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise CheckpointError(
            f"{folder} has {', '.join(found)} but no tokenizer.json, and converting failed: {lines[-1]}. "
            "Install what it asks for (SentencePiece models need `pip install sentencepiece protobuf`), or add a "
            "tokenizer.json to the folder"
        )
    return done.stdout.decode()
