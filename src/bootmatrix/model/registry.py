"""Registries of images, as `registries.yml` describes them."""

from typing import Annotated

from pydantic import StringConstraints

from bootmatrix.model.base import Model

Mirror = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.:\[\]_-]+$")]


class Registry(Model):
    """What is to be known of a registry beside its name.

    `mirrors` are asked before it, in their order. `plain_http` says whether it speaks HTTP without TLS; if it does not
    say, only one on this machine does, if no `ca` is known for it. `ca` is a file of certificates that may sign its
    own, relative to the file that says so. `realms` are hosts to which our credentials for it may be told, although
    they are under another domain.
    """

    mirrors: tuple[Mirror, ...] = ()
    plain_http: bool | None = None
    ca: str = ""
    realms: tuple[str, ...] = ()


class Registries(Model):
    """Registries by `host` or `host:port`; that of Docker is `docker.io`."""

    registries: dict[str, Registry] = {}
