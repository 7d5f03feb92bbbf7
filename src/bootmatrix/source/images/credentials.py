"""Who we are to a registry: Docker's config.json, and the helper programs that it names (docker-credential-helpers)."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootmatrix.errors import HostError, InputError
from bootmatrix.source.images.reference import DOCKER_HUB

HUB_KEY = "https://index.docker.io/v1/"
"""Under which Docker keeps the credentials of its own registry."""
HELPER_LIMIT_S = 30
CONFIG_LIMIT_BYTES = 1 << 20
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NOT_FOUND = "credentials not found"
"""What a helper says, with status 1, if it knows none."""
TOKEN_USER = "<token>"  # noqa: S105  (the name by which helpers mark a token)


@dataclass(frozen=True)
class Credentials:
    """A name and password, a token that others are had for, or one for the registry itself. None is ever shown."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def config_file() -> Path:
    """Where Docker's config.json is: in DOCKER_CONFIG, else ~/.docker."""
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def find_credentials(registry: str, file: Path) -> Credentials | None:
    """The credentials for a registry (`host[:port]`); None if there are none.

    Raises:
        InputError: the file is damaged.
        HostError: the helper that it names does not work.
    """
    config = _read(file)
    key = HUB_KEY if registry == DOCKER_HUB else registry
    helpers = _of(config, "credHelpers").items()
    own = next((helper for name, helper in helpers if name == registry or _host(name) == _host(key)), None)
    helper = own or config.get("credsStore")
    if helper:
        return _ask(str(helper), key, file)
    for name, entry in _of(config, "auths").items():
        if isinstance(entry, dict) and (name == key or _host(name) == _host(key)):
            return _decoded(name, entry, file)
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            return {}
        data = file.read_bytes()
        config = _text_of(data) if len(data) <= CONFIG_LIMIT_BYTES else None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{file}: this is not Docker's config.json", "Log in again, with `docker login`.")
    return config


def _text_of(data: bytes) -> Any:
    """What JSON says, all of it text that can be sent.

    Raises:
        ValueError: it is no JSON, or has halves of characters in it.
    """
    value = json.loads(data)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _of(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _host(name: str) -> str:
    return re.sub(r"^https?://", "", name).split("/", 1)[0]


def _decoded(name: str, entry: Mapping[str, Any], file: Path) -> Credentials | None:
    token, bearer = entry.get("identitytoken"), entry.get("registrytoken")
    if isinstance(token, str) and token:
        return Credentials(token=token)
    if isinstance(bearer, str) and bearer:
        return Credentials(bearer=bearer)
    if isinstance(entry.get("username"), str) and isinstance(entry.get("password"), str):
        return Credentials(entry["username"], entry["password"])
    auth = entry.get("auth")
    if not auth:
        return None
    try:
        user, colon, password = base64.b64decode(str(auth), validate=True).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise InputError(
            f"{file}: the entry {name!r} of 'auths' is damaged", f"Log in again, with `docker login {_host(name)}`."
        )
    return Credentials(user, password.rstrip("\0"))


def _ask(helper: str, key: str, file: Path) -> Credentials | None:
    """Run `docker-credential-HELPER get` with the registry's name on its standard input."""
    if not _HELPER.fullmatch(helper):
        raise InputError(f"{file}: {helper!r} cannot be the name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_LIMIT_S, check=False
        )
    except FileNotFoundError as error:
        raise HostError(
            f"{program}, which {file} names, is not installed", "Install it, or take it out of that file."
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{program}, which {file} names, does not work: {error}") from error
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        if _NOT_FOUND in said:
            return None
        raise HostError(f"{program} gives no credentials for {key}: {said[:300] or f'status {done.returncode}'}")
    return _of_helper(program, done.stdout)


def _of_helper(program: str, said: bytes) -> Credentials:
    try:
        found = _text_of(said)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HostError(f"{program} answers something else than a credential") from error
    return Credentials(token=secret) if user == TOKEN_USER else Credentials(user, secret)
