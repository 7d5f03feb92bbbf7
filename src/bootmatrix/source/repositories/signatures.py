"""OpenPGP signatures of repositories: detached ones, checked by gpgv."""

import base64
import binascii
import re
from collections.abc import Collection
from pathlib import Path

from bootmatrix.errors import UntrustedError
from bootmatrix.source.release import explain, run_gpgv
from bootmatrix.store import temporary_folder

_ARMOUR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.DOTALL)
_VALID = re.compile(r"^\[GNUPG:\] VALIDSIG ([0-9A-F]{40,64})(?: \S+){8} ([0-9A-F]{40,64})", re.MULTILINE)
"""GnuPG's doc/DETAILS: the fingerprints of the signing key and of its primary key."""
SIGNATURE_LIMIT_BYTES = 1 << 20


def binary_keys(data: bytes) -> bytes:
    """Return keys as gpgv reads them: without ASCII armour (RFC 9580, section 6).

    Raises ValueError if the armour is damaged.
    """
    blocks = _ARMOUR.findall(data)
    return b"".join(map(_unarmoured, blocks)) if blocks else data


def _unarmoured(block: bytes) -> bytes:
    lines = block.replace(b"\r", b"").split(b"\n")
    blank = next((number for number, line in enumerate(lines) if number and not line.strip()), 0)
    body = [line for line in lines[blank:] if line and not line.startswith(b"=")]
    try:
        return base64.b64decode(b"".join(body), validate=True)
    except binascii.Error as error:
        raise ValueError(f"invalid ASCII armour: {error}") from error


def check_detached(
    signed: bytes | Path, signature: bytes, keyring: Path, label: str, revoked: Collection[str] = ()
) -> None:
    """Check that a key of the keyring signed a file. `label` names it in errors.

    As for apt, one good signature is enough: the file may also be signed by unknown keys.

    Raises UntrustedError without a good signature, or with a bad one, or one of a revoked key; HostError if gpgv is
    missing.
    """
    with temporary_folder() as folder:
        file = folder / "signature"
        file.write_bytes(signature[: SIGNATURE_LIMIT_BYTES + 1])
        if isinstance(signed, bytes):
            data = folder / "data"
            data.write_bytes(signed)
        else:
            data = signed
        status = run_gpgv(["--keyring", str(keyring), str(file), str(data)])
    words = {line.split(" ")[1] for line in status.splitlines() if line.startswith("[GNUPG:] ")}
    if "GOODSIG" not in words or "BADSIG" in words:
        raise UntrustedError(
            f"{label} is not signed by a key of its distribution: {explain(status)}",
            "Update bootmatrix's catalogue (its 'keys'), or name newer keys in one of your own: docs/kernels.md.",
        )
    fingerprints = {name for match in _VALID.finditer(status) for name in match.groups()}
    if fingerprints & set(revoked):
        raise UntrustedError(f"{label} is signed by a revoked key: {', '.join(sorted(fingerprints & set(revoked)))}")
