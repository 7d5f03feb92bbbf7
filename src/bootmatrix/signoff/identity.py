"""Signatures by an identity in place of a key: certificates of a minute, in a public log, by sigstore.

Its bundles hold all that a verification needs: nothing is asked of its services then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.errors import HostError, InfraError, InputError
from bootmatrix.report.sanitize import one_line
from bootmatrix.signoff.statement import PAYLOAD_TYPE, WrongSignature

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig, TrustedRoot
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity as Policy

TOKEN = "SIGSTORE_ID_TOKEN"  # noqa: S105
"""Environment variable with an identity's token, as cosign takes it. Elsewhere the CI system is asked for one."""
MARK = b'"verificationMaterial"'
"""Key that each bundle has, and no envelope."""
TRUST_HINT = "Name a ClientTrustConfig of sigstore, or a TrustedRoot for 'verify'."


@dataclass(frozen=True)
class Identity:
    """An identity that a sign-off is to be signed by, and the one who certified it.

    `trust` is the file of another sigstore instance; None means the public one.
    """

    name: str
    issuer: str
    trust: Path | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.issuer})"


def token_of_environment() -> str:
    """Return the token of the environment's identity. Raises InputError if it has no identity."""
    with _sigstore():
        from sigstore.oidc import detect_credential

        token = os.environ.get(TOKEN) or detect_credential()
    if not token:
        raise InputError(
            "--sign-identity: no identity token",
            f"Run it in a CI job that may ask for one (GitHub: 'permissions: id-token: write'), or set {TOKEN}.",
        )
    return token


def name_in(token: str) -> str:
    """Return the name of a token's identity. Raises InputError if it is not a token for sigstore, or has expired."""
    with _sigstore():
        from sigstore.oidc import IdentityError, IdentityToken

        try:
            return IdentityToken(token).identity
        except IdentityError as error:
            words = one_line(f"{error}: {error.__cause__}" if error.__cause__ else str(error))
            raise InputError(
                f"--sign-identity: {words}", "The token must be one for the audience 'sigstore'."
            ) from error


def sign_by_identity(payload: bytes, token: str, trust: Path | None) -> bytes:
    """Sign a Statement with a new certificate of the token's identity; return the bundle.

    Raises:
        InputError: invalid token or trust configuration.
        InfraError: a service of sigstore cannot be reached, or refuses.
    """
    with _sigstore():
        import requests
        from sigstore import errors
        from sigstore._internal.fulcio.client import FulcioClientError
        from sigstore._internal.rekor import RekorClientError
        from sigstore.dsse import Statement
        from sigstore.models import ClientTrustConfig
        from sigstore.oidc import IdentityToken
        from sigstore.sign import SigningContext

        name_in(token)
        try:
            config = _config(trust) if trust else ClientTrustConfig.production()
            context = SigningContext.from_trust_config(config)
            with context.signer(IdentityToken(token)) as signer:
                return signer.sign_dsse(Statement(payload)).to_json().encode() + b"\n"
        except (requests.RequestException, errors.Error, FulcioClientError, RekorClientError, ValueError) as error:
            reason = one_line(str(error.__cause__ or error) or type(error).__name__)
            raise InfraError(f"sigstore did not sign: {reason}", "Try again; the run is not changed.") from error


def opened_by_identity(data: bytes, identity: Identity, statement: bytes | None = None) -> bytes:
    """Return the payload of a bundle that an identity signed. Needs no network.

    Args:
        data: the bundle.
        identity: the identity.
        statement: the payload, if the bundle signs a file beside it, as `cosign sign-blob` makes it.

    Raises:
        InputError: invalid trust configuration.
        WrongSignature: the bundle is invalid, or not signed by this identity.
    """
    with _sigstore():
        from sigstore import errors
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify import Verifier
        from sigstore.verify.policy import Identity as Policy

        verifier = Verifier(trusted_root=_root(identity.trust))
        policy = Policy(identity=identity.name, issuer=identity.issuer)
        try:
            return _payload(verifier, Bundle.from_json(data), policy, statement)
        except (errors.Error, InvalidBundle, ValueError) as error:
            raise WrongSignature(f"not signed by {identity}: {one_line(str(error), 300)}") from error


def _payload(verifier: Verifier, bundle: object, policy: Policy, statement: bytes | None) -> bytes:
    from sigstore.models import Bundle

    assert isinstance(bundle, Bundle)
    if statement is not None:
        verifier.verify_artifact(statement, bundle, policy)
        return statement
    payload_type, payload = verifier.verify_dsse(bundle, policy)
    if payload_type != PAYLOAD_TYPE:
        raise WrongSignature(f"payload type: expected an in-toto statement, found {one_line(payload_type)}")
    return payload


def _root(trust: Path | None) -> TrustedRoot:
    from sigstore.models import ClientTrustConfig, TrustedRoot

    if trust is None:
        return ClientTrustConfig.production(offline=True).trusted_root
    if b"clienttrustconfig" in _read(trust):
        return _config(trust).trusted_root
    with _valid(trust):
        return TrustedRoot.from_file(str(trust))


def _config(trust: Path) -> ClientTrustConfig:
    from sigstore.models import ClientTrustConfig

    with _valid(trust):
        return ClientTrustConfig.from_json(_read(trust).decode())


@contextmanager
def _valid(trust: Path) -> Iterator[None]:
    from sigstore.errors import Error

    try:
        yield
    except (ValueError, Error) as error:
        raise InputError(f"{trust}: {one_line(str(error), 200)}", TRUST_HINT) from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}", TRUST_HINT) from error


@contextmanager
def _sigstore() -> Iterator[None]:
    """Name the extra if sigstore is not installed."""
    logging.getLogger("sigstore").setLevel(logging.ERROR)  # it warns of each use without a network
    try:
        yield
    except ModuleNotFoundError as error:
        hint = "Install it: pip install 'bootmatrix[sigstore]'"
        raise HostError("signatures by an identity need sigstore", hint) from error
