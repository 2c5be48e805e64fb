"""Names and passwords for registries, where Docker keeps them.

They are in the `config.json` of Docker's folder, where `docker login` writes them, or in a setting of the same form
(`DOCKER_AUTH_CONFIG`); programs that Docker calls credential helpers are asked where the file names one. What is found
belongs to one host. It is never shown, and no error repeats it.

A hub of Hugging Face's kind takes a token instead (`HF_TOKEN`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tutti.errors import ConfigError, Unauthorized
from tutti.settings import Settings

_HUBS = frozenset({"hf.co", "huggingface.co"})  # registries that are Hugging Face's
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PATIENCE = 60.0  # seconds for a helper: it may ask its user to unlock something
_TOKEN = "<token>"  # the user's name where a helper gives an identity token


@dataclass(frozen=True, slots=True)
class Credential:
    """Who we are to a registry. With `identity`, the secret is a token that is exchanged for others (OAuth 2)."""

    user: str
    secret: str = field(repr=False)
    identity: bool = False

    @property
    def basic(self) -> str:
        """The header's value that says so."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


class _Entry(msgspec.Struct, kw_only=True):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _File(msgspec.Struct, kw_only=True):
    auths: dict[str, _Entry] = {}
    credHelpers: dict[str, str] = {}
    credsStore: str = ""


class _Given(msgspec.Struct, kw_only=True):
    """What a helper answers."""

    Username: str = ""
    Secret: str = ""


def is_hub(settings: Settings, url: str) -> bool:
    """Whether `url` is at Hugging Face's hub, or at the one that `HF_ENDPOINT` names, by the same scheme."""
    asked, named = urlsplit(url), urlsplit(settings.hf_endpoint or "")
    own = (asked.scheme, asked.netloc)
    return own in {("https", host) for host in _HUBS} or (
        asked.netloc != "" and own == (named.scheme, named.netloc)
    )


async def find_credential(settings: Settings, host: str) -> Credential | None:
    """What is known for `host` (with its port, if it has one); the setting counts before the file.

    Raises ConfigError where that is not well formed, Unauthorized where a helper fails.
    """
    if settings.registry_auth:
        found = await _from(_read(settings.registry_auth.encode(), "TUTTI_REGISTRY_AUTH"), host)
        if found is not None:
            return found
    path = Path(settings.docker_config).expanduser() / "config.json"
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return await _from(_read(data, str(path)), host)


def _read(data: bytes, where: str) -> _File:
    try:
        return msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        raise ConfigError(
            f"{where} is not what Docker's config.json is: write it anew by docker login"
        ) from None


async def _from(file: _File, host: str) -> Credential | None:
    helper = next((name for key, name in file.credHelpers.items() if _host(key) == host), file.credsStore)
    if helper:
        found = await asyncio.to_thread(_ask, helper, host)
        if found is not None:
            return found
    entry = next((one for key, one in file.auths.items() if _host(key) == host), None)
    return None if entry is None else _credential(entry, host)


def _host(key: str) -> str:
    """The host that an entry is for: `registry.example.org`, or an address such as `https://host:5000/v2/`."""
    return urlsplit(key if "://" in key else f"//{key}").netloc


def _credential(entry: _Entry, host: str) -> Credential | None:
    user, secret = entry.username, entry.password
    if entry.auth:
        try:
            user, mark, secret = base64.b64decode(entry.auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            mark = ""
        if not mark:
            raise ConfigError(f"what is written down for {host} is not base64 of user:password") from None
    if entry.identitytoken:
        return Credential(user, entry.identitytoken, identity=True)
    return Credential(user, secret.rstrip("\0")) if user else None


def _ask(helper: str, host: str) -> Credential | None:
    """What the program of a helper knows of `host`. Raises ConfigError, Unauthorized."""
    if not _HELPER.fullmatch(helper):
        raise ConfigError(f"{helper!r} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            (program, "get"), input=host.encode(), capture_output=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError:
        raise ConfigError(f"{program}, which keeps the passwords of registries, is not installed") from None
    except (OSError, subprocess.TimeoutExpired):
        raise Unauthorized(f"unauthorized: {program} does not answer") from None
    if done.returncode != 0:
        if b"not found" in done.stdout + done.stderr:
            return None
        raise Unauthorized(f"unauthorized: {program} fails for {host} (exit code {done.returncode})")
    try:
        given = msgspec.json.decode(done.stdout, type=_Given)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise Unauthorized(f"unauthorized: {program} answers what is no JSON of its kind") from None
    return Credential(given.Username, given.Secret, identity=given.Username == _TOKEN)
