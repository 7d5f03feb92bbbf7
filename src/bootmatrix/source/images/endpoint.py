"""How a registry is spoken to: by which address, over TLS or not, and whose certificates are believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.errors import InputError
from bootmatrix.model import Registry
from bootmatrix.source.addresses import is_loopback
from bootmatrix.source.images.reference import DOCKER_HUB

if TYPE_CHECKING:
    import ssl

HUB_HOST = "registry-1.docker.io"
"""Where Docker's own registry is, whose name is another one."""
CERTS_FOLDERS = (Path("/etc/docker/certs.d"), Path("~/.config/docker/certs.d"))
"""Where Docker looks for a registry's certificates, in a folder `host[:port]`: `*.crt`, and `*.cert` with `*.key`."""


@dataclass(frozen=True)
class Endpoint:
    """A registry, or a mirror of one. `name` is what credentials are kept under; `ca` are files of certificates.

    `only_here`: it is spoken to without TLS since it is this machine, and on no other ground.
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
        """Below which the distribution protocol begins."""
        return f"{self.scheme}://{self.host}/v2"

    @property
    def hostname(self) -> str:
        """The host without its port."""
        import httpx  # it takes long to load

        return httpx.URL(f"{self.scheme}://{self.host}").host

    def tls(self, *, with_custom_kernels: bool = True) -> ssl.SSLContext:
        """What decides whether a certificate is believed: the host's own, SSL_CERT_FILE, and those of `ca`.

        It shows our own certificate, if there is one, unless `with_own` is false.

        Raises:
            InputError: a file of certificates or a key cannot be read.
        """
        import httpx

        with _faults("SSL_CERT_FILE or SSL_CERT_DIR", "no certificates (PEM)"):
            context = httpx.create_ssl_context()
        for file in self.ca:
            with _faults(file, "no file of certificates (PEM)"):
                context.load_verify_locations(file)
        if self.client_certificate and with_custom_kernels:
            certificate, key = self.client_certificate
            with _faults(certificate, f"no certificate (PEM), or {key} not its key, or a key with a password"):
                context.load_cert_chain(certificate, key, password="")  # without one, OpenSSL asks the terminal
        return context


@contextmanager
def _faults(place: Path | str, what: str) -> Iterator[None]:
    """What OpenSSL does not take, as a fault of a file.

    Raises:
        InputError: it is one.
    """
    try:
        yield
    except OSError as error:  # which ssl.SSLError is one of
        raise InputError(f"{place}: this is {what}: {error}") from error


def endpoints_of(registry: str, known: Mapping[str, Registry], base: Path) -> list[Endpoint]:
    """Where an image of a registry may be had: its mirrors in their order, and the registry itself at last.

    `base` is the folder that paths of the settings are from.
    """
    own = known.get(registry, Registry())
    return [*(_mirror(address, known, base) for address in own.mirrors), endpoint(registry, own, base)]


def endpoint(name: str, settings: Registry, base: Path) -> Endpoint:
    """A registry itself."""
    found = Endpoint(name, "https", HUB_HOST if name == DOCKER_HUB else name, realms=settings.realms)
    folder = next((one for parent in CERTS_FOLDERS if (one := parent.expanduser() / name).is_dir()), None)
    if folder:
        pairs = [(file, file.with_suffix(".key")) for file in sorted(folder.glob("*.cert"))]
        own = next((pair for pair in pairs if pair[1].is_file()), None)
        found = replace(found, ca=tuple(sorted(folder.glob("*.crt"))), client_certificate=own)
    if settings.ca:
        found = replace(found, ca=(*found.ca, base / settings.ca))
    is_plain = settings.plain_http
    if is_plain is None and is_loopback(found.hostname) and not found.ca:
        return replace(found, scheme="http", only_here=True)
    return replace(found, scheme="http") if is_plain else found


def _mirror(address: str, known: Mapping[str, Registry], base: Path) -> Endpoint:
    scheme, _, host = address.partition("://")
    return replace(endpoint(host, known.get(host, Registry()), base), scheme=scheme, only_here=False)
