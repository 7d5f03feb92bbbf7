"""Images of a Docker engine, or of podman, whose service speaks the same: saved as a tar archive, or built there first.

The engine is the one that DOCKER_HOST names, else that of /var/run/docker.sock. Docker's own client library is used, as
it knows all ways to reach one: sockets, TLS, ssh.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootmatrix.errors import BuildError, InfraError
from bootmatrix.source.images.platforms import fits, name_of
from bootmatrix.store import Store

LIMIT_S = 600
"""For one answer of the engine, such as the first bytes of a saved image."""
SAVED_LIMIT_BYTES = 32 << 30
BUILD_LIMIT_S = 3600
LOG_LINES = 20
NO_BUILDKIT = ("buildx component is missing", "failed to dial gRPC")
"""What `docker build` says if it lacks BuildKit itself, and if the engine does, as podman's service."""


@dataclass(frozen=True)
class Build:
    """A folder with a Dockerfile, and what is added to the image's labels and given as arguments."""

    folder: Path
    dockerfile: str = "Dockerfile"
    labels: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.folder / self.dockerfile)


class Engine:
    """A Docker engine, which is asked when something of it is first needed."""

    def __init__(self) -> None:
        self._client: Any = None

    def find(self, name: str, platform: str) -> str:
        """The id of an image, by which its content is known.

        Raises:
            BuildError: the engine has no such image, or only one for another platform.
            InfraError: it does not answer.
        """
        with _faults(name):
            found = self._connected().inspect_image(name)
        own = {"os": found.get("Os"), "architecture": found.get("Architecture"), "variant": found.get("Variant")}
        if not fits(own, platform):
            raise BuildError(
                f"the Docker engine has {name} for {name_of(own)}, and {platform} is needed",
                f"Get it: docker pull --platform {platform} {name}",
            )
        return str(found["Id"])

    def save(self, name: str, store: Store) -> str:
        """The digest of a tar archive of an image, in the store.

        Raises:
            InfraError: the engine does not answer, or sends more than any image has.
        """
        with _faults(name), store.writer() as writer:
            for chunk in self._connected().get_image(name):
                writer.write(chunk)
                if writer.tell() > SAVED_LIMIT_BYTES:
                    raise InfraError(f"the Docker engine sends more than {SAVED_LIMIT_BYTES >> 30} GiB for {name}")
            return writer.commit()

    def build(self, build: Build, platform: str) -> str:
        """Have a folder with a Dockerfile built for a platform; the image's id. The engine has a cache of its own.

        Docker's program is used where there is one, as its client library knows only the engine's older builder, which
        minds no platform for images that are made FROM scratch.

        Raises:
            BuildError: a step fails, or the image is for another platform.
            InfraError: the engine does not answer.
        """
        built = _by_program(build, platform) or self._by_library(build, platform)
        try:
            self.find(built, platform)
        except BuildError as error:
            message = f"{build}: {error.message}"
            raise BuildError(message, "Let Docker's program have BuildKit: install docker-buildx.") from error
        return built

    def _by_library(self, build: Build, platform: str) -> str:
        log, built = list[str](), ""
        with _faults(str(build)):
            answer = self._connected().build(
                path=str(build.folder),
                dockerfile=build.dockerfile,
                platform=platform,
                labels=dict(build.labels),
                buildargs=dict(build.arguments),
                decode=True,
                rm=True,
                forcerm=True,
            )
            for line in answer:
                if line.get("error"):
                    raise BuildError(f"{build}: {line['error']}\n" + "\n".join(log[-LOG_LINES:]))
                log += str(line.get("stream", "")).splitlines()
                built = (line.get("aux") or {}).get("ID", built)
        if not built:
            raise InfraError(f"the Docker engine says nothing of what became of {build}")
        return built

    def _connected(self) -> Any:
        if self._client is None:
            import docker

            self._client = docker.APIClient(
                **docker.utils.kwargs_from_env(), version="auto", timeout=LIMIT_S, user_agent="bootmatrix"
            )
        return self._client


def _by_program(build: Build, platform: str) -> str:
    """The id of what `docker build` makes; empty if there is no such program, or it has no BuildKit.

    Raises:
        BuildError: a step fails.
        InfraError: it takes too long.
    """
    program = shutil.which("docker")
    if not program:
        return ""
    with tempfile.TemporaryDirectory(prefix="bootmatrix-") as folder:
        place = Path(folder) / "id"
        command = [program, "build", "--quiet", "--platform", platform, "--iidfile", str(place)]
        command += ["--file", str(build.folder / build.dockerfile)]
        command += [word for name, value in build.labels.items() for word in ("--label", f"{name}={value}")]
        command += [word for name, value in build.arguments.items() for word in ("--build-arg", f"{name}={value}")]
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        try:
            done = subprocess.run(
                [*command, "--", str(build.folder)],
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=BUILD_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:  # whose own text has the arguments of the build, secrets among them
            raise InfraError(f"{build}: `docker build` does not end within {BUILD_LIMIT_S} s") from error
        except OSError as error:
            raise InfraError(f"{build}: `docker build` does not begin: {error.strerror}") from error
        if done.returncode == 0 and place.is_file():
            return place.read_text(encoding="utf-8").strip()
    if any(words in done.stderr for words in NO_BUILDKIT):
        return ""
    raise BuildError(f"{build}: `docker build` ends with status {done.returncode}:\n" + _end_of(done.stderr))


def _end_of(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_LINES:])


@contextmanager
def _faults(name: str) -> Iterator[None]:
    """Faults of the engine, as ours.

    Raises:
        BuildError: it has no such image, or cannot build it.
        InfraError: it cannot be reached, or fails.
    """
    import docker
    import requests

    hint = "Is it running, and may you use it? DOCKER_HOST names another one, podman's for instance."
    try:
        yield
    except docker.errors.NotFound as error:
        raise BuildError(
            f"the Docker engine has no image {name}", f"Get it: docker pull {name}. Or leave out docker-daemon:."
        ) from error
    except docker.errors.APIError as error:
        said = str(error.explanation or error)[:500]
        kind = BuildError if error.is_client_error() else InfraError
        raise kind(f"the Docker engine refuses {name}: {said}") from error
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise InfraError(f"the Docker engine does not answer: {str(error)[:500]}", hint) from error
