"""Names of images in registries, with Docker's defaults (distribution/reference)."""

import re
from dataclasses import dataclass

from bootmatrix.errors import InputError
from bootmatrix.redact import redacted_reference

DOCKER_HUB = "docker.io"
_ALIASES = {"index.docker.io": DOCKER_HUB, "registry-1.docker.io": DOCKER_HUB}
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MAX_PORT = 65535
MAX_LENGTH = 255
"""Limit of registry and repository together, as in Docker."""


@dataclass(frozen=True)
class Reference:
    """The full name of an image. Next to a digest, the tag is only informative."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag, digest = (f"{mark}{value}" if value else "" for mark, value in ((":", self.tag), ("@", self.digest)))
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def version(self) -> str:
        """Return the digest or tag for requests."""
        return self.digest or self.tag


def is_host(text: str) -> bool:
    """Return whether `host[:port]` is a valid address or DNS name."""
    import httpx  # slow import, and most commands need no registry

    try:
        url = httpx.URL(f"http://{text}")
        url.raw_host.decode("ascii").encode("idna")  # as for a connection
        return bool(url.host) and (url.port or 0) <= MAX_PORT
    except (httpx.InvalidURL, UnicodeError):
        return False


def parse_reference(text: str) -> Reference:
    """Parse a name into its full form: `redis` is `docker.io/library/redis:latest`.

    The first part is a registry if it has a dot, a colon or a capital letter, or is `localhost`.

    Raises InputError if it is not a valid name of an image.
    """
    name, at, digest = text.partition("@")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    registry, repository = _split(head + slash + last)
    faults = (
        not (_HOST.fullmatch(registry) and is_host(registry)),
        not _PATH.fullmatch(repository),
        len(registry) + len(repository) > MAX_LENGTH,
        bool(colon) and not _TAG.fullmatch(tag),
        bool(at) and not _DIGEST.fullmatch(digest),
    )
    if any(faults):
        raise InputError(
            f"{redacted_reference(text)[:300]!r} is not a valid name of an image",
            "Use [REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST], with the repository in lower case.",
        )
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not ({".", ":"} & set(first) or first == "localhost" or first != first.lower()):
        first, rest = DOCKER_HUB, name
    first = _ALIASES.get(first, first)
    return first, f"library/{rest}" if first == DOCKER_HUB and "/" not in rest else rest
