"""A sign-off as an in-toto attestation: a Statement v1 with the predicate test-result v0.1, signed in a DSSE envelope.

https://github.com/in-toto/attestation: spec/v1/statement.md, spec/predicates/test-result.md
"""

from __future__ import annotations

import base64
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error, UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from bootmatrix.errors import InputError
from bootmatrix.report.sanitize import one_line
from bootmatrix.signoff.content import Digest, SignOff
from bootmatrix.signoff.manifest import MANIFEST_FILE

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PASSWORD = "BOOTMATRIX_SIGN_PASSWORD"  # noqa: S105
"""Environment variable with the password of a private key that has one."""
MAX_SIGNATURES = 100


def statement(signed: SignOff, files: dict[str, str]) -> dict[str, Any]:
    """The Statement. `files` are the digests of what stands beside it: the manifest, the page."""
    verdicts = {record.cell.id: record for record in signed.records}
    failed = {one.cell for one in signed.deviations if not one.expected}
    warned = {one.cell for one in signed.deviations} - failed
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": _name(one), "digest": {"sha256": one.sha256}} for one in signed.subjects],
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
                *({"name": _name(one), "digest": {"sha256": one.sha256}} for one in signed.others),
            ],
            "passedTests": [name for name in verdicts if name not in failed | warned],
            "warnedTests": [name for name in verdicts if name in warned],
            "failedTests": [name for name in verdicts if name in failed],
        },
    }


def _name(one: Digest) -> str:
    return one_line(f"{one.kind} {one.name}")


def _annotations(signed: SignOff) -> dict[str, Any]:
    """What else the page says."""
    run, comparison = signed.run, signed.comparison
    return {
        "release": signed.release,
        "run": run.name,
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
        "qemuArguments": {
            record.cell.id: [one_line(word) for word in record.cell.qemu_args]
            for record in signed.records
            if record.cell.qemu_args
        },
        "exceptions": [
            {
                "cell": one.cell,
                "verdict": one.verdict,
                "reason": one_line(one.reason),
                "accepted": one_line(one.accepted),
                "by": one_line(one.by),
            }
            for one in signed.deviations
        ],
        "skipped": {record.cell.id: one_line(record.judgement.reason) for record in signed.skips},
    }


def as_bytes(value: object) -> bytes:
    """JSON for people and for signing."""
    return (json.dumps(value, indent=1) + "\n").encode()


def sign(payload: bytes, key_file: Path) -> bytes:
    """A DSSE envelope around a Statement, signed by a private key in PEM: ed25519, ECDSA or RSA.

    Raises:
        InputError: the file is no such key, or its password is missing or wrong.
    """
    password = os.environ.get(PASSWORD)
    try:
        data = key_file.read_bytes()
        key = load_pem_private_key(data, password.encode() if password else None)
        signer = CryptoSigner(key)
    except (ValueError, TypeError, UnsupportedAlgorithm, Error) as error:
        reason = error if b"PRIVATE KEY" in data else _found(data) or error
        raise InputError(f"{key_file}: not a private key that can sign: {reason}", _KEY_HINT) from error
    except OSError as error:
        raise InputError(f"{key_file}: cannot be read: {error.strerror}") from error
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return as_bytes(envelope.to_dict())


def opened(data: bytes, key_file: Path) -> bytes:
    """Return the payload of an envelope that a public key in PEM verifies.

    A signature's `keyid` is a hint that signers may leave out, and that nothing authenticates: it decides nothing.

    Raises:
        InputError: the file is no public key.
        WrongSignature: the envelope is not signed by it, or is none.
    """
    key = _public_key(key_file)
    payload_type, payload, signatures = _envelope_of(data)
    if payload_type != PAYLOAD_TYPE:
        raise WrongSignature(f"its payload is no in-toto statement but {one_line(payload_type)}")
    signed = Envelope(payload, payload_type, {}).pae()
    for signature in signatures:
        with suppress(UnverifiedSignatureError):
            key.verify_signature(Signature(key.keyid, signature.hex()), signed)
            return payload
    raise WrongSignature("the signature is not of this key")


def _public_key(file: Path) -> SSlibKey:
    """Read a public key, as SubjectPublicKeyInfo or PKCS #1.

    Raises:
        InputError: it is none, or of a kind that signs nothing here.
    """
    try:
        data = file.read_bytes()
        return SSlibKey.from_crypto(load_pem_public_key(data))
    except (ValueError, TypeError, UnsupportedAlgorithm, Error) as error:
        raise InputError(f"{file}: not a public key: {_found(data) or error}", _KEY_HINT) from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error


def _found(data: bytes) -> str:
    """Name what a PEM file begins with; empty for a file of no such form."""
    label = re.match(rb"\s*-----BEGIN ([A-Z0-9 ]{1,40})-----", data)
    return f"the file holds a {label[1].decode()}" if label else ""


def _envelope_of(data: bytes) -> tuple[str, bytes, list[bytes]]:
    """Return payload type, payload and signatures of an envelope; base64 of either alphabet, as DSSE has it.

    Raises:
        WrongSignature: it is none.
    """
    try:
        found = json.loads(data)
        payload_type, entries = found["payloadType"], found["signatures"]
        if not isinstance(payload_type, str) or not isinstance(entries, list) or len(entries) > MAX_SIGNATURES:
            raise ValueError("no payload type, or no list of up to 100 signatures")
        return payload_type, _decoded(found["payload"]), [_decoded(entry["sig"]) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongSignature(f"the envelope cannot be read: {one_line(f'{type(error).__name__}: {error}')}") from error


def _decoded(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)


class WrongSignature(Exception):
    """A signature that does not hold."""


_KEY_HINT = (
    f"Keys are PEM files, as 'openssl genpkey -algorithm ed25519' writes them: Ed25519, ECDSA (P-256, P-384, P-521) or "
    f"RSA, as PKCS #8 and SubjectPublicKeyInfo or as PKCS #1. A password is taken from {PASSWORD}."
)
