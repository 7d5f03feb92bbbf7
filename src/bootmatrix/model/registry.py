"""Registries of images, as `registries.yml` describes them."""

from typing import Annotated

from pydantic import StringConstraints

from bootmatrix.model.base import Model

Mirror = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.:\[\]_-]+$")]


class Registry(Model):
    """Settings of a registry.

    `mirrors` are tried first, in order. `plain_http` allows HTTP without TLS; by default only for registries on
    this machine without a `ca`. `ca` is a file of certificates, relative to the file that names it. `realms` are
    hosts of another domain to which credentials for it may be sent.
    """

    mirrors: tuple[Mirror, ...] = ()
    plain_http: bool | None = None
    ca: str = ""
    realms: tuple[str, ...] = ()


class Registries(Model):
    """Registries by `host` or `host:port`; Docker Hub is `docker.io`."""

    registries: dict[str, Registry] = {}
