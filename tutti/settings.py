"""Every setting Tutti reads, in one place.

`Settings` is what the environment says (the only code that reads environment variables); `EngineOptions` is how one
model is served, with vLLM's names where vLLM has them. Flags override the environment, the environment overrides the
defaults.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tutti.errors import ConfigError

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def parse_size(text: str | int, name: str = "size") -> int:
    """Bytes from "16GB", "12GiB", "800M" or a plain number. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(text).lower())
    if match is None:
        raise ConfigError(
            f"{name}: {text!r} is not a size; write for instance 16GB, 800MB or 12GiB", param=name
        )
    return int(float(match[1]) * _UNITS[match[2] or ""])


def parse_tokens(text: str | int) -> int:
    """A number of tokens as vLLM takes it: 4096, 4k (4,000) or 4K (4,096). Raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", str(text))
    if match is None:
        raise ConfigError(f"{text!r} is not a number of tokens; write for instance 4096, 4k or 4K")
    return int(float(match[1]) * {"": 1, "k": 1000, "K": 1024, "m": 10**6, "M": 2**20}[match[2]])


def format_size(size: float) -> str:
    """Bytes for people: decimal units, three digits ("1.19 GB")."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(size) < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 999.5 else f"{size:.3g} {unit}"


_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]*")


class Address(msgspec.Struct, frozen=True):
    """Where a server is: `http://127.0.0.1:11434`. `path` is what stands before the paths of its API, if anything."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def url(self) -> str:
        """To connect to: a server that listens everywhere is asked on this machine."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{self.path}"

    @property
    def is_here(self) -> bool:
        """Whether that is this machine."""
        import ipaddress

        try:
            address = ipaddress.ip_address(self.host or "127.0.0.1")
        except ValueError:
            return self.host == "localhost"
        return address.is_loopback or address.is_unspecified


OLLAMA_PORT = 11434


def parse_address(text: str) -> Address:
    """The address that `OLLAMA_HOST` says, in all its forms: `host`, `:port`, `host:port`, `[::1]:port`, URLs.

    What is left out is `http`, 127.0.0.1 and 11434; with a scheme, its usual port. Raises ConfigError.
    """
    said = text.strip().strip("\"'").strip()
    scheme, mark, rest = said.partition("://")
    if not mark:
        scheme, rest = "http", said
    if scheme not in ("http", "https"):
        raise ConfigError(
            f"{text!r} is no address of a server: it begins with http:// or https://, or neither"
        )
    place, _, path = rest.partition("/")
    if place.count(":") > 1 and not place.startswith("["):  # IPv6 without brackets, which has no port
        place = f"[{place}]"
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"{text!r} is no address of a server: {error}") from error
    if port is None:
        port = {"http": 80, "https": 443}[scheme] if mark else OLLAMA_PORT
    path = path.strip("/")
    host = host or ("0.0.0.0" if place.startswith(":") else "127.0.0.1")  # a port alone: everywhere
    return Address(scheme, host, port, f"/{path}" if path else "")


_FOREIGN = {  # fields that other programs have a variable for
    "hf_endpoint": "HF_ENDPOINT",
    "hf_token": "HF_TOKEN",
    "registry_auth": "DOCKER_AUTH_CONFIG",
    "docker_config": "DOCKER_CONFIG",
    "models": "OLLAMA_MODELS",
    "origins": "OLLAMA_ORIGINS",
    "nohistory": "OLLAMA_NOHISTORY",
    "keep_alive": "OLLAMA_KEEP_ALIVE",
    "load_timeout": "OLLAMA_LOAD_TIMEOUT",
    "max_loaded_models": "OLLAMA_MAX_LOADED_MODELS",
    "max_queue": "OLLAMA_MAX_QUEUE",
    "num_parallel": "OLLAMA_NUM_PARALLEL",
    "context_length": "OLLAMA_CONTEXT_LENGTH",
    "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "server": "OLLAMA_HOST",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says. `TUTTI_HOST` sets `host`, and so on for every field."""

    host: str = "127.0.0.1"
    port: int = 8000
    server: str = (
        ""  # where clients find it: also TUTTI_HOST and TUTTI_PORT if they are set, or else OLLAMA_HOST
    )
    home: str = "~/.tutti"  # models, history, logs
    nohistory: bool = False  # True: what is typed is not kept; also OLLAMA_NOHISTORY
    models: str = (
        ""  # the store of models; also OLLAMA_MODELS; empty: `models` in `home`, and Ollama's, only read
    )
    videos: str = ""  # the folder of the videos that a server makes; empty: `videos` in `home`
    api_key: str | None = None
    origins: str = (
        ""  # web pages that may use the server, besides local ones, separated by commas; also OLLAMA_ORIGINS
    )
    log_level: str = "info"
    log_format: str = "text"  # text | json
    threads: int | None = None  # of each CPU device of the engine; None: they share every core we may use
    native_kernels: bool = True  # False: the torch reference kernels everywhere
    hf_endpoint: str | None = None  # also HF_ENDPOINT
    hf_token: str | None = None  # also HF_TOKEN
    registry_auth: str = ""  # passwords for registries, as JSON in the form of Docker's config.json
    docker_config: str = "~/.docker"  # the folder of Docker's config.json, where `docker login` keeps them
    media_max_bytes: int = 100_000_000  # of a picture, recording or video, and of all in a request together
    media_timeout: float = 30.0  # seconds that fetching one of them may take
    media_max_redirects: int = 3
    media_allow_private: bool = False  # True: also fetch from addresses that are not public
    media_local_paths: str = ""  # folders whose files callers may name, separated like PATH; none: no files
    traces: int = 256  # requests whose traces are kept; 0: none are made
    # A server of many models; Ollama's variables of the same names count, too.
    keep_alive: str = (
        "5m"  # how long a model stays that nobody uses: a duration, or seconds; negative: for ever
    )
    load_timeout: str = "5m"  # how long loading one may take, likewise
    max_loaded_models: int = 0  # in memory at a time; 0: as many as it holds
    max_queue: int = 512  # requests that may wait for a model that is not in memory
    num_parallel: int = 0  # requests that one model answers at a time; 0: as many as its KV cache holds
    context_length: int = 0  # tokens of context that a model is loaded with; 0: as many as there is room for
    otlp_endpoint: str | None = None  # where they are sent as spans, too; also OTEL_EXPORTER_OTLP_ENDPOINT

    @property
    def home_path(self) -> Path:
        """The folder for everything Tutti keeps."""
        return Path(self.home).expanduser()

    @property
    def server_address(self) -> Address:
        """Where `serve` without a model listens, and what `run`, `ps` and `stop` talk to. Raises ConfigError."""
        return parse_address(self.server)

    @property
    def models_path(self) -> Path:
        """The folder of the store of models, which we write."""
        return Path(self.models).expanduser() if self.models else self.home_path / "models"

    @property
    def videos_path(self) -> Path:
        """The folder of the videos that a server makes, and of the jobs that make them."""
        return Path(self.videos).expanduser() if self.videos else self.home_path / "videos"

    @property
    def foreign_models(self) -> tuple[Path, ...]:
        """Folders of Ollama's that are read as well: none where `models` names the store."""
        if self.models:
            return ()
        usual = (Path("~/.ollama/models").expanduser(), Path("/usr/share/ollama/.ollama/models"))
        return tuple(folder for folder in usual if folder != self.models_path)

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins of `origins`; quotes around them are none of theirs. Raises ConfigError on what is no origin."""
        written = self.origins.strip("\"' ").split(",")
        found = tuple(origin.strip() for origin in written if origin.strip())
        for origin in found:
            if "*" not in origin and not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"origins: {origin!r} is none; write for instance https://example.org, http://*.example.org or *",
                    param="origins",
                )
        return found

    @property
    def media_folders(self) -> tuple[Path, ...]:
        """The folders of `media_local_paths`."""
        return tuple(
            Path(folder).expanduser() for folder in self.media_local_paths.split(os.pathsep) if folder
        )


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of `environment` (the process's by default). Raises ConfigError on a value of the wrong type."""
    environment = os.environ if environment is None else environment
    found = {}
    for field in Settings.__struct_fields__:
        value = environment.get(f"TUTTI_{field.upper()}")
        if value is None and field == "server":
            value = _listening(environment)
        if value is None:
            value = environment.get(_FOREIGN.get(field, "")) or None
        if value is not None:
            found[field] = value
    try:
        return msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"environment: {error} (variables are named TUTTI_<FIELD>)") from error


def terminal_pictures(environment: Mapping[str, str] | None = None) -> str:
    """How the terminal shows pictures: by the protocol of "kitty" or "iterm", in 24-bit "colours"; "": not at all."""
    environment = os.environ if environment is None else environment
    program, kind = environment.get("TERM_PROGRAM", ""), environment.get("TERM", "")
    if "kitty" in kind or "ghostty" in kind or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm"):
        return "iterm"
    return "colours" if environment.get("COLORTERM") in ("truecolor", "24bit") else ""


def _listening(environment: Mapping[str, str]) -> str | None:
    """Where `TUTTI_HOST` and `TUTTI_PORT` have a server listen; None where neither is set."""
    host, port = environment.get("TUTTI_HOST"), environment.get("TUTTI_PORT")
    if port is None:
        return host
    host = host or ""
    return f"{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{port}"


def publish_settings(**values: str) -> None:
    """Put settings given by flags into the environment, where the processes we start look for them."""
    for name, value in values.items():
        if name not in Settings.__struct_fields__:
            raise ConfigError(f"there is no setting {name!r}")
        os.environ[f"TUTTI_{name.upper()}"] = value


class Preset(msgspec.Struct, frozen=True):
    """What a model was made with, by its Modelfile.

    `system` is said where a conversation says nothing of its own, `messages` are what every conversation begins with,
    `parameters` are options by Ollama's names, for requests that do not say otherwise.
    """

    system: str = ""
    messages: tuple[dict[str, Any], ...] = ()
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)

    def begin(self, messages: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
        """A conversation of OpenAI's messages with what comes before it."""
        silent = not messages or messages[0].get("role") != "system"
        system = ({"role": "system", "content": self.system},) if self.system and silent else ()
        return (*system, *self.messages, *messages)


BARE = Preset()
"""Of a model that was made with nothing."""


class Degrees(msgspec.Struct, frozen=True):
    """How a network is spread over ranks: so many shares of a batch's rows, of each row's tokens, of each layer.

    Ranks are numbered row by row: rank = (its share of rows * ulysses + its share of tokens) * tensor + its share of
    layers. Rank 0 leads.
    """

    cfg: int = 1
    ulysses: int = 1
    tensor: int = 1

    @property
    def ranks(self) -> int:
        """How many there are."""
        return self.cfg * self.ulysses * self.tensor

    def share(self, rank: int) -> tuple[int, int, int]:
        """A rank's shares of rows, of tokens and of layers."""
        return rank // (self.ulysses * self.tensor), rank // self.tensor % self.ulysses, rank % self.tensor


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one model is served. None means: decided by the plan, and printed."""

    model: str
    served_model_name: tuple[str, ...] = ()
    tokenizer: str | None = None
    device: str = "auto"
    placement: dict[str, str] = msgspec.field(default_factory=dict)  # stages that are not on `device`: theirs
    dtype: str = "auto"
    quantization: str | None = None  # "int8"; of a model that draws "fp8", too, and "transformer=int8,..."
    components: dict[str, str] = msgspec.field(
        default_factory=dict
    )  # files of weights, of a model that draws
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int | None = None
    cfg_parallel_size: int = 1  # ranks that share the rows of a denoiser's step
    ulysses_degree: int = 1  # ranks that share the tokens of each row
    tensor_parallel_size: int = 1  # ranks that share each layer
    max_queue: int = 256  # requests that may wait beyond those that run
    block_size: int = 32  # tokens per KV block
    enable_prefix_caching: bool = True
    memory: int | None = None  # bytes for everything on the device
    kv_cache_memory_bytes: int | None = None
    encoder_cache_memory_bytes: int = 256_000_000  # for what encoders made of pictures and sound
    player_clock: bool = True  # False, for measuring: who came first is served first
    seed: int = 0
    threads: int | None = None  # of each CPU device
    chat_template: str | None = None
    template: str | None = None  # Ollama's, in Go's template language; `chat_template` counts before it
    generation_config: str = "auto"  # auto: the checkpoint's defaults; vllm: neutral defaults
    trust_remote_code: bool = False
    preset: Preset = BARE
    adapters: tuple[str, ...] = ()  # LoRA adapters, for every request: GGUF files, and folders of PEFT's
    lora_modules: tuple[str, ...] = ()  # "name=path": adapters that a request may name, of models that draw
    tool_call_parser: str | None = None  # None: by the chat template
    reasoning_parser: str | None = None

    @property
    def degrees(self) -> Degrees:
        """How the denoiser is spread."""
        return Degrees(self.cfg_parallel_size, self.ulysses_degree, self.tensor_parallel_size)


def stay_on_machine() -> None:
    """Let ranks of torch.distributed listen on the loopback interface only, whose peers nobody checks.

    Must run before the first of them meets others. What the environment says already stays.
    """
    loops = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    for library in ("GLOO", "NCCL") if loops else ():
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", loops[0])


def calm_threads() -> None:
    """Let idle compute threads sleep soon. Must run before torch is imported, which is when OpenMP reads it.

    GNU OpenMP's threads otherwise spin for milliseconds at every barrier: on a machine that does anything else, they
    take the processor from the very thread they wait for. What the environment says already stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
