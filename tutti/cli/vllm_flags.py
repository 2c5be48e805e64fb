"""A vLLM command line, made one of ours.

Flags that Tutti has keep their names. Here is the rest of `vllm serve`: flags that mean nothing here are taken out,
each with a line that says why; flags that ask for something Tutti cannot do are errors, not silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tutti.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Ignored:
    """A flag without a meaning here. `value`: it is followed by one; `harmless`: which values may be ignored."""

    note: str
    value: bool = True
    harmless: tuple[str, ...] | None = None  # None: any


_ONE_DEVICE = "one device serves the model"
_BY_FILES = "a model's files say what it gives"
_LATER = "not there yet; the answers are the same without it"

IGNORED: dict[str, Ignored] = {
    "gpu-memory-utilization": Ignored("memory is planned in bytes: --memory 16GB"),
    "swap-space": Ignored("preempted requests are computed again, not swapped"),
    "cpu-offload-gb": Ignored("no offloading", harmless=("0", "0.0")),
    "enforce-eager": Ignored("nothing is compiled", value=False),
    "compilation-config": Ignored("nothing is compiled"),
    "optimization-level": Ignored("nothing is compiled"),
    "disable-custom-all-reduce": Ignored(_ONE_DEVICE, value=False),
    "distributed-executor-backend": Ignored(_ONE_DEVICE),
    "pipeline-parallel-size": Ignored(_ONE_DEVICE, harmless=("1",)),
    "data-parallel-size": Ignored(_ONE_DEVICE, harmless=("1",)),
    "api-server-count": Ignored("one front process", harmless=("1",)),
    "enable-expert-parallel": Ignored(_ONE_DEVICE, value=False),
    "enable-chunked-prefill": Ignored("prompts are always computed in chunks", value=False),
    "no-enable-chunked-prefill": Ignored("prompts are always computed in chunks", value=False),
    "max-num-partial-prefills": Ignored("every waiting prompt may advance"),
    "async-scheduling": Ignored("not a choice here", value=False),
    "no-async-scheduling": Ignored("not a choice here", value=False),
    "num-scheduler-steps": Ignored("not a choice here"),
    "scheduling-policy": Ignored("requests with a priority are always served by it"),
    "enable-auto-tool-choice": Ignored("tool calls are always read", value=False),
    "disable-log-requests": Ignored("requests are not logged", value=False),
    "no-enable-log-requests": Ignored("requests are not logged", value=False),
    "disable-log-stats": Ignored("statistics are at /metrics", value=False),
    "max-log-len": Ignored("requests are not logged"),
    "load-format": Ignored("safetensors are mapped", harmless=("auto", "safetensors")),
    "safetensors-load-strategy": Ignored("safetensors are mapped"),
    "kv-cache-dtype": Ignored("the KV cache has the model's type", harmless=("auto",)),
    "tokenizer-mode": Ignored("tokenizer.json is read", harmless=("auto", "hf", "fast")),
    "model-impl": Ignored("chosen by the architecture", harmless=("auto",)),
    "runner": Ignored(_BY_FILES, harmless=("auto", "generate", "pooling")),
    "task": Ignored(_BY_FILES, harmless=("auto", "generate", "embed", "embedding", "score", "classify")),
    "convert": Ignored(_BY_FILES, harmless=("auto", "none")),
    "attention-backend": Ignored("chosen by the device"),
    "guided-decoding-backend": Ignored("grammars are compiled by xgrammar"),
    "structured-outputs-config": Ignored("grammars are compiled by xgrammar"),
    "speculative-config": Ignored("speculative decoding: " + _LATER),
    "prefix-caching-hash-algo": Ignored("not a choice here"),
    "limit-mm-per-prompt": Ignored("media are limited by their bytes: TUTTI_MEDIA_MAX_BYTES"),
    "mm-processor-kwargs": Ignored("media are prepared as the checkpoint says", harmless=("{}",)),
    "download-dir": Ignored("the cache's place is HF_HOME"),
    "config-format": Ignored("config.json is read", harmless=("auto", "hf")),
    "trust-remote-code": Ignored("code that comes with a model is never run", value=False),
    "use-tqdm-on-load": Ignored("there is no bar", value=False),
    "disable-frontend-multiprocessing": Ignored("not a choice here", value=False),
}
SHORT = {"-tp": "tensor-parallel-size", "-pp": "pipeline-parallel-size", "-dp": "data-parallel-size"}
REPEATED = ("--served-model-name", "--api-key")  # vLLM takes several values after one flag


def translate(arguments: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """`arguments` with vLLM's spellings made ours and what means nothing here taken out, each with a note to `say`.

    Raises ConfigError where a flag asks for what Tutti cannot do.
    """
    ours: list[str] = []
    waiting = list(reversed(arguments))
    # Only where the model came first can a bare word after --api-key KEY be one more key.
    model_first = bool(arguments) and not arguments[0].startswith("-")
    while waiting:
        argument = waiting.pop()
        if argument == "--":
            return [*ours, argument, *waiting[::-1]]
        name, equals, value = _name(argument)
        flag = IGNORED.get(name)
        if flag is None:
            ours.append(f"--{name}{equals}{value}" if name else argument)
            if model_first and argument in REPEATED:
                ours += _repeat(argument, waiting)
            continue
        if flag.value and not equals:
            if not waiting:
                raise ConfigError(f"--{name} needs a value", param=name)
            value = waiting.pop()
        if flag.harmless is not None and value not in flag.harmless:
            raise ConfigError(f"--{name} {value}: Tutti cannot do this ({flag.note})", param=name)
        say(f"--{name} is ignored: {flag.note}")
    return ours


def _name(argument: str) -> tuple[str, str, str]:
    """("max-model-len", "=", "4k") of `--max_model_len=4k`; an empty name where `argument` is no long flag."""
    if argument in SHORT:
        return SHORT[argument], "", ""
    if not argument.startswith("--"):
        return "", "", ""
    name, equals, value = argument[2:].partition("=")
    name = name.replace("_", "-")
    # vLLM sets fields of JSON flags by dots: --speculative-config.method ngram
    base = name.partition(".")[0]
    return (base if base in IGNORED else name), equals, value


def _repeat(flag: str, waiting: list[str]) -> list[str]:
    """The values that follow `flag`, each but the first with the flag before it; they are taken from `waiting`."""
    taken = [waiting.pop()] if waiting else []
    while waiting and not waiting[-1].startswith("-"):
        taken += [flag, waiting.pop()]
    return taken
