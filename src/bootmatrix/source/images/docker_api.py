"""A Docker engine's API by Docker's client; DOCKER_HOST selects it.

A module of its own, as the library is slow to import.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import requests

from bootmatrix.errors import BootmatrixError, BuildError, InfraError

_HINT = "Check that it is running and that you have access. DOCKER_HOST selects another one, such as podman's."


def connect(limit_s: float) -> Any:
    """Return a client of the engine, which waits so long for one reply."""
    return docker.APIClient(**docker.utils.kwargs_from_env(), version="auto", timeout=limit_s, user_agent="bootmatrix")


@contextmanager
def engine_faults(image: str = "") -> Iterator[None]:
    """Translate faults of the engine, in a request about an image or another one.

    Raises BuildError if the image is missing, or cannot be built; InfraError if the engine is unreachable, or fails.
    """
    try:
        yield
    except docker.errors.APIError as error:
        raise _refusal(image, error) from error
    except (docker.errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise InfraError(f"the Docker engine does not answer: {str(error)[:500]}", _HINT) from error


def _refusal(image: str, error: Any) -> BootmatrixError:
    reason = str(error.explanation or error)[:500]
    if not image:
        return InfraError(f"the Docker engine refuses: {reason}")
    if isinstance(error, docker.errors.NotFound):
        return BuildError(
            f"the Docker engine has no image {image}", f"Get it: docker pull {image}. Or omit docker-daemon:."
        )
    kind = BuildError if error.is_client_error() else InfraError
    return kind(f"the Docker engine rejects {image}: {reason}")
