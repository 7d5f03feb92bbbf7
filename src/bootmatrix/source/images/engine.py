"""Images of a Docker engine, or of podman, whose service speaks the same: saved as a tar archive, or built there first.

The engine is the one that DOCKER_HOST names, else that of /var/run/docker.sock. Docker's own client library is used, as
it knows all ways to reach one: sockets, TLS, ssh.
"""

from __future__ import annotations

import json
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
LOG_LINES = 20


@dataclass(frozen=True)
class Build:
    """A folder with a Dockerfile, and what is added to the image's labels and given as arguments."""

    folder: Path
    dockerfile: str = "Dockerfile"
    labels: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)


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

        Raises:
            BuildError: a step fails.
            InfraError: the engine does not answer.
        """
        what, log, built = f"{build.folder}/{build.dockerfile}", list[str](), ""
        with _faults(what):
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
                    raise BuildError(f"{what}: {line['error']}\n" + "\n".join(log[-LOG_LINES:]))
                log += str(line.get("stream", "")).splitlines()
                built = (line.get("aux") or {}).get("ID", built)
        if not built:
            raise InfraError(f"the Docker engine says nothing of what became of {what}")
        return built

    def _connected(self) -> Any:
        if self._client is None:
            import docker

            self._client = docker.APIClient(
                **docker.utils.kwargs_from_env(), version="auto", timeout=LIMIT_S, user_agent="bootmatrix"
            )
        return self._client


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
    except (docker.errors.DockerException, requests.RequestException, OSError, json.JSONDecodeError) as error:
        raise InfraError(f"the Docker engine does not answer: {str(error)[:500]}", hint) from error
