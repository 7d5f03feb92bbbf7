"""A sign-off as an in-toto attestation: a Statement v1 with the predicate test-result v0.1, signed in a DSSE envelope.

https://github.com/in-toto/attestation: spec/v1/statement.md, spec/predicates/test-result.md
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.report.harmless import one_line
from bootmatrix.signoff.content import Digest, SignOff
from bootmatrix.signoff.manifest import MANIFEST_FILE

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PASSWORD = "BOOTMATRIX_SIGN_PASSWORD"  # noqa: S105
"""Environment variable with the password of a private key that has one."""


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
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error
    from securesystemslib.signer import CryptoSigner

    password = os.environ.get(PASSWORD)
    try:
        key = load_pem_private_key(key_file.read_bytes(), password.encode() if password else None)
        signer = CryptoSigner(key)
    except (ValueError, TypeError, UnsupportedAlgorithm, Error) as error:
        raise InputError(f"{key_file}: not a private key that can sign: {error}", _KEY_HINT) from error
    except OSError as error:
        raise InputError(f"{key_file}: cannot be read: {error.strerror}") from error
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return as_bytes(envelope.to_dict())


def opened(data: bytes, key_file: Path) -> bytes:
    """The payload of an envelope that a public key in PEM verifies.

    Raises:
        InputError: the file is no public key.
        WrongSignature: the envelope is not signed by it, or is none.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error
    from securesystemslib.signer import SSlibKey

    try:
        key = SSlibKey.from_crypto(load_pem_public_key(key_file.read_bytes()))
    except (ValueError, UnsupportedAlgorithm, Error) as error:
        raise InputError(f"{key_file}: not a public key: {error}", _KEY_HINT) from error
    except OSError as error:
        raise InputError(f"{key_file}: cannot be read: {error.strerror}") from error
    try:
        envelope = Envelope.from_dict(json.loads(data))
        if envelope.payload_type != PAYLOAD_TYPE:
            raise WrongSignature(f"its payload is no in-toto statement but {one_line(envelope.payload_type)}")
        envelope.verify([key], 1)
    except (Error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongSignature(f"the signature is not of this key: {one_line(str(error))}") from error
    return envelope.payload


class WrongSignature(Exception):
    """A signature that does not hold."""


_KEY_HINT = (
    f"Keys are PEM files, as 'openssl genpkey -algorithm ed25519' writes them; a password is taken from {PASSWORD}."
)
