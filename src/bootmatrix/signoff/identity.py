"""Signatures by an identity, with sigstore: short certificates in a log.

Its bundles hold all that a verification needs: nothing is asked of its services then. Importing this needs sigstore.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootmatrix.errors import HostError, InfraError, InputError, readable
from bootmatrix.report.sanitize import one_line
from bootmatrix.signoff.statement import PAYLOAD_TYPE, Identity, WrongSignature

try:
    import requests
    from sigstore._internal.fulcio.client import FulcioClientError
    from sigstore._internal.rekor import RekorClientError
    from sigstore.dsse import Statement
    from sigstore.errors import Error
    from sigstore.models import Bundle, ClientTrustConfig, InvalidBundle, TrustedRoot
    from sigstore.oidc import IdentityError, IdentityToken, detect_credential
    from sigstore.sign import SigningContext
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity as Policy
except ModuleNotFoundError as missing:
    hint = "Install it: pip install 'bootmatrix[sigstore]'"
    raise HostError("signatures by an identity need sigstore", hint) from missing

logging.getLogger("sigstore").setLevel(logging.ERROR)  # it warns of each use without a network

TOKEN = "SIGSTORE_ID_TOKEN"  # noqa: S105
"""Environment variable with an identity's token, as cosign takes it. Elsewhere the CI system is asked for one."""
TRUST_HINT = "Name a ClientTrustConfig of sigstore, or a TrustedRoot for 'verify'."


def token_of_environment() -> str:
    """Return the token of the environment's identity.

    Raises InputError if it has no identity.
    """
    token = os.environ.get(TOKEN) or detect_credential()
    if not token:
        raise InputError(
            "--sign-identity: no identity token",
            f"Run it in a CI job that may ask for one (GitHub: 'permissions: id-token: write'), or set {TOKEN}.",
        )
    return token


def name_in(token: str) -> str:
    """Return the name of a token's identity.

    Raises InputError if it is not a token for sigstore, or has expired.
    """
    try:
        return IdentityToken(token).identity
    except IdentityError as error:
        words = one_line(f"{error}: {error.__cause__}" if error.__cause__ else str(error))
        raise InputError(f"--sign-identity: {words}", "The token must be one for the audience 'sigstore'.") from error


def sign_by_identity(payload: bytes, token: str, trust: Path | None) -> bytes:
    """Sign a Statement with a new certificate of an identity; return the bundle.

    Raises InputError for an invalid token or trust configuration, InfraError if a service of sigstore cannot be
    reached, or refuses.
    """
    name_in(token)
    try:
        config = _config(trust) if trust else ClientTrustConfig.production()
        context = SigningContext.from_trust_config(config)
        with context.signer(IdentityToken(token)) as signer:
            return signer.sign_dsse(Statement(payload)).to_json().encode() + b"\n"
    except (requests.RequestException, Error, FulcioClientError, RekorClientError, ValueError) as error:
        reason = one_line(str(error.__cause__ or error) or type(error).__name__)
        raise InfraError(f"sigstore did not sign: {reason}", "Try again; the run is not changed.") from error


def opened_by_identity(data: bytes, identity: Identity, statement: bytes | None = None) -> bytes:
    """Return the payload of a bundle that an identity signed. Needs no network.

    Args:
        data: the bundle.
        identity: the identity.
        statement: the payload, if the bundle signs a file beside it, as `cosign sign-blob` makes it.

    Raises InputError for an invalid trust configuration, WrongSignature if the bundle is invalid, or not signed by this
    identity.
    """
    verifier = Verifier(trusted_root=_root(identity.trust))
    policy = Policy(identity=identity.name, issuer=identity.issuer)
    try:
        return _payload(verifier, Bundle.from_json(data), policy, statement)
    except (Error, InvalidBundle, ValueError) as error:
        raise WrongSignature(f"not signed by {identity}: {one_line(str(error), 300)}") from error


def _payload(verifier: Verifier, bundle: Bundle, policy: Policy, statement: bytes | None) -> bytes:
    if statement is not None:
        verifier.verify_artifact(statement, bundle, policy)
        return statement
    payload_type, payload = verifier.verify_dsse(bundle, policy)
    if payload_type != PAYLOAD_TYPE:
        raise WrongSignature(f"payload type: expected an in-toto statement, found {one_line(payload_type)}")
    return payload


def _root(trust: Path | None) -> TrustedRoot:
    if trust is None:
        return ClientTrustConfig.production(offline=True).trusted_root
    if b"clienttrustconfig" in _read(trust):
        return _config(trust).trusted_root
    with _valid(trust):
        return TrustedRoot.from_file(str(trust))


def _config(trust: Path) -> ClientTrustConfig:
    with _valid(trust):
        return ClientTrustConfig.from_json(_read(trust).decode())


@contextmanager
def _valid(trust: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, Error) as error:
        raise InputError(f"{trust}: {one_line(str(error), 200)}", TRUST_HINT) from error


def _read(file: Path) -> bytes:
    with readable(file, hint=TRUST_HINT):
        return file.read_bytes()
