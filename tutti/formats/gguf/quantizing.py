"""`convert` in a process of its own, for who has no torch and wants none: the server's front, and `tutti create`.

What the child has to say comes by its standard output, a line of JSON each: how far it is (bytes written, bytes of the
file), or the error that ended it. A child whose reader is gone ends at its next line.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tutti.errors import TuttiError
from tutti.events import ErrorValue
from tutti.formats.gguf.mixes import Mix, find_mix

_line = msgspec.json.Decoder(tuple[int, int] | ErrorValue)


@dataclass(frozen=True, slots=True)
class ProcessQuantizer:
    """Writes models as GGUF files of one mix."""

    mix: Mix

    @property
    def kind(self) -> str:
        """The mix as files name it: Q4_K_M."""
        return self.mix.name.upper()

    async def __call__(self, source: Path, target: Path) -> AsyncGenerator[tuple[int, int], None]:
        """Write the model at `source` to the file `target`; (bytes written, bytes in all) as it goes on.

        Closing the generator ends the child. Raises as `convert` does.
        """
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tutti.formats.gguf.quantizing", str(source), str(target), self.mix.name,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        try:
            async for line in child.stdout:
                said = _line.decode(line)
                if isinstance(said, ErrorValue):
                    raise said.error()
                yield said
            code = await child.wait()
            if code:
                raise TuttiError(f"the process that quantizes ended (exit code {code}); see its log above")
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


def quantizer(kind: str) -> ProcessQuantizer:
    """The quantizer to the type `kind`, in capitals or not. Raises ConfigError."""
    return ProcessQuantizer(find_mix(kind))


def _main(source: str, target: str, kind: str) -> None:
    from tutti.formats.gguf.convert import convert  # torch

    try:
        convert(Path(source), Path(target), find_mix(kind), lambda step: _say((step.written, step.nbytes)))
    except TuttiError as error:
        _say(ErrorValue.of(error))
        sys.exit(1)


def _say(value: tuple[int, int] | ErrorValue) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
