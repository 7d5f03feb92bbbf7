"""In-toto attestation: Statement v1, test-result v0.1, in DSSE.

https://github.com/in-toto/attestation: spec/v1/statement.md, spec/predicates/test-result.md
"""

import base64
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error, UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from bootmatrix.errors import InputError
from bootmatrix.report.sanitize import one_line
from bootmatrix.signoff.content import Digest, SignOff, weaker_evidence
from bootmatrix.signoff.manifest import MANIFEST_FILE

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PASSWORD = "BOOTMATRIX_SIGN_PASSWORD"  # noqa: S105
"""Environment variable with the password of the private key."""
MAX_SIGNATURES = 100
MARK = b'"verificationMaterial"'
"""Key that each bundle has, and no envelope."""


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


def statement(signed: SignOff, files: dict[str, str]) -> dict[str, Any]:
    """Make the Statement; `files` are digests of manifest and page."""
    verdicts = {record.cell.id: record for record in signed.records}
    failed = {deviation.cell for deviation in signed.deviations if not deviation.expected}
    warned = {deviation.cell for deviation in signed.deviations} - failed
    return {
        "_type": STATEMENT_TYPE,
        "subject": [_descriptor(digest) for digest in signed.subjects],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": signed.result,
            "configuration": [
                *(
                    {"name": name, "digest": {"sha256": digest}, "annotations": _annotations(signed)}
                    if name == MANIFEST_FILE
                    else {"name": name, "digest": {"sha256": digest}}
                    for name, digest in files.items()
                ),
                *(_descriptor(digest) for digest in signed.others),
            ],
            "passedTests": [name for name in verdicts if name not in failed | warned],
            "warnedTests": [name for name in verdicts if name in warned],
            "failedTests": [name for name in verdicts if name in failed],
        },
    }


def _descriptor(digest: Digest) -> dict[str, Any]:
    return {"name": one_line(f"{digest.kind} {digest.name}"), "digest": {"sha256": digest.sha256}}


def _annotations(signed: SignOff) -> dict[str, Any]:
    """Return the annotations: the rest of the page's content."""
    run, comparison = signed.run, signed.comparison
    return {
        "release": signed.release,
        "run": run.name,
        "tested": [one_line(str(product)) for product in signed.products],
        "startedAt": run.started_at,
        "signedOffAt": signed.date,
        "bootmatrix": run.tool_version,
        "qemu": [one_line(version) for version in signed.qemu],
        "host": {one_line(name): one_line(value) for name, value in run.host.items()},
        "baseline": comparison.baseline if comparison else "",
        "regressions": [change.id for change in comparison.regressions] if comparison else [],
        "emptyFolders": list(signed.empty_folders),
        "notTestedUnlikeBaseline": list(signed.gone),
        "forked": list(signed.forked),
        "weakerEvidence": weaker_evidence(signed.records),
        "qemuArguments": {
            record.cell.id: [one_line(word) for word in record.cell.qemu_args]
            for record in signed.records
            if record.cell.qemu_args
        },
        "exceptions": [
            {
                "cell": entry.cell,
                "verdict": entry.verdict,
                "reason": one_line(entry.reason),
                "accepted": one_line(entry.accepted),
                "by": one_line(entry.by),
            }
            for entry in signed.deviations
        ],
        "skipped": {record.cell.id: one_line(record.judgement.reason) for record in signed.skips},
    }


def as_bytes(value: object) -> bytes:
    """Format JSON, for signing."""
    return (json.dumps(value, indent=1) + "\n").encode()


def sign(payload: bytes, key_file: Path) -> bytes:
    """Sign a Statement as DSSE by a PEM key: Ed25519, ECDSA or RSA.

    Raises InputError if the key is invalid, or its password is missing or wrong.
    """
    signer = _signer(key_file)
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return as_bytes(envelope.to_dict())


def _signer(key_file: Path) -> CryptoSigner:
    password = os.environ.get(PASSWORD)
    try:
        data = key_file.read_bytes()
        key = load_pem_private_key(data, password.encode() if password else None)
        return CryptoSigner(key)
    except (ValueError, TypeError, UnsupportedAlgorithm, Error) as error:
        reason = error if b"PRIVATE KEY" in data else _found(data) or error
        raise InputError(f"{key_file}: not a private key that can sign: {reason}", _KEY_HINT) from error
    except OSError as error:
        raise InputError(f"{key_file}: cannot be read: {error.strerror}") from error


def key_id(key_file: Path) -> str:
    """Return the id of a private key, which its public key has too.

    Raises InputError if the key is invalid, or its password is missing or wrong.
    """
    return str(_signer(key_file).public_key.keyid)


def opened(data: bytes, key_file: Path) -> bytes:
    """Return the payload of an envelope that a public key in PEM verifies.

    A signature's `keyid` is a hint that signers may leave out, and that nothing authenticates: it decides nothing.

    Raises InputError if the file is not a public key, WrongSignature if the envelope is invalid, or not signed with
    this key.
    """
    key = _public_key(key_file)
    payload_type, payload, signatures = _envelope_of(data)
    if payload_type != PAYLOAD_TYPE:
        raise WrongSignature(f"payload type: expected an in-toto statement, found {one_line(payload_type)}")
    signed = Envelope(payload, payload_type, {}).pae()
    for signature in signatures:
        with suppress(UnverifiedSignatureError):
            key.verify_signature(Signature(key.keyid, signature.hex()), signed)
            return payload
    raise WrongSignature("not signed with this key")


def _public_key(file: Path) -> SSlibKey:
    """Read a public key, as SubjectPublicKeyInfo or PKCS #1.

    Raises InputError if the file is not a public key, or of an unsupported kind.
    """
    try:
        data = file.read_bytes()
        return SSlibKey.from_crypto(load_pem_public_key(data))
    except (ValueError, TypeError, UnsupportedAlgorithm, Error) as error:
        raise InputError(f"{file}: not a public key: {_found(data) or error}", _KEY_HINT) from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error


def _found(data: bytes) -> str:
    """Describe the contents of a PEM file by its label; empty without one."""
    label = re.match(rb"\s*-----BEGIN ([A-Z0-9 ]{1,40})-----", data)
    return f"the file holds a {label[1].decode()}" if label else ""


def _envelope_of(data: bytes) -> tuple[str, bytes, list[bytes]]:
    """Return an envelope's type, payload, signatures, in any base64 of DSSE.

    Raises WrongSignature if the envelope is invalid.
    """
    try:
        envelope = json.loads(data, object_pairs_hook=_without_doubles)
        _check_keys(envelope, {"payloadType", "payload", "signatures"})
        payload_type, entries = envelope["payloadType"], envelope["signatures"]
        if not isinstance(payload_type, str) or not isinstance(entries, list) or len(entries) > MAX_SIGNATURES:
            raise ValueError("no payload type, or no list of up to 100 signatures")
        for entry in entries:
            _check_keys(entry, {"keyid", "sig"})
        return payload_type, _decoded(envelope["payload"]), [_decoded(entry["sig"]) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongSignature(f"invalid envelope: {one_line(f'{type(error).__name__}: {error}')}") from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON. Raises ValueError on a key that comes twice."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key comes twice")
    return fields


def _check_keys(found: dict[str, Any], known: set[str]) -> None:
    """Refuse what no signature covers, and a reader might take for signed.

    Raises ValueError if there is another key.
    """
    other = next((key for key in found if key not in known), None)
    if other is not None:
        raise ValueError(f"the key {other[:80]!r} is unknown")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)


class WrongSignature(Exception):
    """Invalid signature."""


_KEY_HINT = (
    f"Keys are PEM files, as 'openssl genpkey -algorithm ed25519' writes them: Ed25519, ECDSA (P-256, P-384, P-521) or "
    f"RSA, as PKCS #8 and SubjectPublicKeyInfo or as PKCS #1. A password is taken from {PASSWORD}."
)
