"""Credentials of registries: Docker's config.json and its credential helpers."""

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
"""Docker's key for the credentials of Docker Hub."""
HELPER_LIMIT_S = 30
CONFIG_LIMIT_BYTES = 1 << 20
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NOT_FOUND = "credentials not found"
"""Output of a helper without credentials, which exits with status 1."""
TOKEN_USER = "<token>"  # noqa: S105  (user name by which helpers mark a token)


@dataclass(frozen=True)
class Credentials:
    """A user and password, a refresh token, or a registry token. Never printed."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Return the value of a Basic Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def config_file() -> Path:
    """Return the path of config.json: in DOCKER_CONFIG, else in ~/.docker."""
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def find_credentials(registry: str, file: Path) -> Credentials | None:
    """Find the credentials of a registry (`host[:port]`), if any.

    Raises InputError if the file is damaged, HostError if the credential helper fails.
    """
    config = _read(file)
    key = HUB_KEY if registry == DOCKER_HUB else registry
    helpers = _section(config, "credHelpers").items()
    specific = next((helper for name, helper in helpers if name == registry or _host(name) == _host(key)), None)
    helper = specific or config.get("credsStore")
    if helper:
        return _ask(str(helper), key, file)
    for name, entry in _section(config, "auths").items():
        if isinstance(entry, dict) and (name == key or _host(name) == _host(key)):
            return _decoded(name, entry, file)
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            return {}
        data = file.read_bytes()
        config = _parse(data) if len(data) <= CONFIG_LIMIT_BYTES else None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(f"{file}: not a config.json of Docker", "Log in again with `docker login`.")
    return config


def _parse(data: bytes) -> Any:
    """Parse JSON whose text can be encoded.

    Raises ValueError if it is not JSON, or has lone surrogates.
    """
    value = json.loads(data)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _section(config: Mapping[str, Any], key: str) -> dict[str, Any]:
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
            f"{file}: invalid entry {name!r} in 'auths'", f"Log in again with `docker login {_host(name)}`."
        )
    return Credentials(user, password.rstrip("\0"))


def _ask(helper: str, key: str, file: Path) -> Credentials | None:
    """Run `docker-credential-HELPER get` with the registry's name as input."""
    if not _HELPER.fullmatch(helper):
        raise InputError(f"{file}: invalid name of a credential helper: {helper!r}")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_LIMIT_S, check=False
        )
    except FileNotFoundError as error:
        raise HostError(
            f"{program} is not installed, but required by {file}", "Install it, or remove it from that file."
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{program}, required by {file}, failed: {error}") from error
    if done.returncode:
        output = (done.stdout + done.stderr).decode(errors="replace").strip()
        if _NOT_FOUND in output:
            return None
        # Its output may contain what it was to keep.
        raise HostError(f"{program} failed for {key}: status {done.returncode}", f"Run it: echo {key} | {program} get")
    return _of_helper(program, done.stdout)


def _of_helper(program: str, output: bytes) -> Credentials:
    try:
        entry = _parse(output)
        user, secret = str(entry["Username"]), str(entry["Secret"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HostError(f"{program} printed an invalid credential") from error
    return Credentials(token=secret) if user == TOKEN_USER else Credentials(user, secret)
