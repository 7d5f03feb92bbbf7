"""Images of a Docker engine or of podman's compatible service.

An image is saved as a tar archive, or built first. DOCKER_HOST selects the engine; the default is
/var/run/docker.sock. Docker's own client library supports all transports: sockets, TLS, ssh.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootmatrix.errors import BuildError, InfraError
from bootmatrix.source.images.platforms import fits, name_of
from bootmatrix.source.images.pull import tcp_ports
from bootmatrix.store import Store, temporary_folder

LIMIT_S = 600
"""Limit of one reply of the engine, such as the first bytes of a saved image."""
SAVED_LIMIT_BYTES = 32 << 30
BUILD_LIMIT_S = 3600
LOG_LINES = 20
NO_BUILDKIT = ("buildx component is missing", "failed to dial gRPC")
"""Output of `docker build` if the client or the engine lacks BuildKit, as podman's service does."""


@dataclass(frozen=True)
class Build:
    """A folder with a Dockerfile, additional labels, and build arguments."""

    folder: Path
    dockerfile: str = "Dockerfile"
    labels: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.folder / self.dockerfile)


class Engine:
    """A Docker engine. It is contacted at the first use."""

    def __init__(self) -> None:
        self._client: Any = None

    def find(self, name: str, platform: str) -> str:
        """Return the id of an image, which identifies its content.

        Raises BuildError if the image is missing, or for another platform; InfraError if the engine does not answer.
        """
        identity, fault = self._looked_up(name, platform)
        if fault:
            raise BuildError(fault, f"Get it: docker pull --platform {platform} {name}")
        return identity

    def platform_fault(self, name: str, platform: str) -> str:
        """Return why the engine's image is not for a platform; empty if it is.

        Raises BuildError if the image is missing, InfraError if the engine does not answer.
        """
        return self._looked_up(name, platform)[1]

    def exposed_ports(self, name: str) -> tuple[int, ...]:
        """Return the TCP ports that an image exposes.

        Raises BuildError if the image is missing, InfraError if the engine does not answer.
        """
        with self._reached(name) as client:
            return tcp_ports(client.inspect_image(name).get("Config"))

    def _looked_up(self, name: str, platform: str) -> tuple[str, str]:
        """Return an image's id, and why it is not for a platform."""
        with self._reached(name) as client:
            image = client.inspect_image(name)
        available = {"os": image.get("Os"), "architecture": image.get("Architecture"), "variant": image.get("Variant")}
        fault = f"the Docker engine has {name} for {name_of(available)}, expected {platform}"
        return str(image["Id"]), "" if fits(available, platform) else fault

    def save(self, name: str, store: Store) -> str:
        """Save an image as a tar archive in the store, and return its digest.

        Raises InfraError if the engine does not answer, or sends too much.
        """
        with self._reached(name) as client, store.writer() as writer:
            for chunk in client.get_image(name):
                writer.write(chunk)
                if writer.tell() > SAVED_LIMIT_BYTES:
                    raise InfraError(f"the image {name} of the Docker engine exceeds {SAVED_LIMIT_BYTES >> 30} GiB")
            return writer.commit()

    def build(self, build: Build, platform: str) -> str:
        """Build a folder with a Dockerfile for a platform, and return the image's id.

        The engine has a cache of its own. Docker's program is preferred: the client library has only the older
        builder, which ignores the platform of images FROM scratch.

        Raises BuildError if a step fails, or the image is for another platform; InfraError if the engine does not
        answer.
        """
        built = _by_program(build, platform) or self._by_library(build, platform)
        try:
            self.find(built, platform)
        except BuildError as error:
            message = f"{build}: {error.message}"
            raise BuildError(message, "Install docker-buildx: the Docker client lacks BuildKit.") from error
        return built

    def _by_library(self, build: Build, platform: str) -> str:
        log, built = list[str](), ""
        with self._reached(str(build)) as client:
            answer = client.build(
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
            raise InfraError(f"the Docker engine did not report the result of {build}")
        return built

    @contextmanager
    def _reached(self, image: str) -> Iterator[Any]:
        """Provide the client for a request about an image.

        Raises BuildError if the image is missing, or cannot be built; InfraError if the engine is unreachable, or
        fails.
        """
        from bootmatrix.source.images.docker_api import connect, engine_faults

        with engine_faults(image):
            if self._client is None:
                self._client = connect(LIMIT_S)
            yield self._client


def _by_program(build: Build, platform: str) -> str:
    """Run `docker build`; empty without the program or BuildKit.

    Raises BuildError if a step fails, InfraError if it takes too long.
    """
    program = shutil.which("docker")
    if not program:
        return ""
    with temporary_folder() as folder:
        id_file = folder / "id"
        command = [program, "build", "--quiet", "--platform", platform, "--iidfile", str(id_file)]
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
        except subprocess.TimeoutExpired as error:  # its text has the build arguments, which may be secret
            raise InfraError(f"{build}: `docker build` exceeded {BUILD_LIMIT_S} s") from error
        except OSError as error:
            raise InfraError(f"{build}: cannot start `docker build`: {error.strerror}") from error
        if done.returncode == 0 and id_file.is_file():
            return id_file.read_text(encoding="utf-8").strip()
    if any(words in done.stderr for words in NO_BUILDKIT):
        return ""
    raise BuildError(f"{build}: `docker build` failed with status {done.returncode}:\n" + _end_of(done.stderr))


def _end_of(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_LINES:])
