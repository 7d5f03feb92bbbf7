"""Keys of one run's cluster, and Dask's configuration."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import dask
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed.security import Security

from bootmatrix.packaged import packaged_table

LOOPBACK = "127.0.0.1"
VALID_FROM, VALID_TO = datetime(2000, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, tzinfo=UTC)
"""A host whose clock is wrong still takes the certificate. The key lives for one run."""
LOGGERS = ("distributed", "distributed.client", "tornado", "tornado.application", "asyncssh")


@dataclass(frozen=True)
class RunKeys:
    """A certificate and key in PEM, its own authority: both ends have it."""

    certificate: str
    key: str

    def security(self, authority: str = "") -> Security:
        """Return Dask's form that demands TLS; `authority` is PEM."""
        ends = ("scheduler", "worker", "client")
        pairs = {f"tls_{end}_{part}": value for end in ends for part, value in self._parts()}
        return Security(tls_ca_file=authority or self.certificate, require_encryption=True, **pairs)

    def _parts(self) -> tuple[tuple[str, str], ...]:
        return ("cert", self.certificate), ("key", self.key)


def make_run_keys() -> RunKeys:
    """Make a key and its certificate for one run."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bootmatrix run")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_TO)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return RunKeys(certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode())


def dask_version() -> str:
    """Return the version of `distributed`, which must be the same on both ends."""
    return version("distributed")


def configure() -> None:
    """Set Dask's configuration, and silence its log."""
    dask.config.set(packaged_table("execute/dask/config.toml"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.propagate = False
