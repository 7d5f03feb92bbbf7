"""Endpoints of registries: address, TLS and trusted certificates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from bootmatrix.errors import InputError
from bootmatrix.model import Registry
from bootmatrix.source.addresses import is_loopback
from bootmatrix.source.images.reference import DOCKER_HUB

if TYPE_CHECKING:
    import ssl

HUB_HOST = "registry-1.docker.io"
"""Host of docker.io."""
CERTS_FOLDERS = (Path("/etc/docker/certs.d"), Path("~/.config/docker/certs.d"))
"""Docker's folders of certificates, with a folder `host[:port]` each: `*.crt`, and `*.cert` with `*.key`."""


@dataclass(frozen=True)
class Endpoint:
    """A registry or a mirror of one.

    Credentials are looked up by `name`. `ca` are files of CA certificates. `only_here` restricts an endpoint to this
    machine, as that is the only reason to contact it without TLS.
    """

    name: str
    scheme: str
    host: str
    ca: tuple[Path, ...] = ()
    client_certificate: tuple[Path, Path] | None = None
    realms: tuple[str, ...] = ()
    only_here: bool = False

    @property
    def url(self) -> str:
        """Return the root of the distribution protocol."""
        return f"{self.scheme}://{self.host}/v2"

    @property
    def hostname(self) -> str:
        """Return the host without its port."""
        return httpx.URL(f"{self.scheme}://{self.host}").host

    def tls(self, *, with_client_certificate: bool = True) -> ssl.SSLContext:
        """Return the TLS context: CAs of the host, of SSL_CERT_FILE and of `ca`.

        It has the client certificate, if any, unless that is excluded.

        Raises InputError if a file of certificates or a key is invalid.
        """
        with _faults("SSL_CERT_FILE or SSL_CERT_DIR", "not a file of certificates (PEM)"):
            context = httpx.create_ssl_context()
        for file in self.ca:
            with _faults(file, "not a file of certificates (PEM)"):
                context.load_verify_locations(file)
        if self.client_certificate and with_client_certificate:
            certificate, key = self.client_certificate
            with _faults(certificate, f"not a certificate (PEM) with the unencrypted key {key}"):
                context.load_cert_chain(certificate, key, password="")  # by default OpenSSL asks on the terminal
        return context


@contextmanager
def _faults(place: Path | str, fault: str) -> Iterator[None]:
    """Report OpenSSL's errors as a file's. Raises InputError for them."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise InputError(f"{place}: {fault}: {error}") from error


def endpoints_of(registry: str, registries: Mapping[str, Registry], base: Path) -> list[Endpoint]:
    """List the endpoints of a registry's images: its mirrors, then the registry.

    Paths of the settings are relative to `base`.
    """
    settings = registries.get(registry, Registry())
    return [*(_mirror(address, registries, base) for address in settings.mirrors), endpoint(registry, settings, base)]


def endpoint(name: str, settings: Registry, base: Path) -> Endpoint:
    """Return the endpoint of a registry itself."""
    result = Endpoint(name, "https", HUB_HOST if name == DOCKER_HUB else name, realms=settings.realms)
    folder = next((path for parent in CERTS_FOLDERS if (path := parent.expanduser() / name).is_dir()), None)
    if folder:
        pairs = [(file, file.with_suffix(".key")) for file in sorted(folder.glob("*.cert"))]
        certificate = next((pair for pair in pairs if pair[1].is_file()), None)
        result = replace(result, ca=tuple(sorted(folder.glob("*.crt"))), client_certificate=certificate)
    if settings.ca:
        result = replace(result, ca=(*result.ca, base / settings.ca))
    is_plain = settings.plain_http
    if is_plain is None and is_loopback(result.hostname) and not result.ca:
        return replace(result, scheme="http", only_here=True)
    return replace(result, scheme="http") if is_plain else result


def _mirror(address: str, registries: Mapping[str, Registry], base: Path) -> Endpoint:
    scheme, _, host = address.partition("://")
    return replace(endpoint(host, registries.get(host, Registry()), base), scheme=scheme, only_here=False)
