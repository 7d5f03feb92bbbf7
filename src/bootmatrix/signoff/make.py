"""Write a sign-off into the run's folder, and verify one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.history.values import Comparison
from bootmatrix.model import Run
from bootmatrix.signoff.content import Acceptance, SignOff, sign_off
from bootmatrix.signoff.manifest import (
    MANIFEST_FILE,
    MAX_BYTES,
    SIGNOFF_FOLDER,
    differences,
    manifest_of,
    read_lines,
    sha256_of,
    without_signoff,
    write_lines,
)
from bootmatrix.signoff.page import print_pdf, render_signoff
from bootmatrix.signoff.statement import (
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    WrongSignature,
    as_bytes,
    opened,
    sign,
    statement,
)

PAGE_FILE = "signoff.html"
PDF_FILE = "signoff.pdf"
STATEMENT_FILE = "attestation.json"
ENVELOPE_FILE = "attestation.dsse.json"
BUNDLE_FILE = "attestation.sigstore.json"
"""What sigstore's tools leave when they sign the statement; it is theirs to verify."""


@dataclass(frozen=True)
class Request:
    """What to sign off, and how. `key` is a private key's file; without one nothing is signed."""

    folder: Path
    run: Run
    release: str
    acceptances: Sequence[Acceptance] = ()
    comparison: Comparison | None = None
    key: Path | None = None
    pdf: bool = True


@dataclass(frozen=True)
class Written:
    """What was written, and where. `notes` say what is missing of it."""

    folder: Path
    signed: SignOff
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """What came of checking a sign-off: it holds if there are no faults. `statement` is empty if it cannot be read."""

    release: str
    is_signed: bool
    faults: tuple[str, ...]
    statement: dict[str, Any]
    file_count: int = 0


def write_signoff(request: Request) -> Written:
    """Sign a run off: all of its files appear at once, or none.

    Raises:
        InputError: the run is not fit for it, is signed off under this name already, or the key is none.
        OSError: something cannot be read or written.
    """
    target = request.folder / SIGNOFF_FOLDER / request.release
    if target.exists():
        raise InputError(f"{target} is there already", "Choose another --release, or remove that folder first.")
    manifest = without_signoff(manifest_of(request.folder))
    lines = write_lines(manifest)
    (request.folder / SIGNOFF_FOLDER).mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{request.release}.", suffix=".part", dir=target.parent))
    try:
        (work / MANIFEST_FILE).write_bytes(lines)
        signed = sign_off(
            request.run,
            release=request.release,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            acceptances=request.acceptances,
            comparison=request.comparison,
            manifest_sha256=sha256_of(work / MANIFEST_FILE),
        )
        notes = _write(work, signed, request)
        _make_durable(work)
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        if not any(target.parent.iterdir()):
            target.parent.rmdir()
        raise
    return Written(target, signed, notes)


def _write(work: Path, signed: SignOff, request: Request) -> tuple[str, ...]:
    (work / PAGE_FILE).write_bytes(render_signoff(signed))
    fault = print_pdf(work / PAGE_FILE, work / PDF_FILE) if request.pdf else ""
    names = [MANIFEST_FILE, PAGE_FILE, *([PDF_FILE] if (work / PDF_FILE).exists() else [])]
    payload = as_bytes(statement(signed, {name: sha256_of(work / name) for name in names}))
    if request.key:
        (work / ENVELOPE_FILE).write_bytes(sign(payload, request.key))
    else:
        (work / STATEMENT_FILE).write_bytes(payload)
    unsigned = "" if request.key else "not signed: give --sign-key KEY to protect it against more than accidents"
    return tuple(note for note in (fault, unsigned) if note)


def _make_durable(work: Path) -> None:
    work.chmod(0o755)
    for file in work.iterdir():
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def verify_signoff(folder: Path, release: str, key: Path | None) -> Checked:
    """Hold a sign-off, and all files of its run, against its attestation.

    With a public key nothing holds but a sign-off that is signed by it. Without one, only unsigned ones are checked.

    Raises:
        InputError: there is no such sign-off, it is signed and no key is given, or the key is none.
        OSError: a file cannot be read.
    """
    place = folder / SIGNOFF_FOLDER / release
    envelope = place / ENVELOPE_FILE
    if not place.is_dir() or place.is_symlink():
        raise InputError(
            f"{place}: there is no such sign-off", "Make one with 'bootmatrix signoff RUN --release NAME'."
        )
    if key is None and envelope.is_file():
        raise InputError(f"{envelope}: it is signed", "Give the public key with --key, so that it can be verified.")
    try:
        payload = _payload(place, key)
        told = _statement(payload)
    except WrongSignature as error:
        return Checked(release, key is not None, (str(error),), {})
    faults = list(_faults(folder, place, told))
    count = len(without_signoff(manifest_of(folder))) if not faults else 0
    return Checked(release, key is not None, tuple(faults), told, count)


def _payload(place: Path, key: Path | None) -> bytes:
    if key is None:
        return _read(place / STATEMENT_FILE)
    if not (place / ENVELOPE_FILE).is_file():
        raise WrongSignature(f"{place / ENVELOPE_FILE} is missing: this sign-off is not signed")
    return opened(_read(place / ENVELOPE_FILE), key)


def _read(file: Path) -> bytes:
    if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise WrongSignature(f"{file} is missing, or no plain file of a plausible size")
    return file.read_bytes()


def _statement(payload: bytes) -> dict[str, Any]:
    """The statement in a payload, of the form that we write."""
    try:
        found = json.loads(payload)
        digests = {one["name"]: one["digest"]["sha256"] for one in found["predicate"]["configuration"]}
        if (found["_type"], found["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE) or MANIFEST_FILE not in digests:
            raise WrongSignature("the attestation is not one of a sign-off")
    except (ValueError, KeyError, TypeError) as error:
        raise WrongSignature(f"the attestation cannot be read: {type(error).__name__}: {error}") from error
    return dict(found)


def _faults(folder: Path, place: Path, told: dict[str, Any]) -> list[str]:
    """What is not as it was signed: of what stands beside the attestation, then of the run."""
    digests = {one["name"]: one["digest"]["sha256"] for one in told["predicate"]["configuration"]}
    beside = {name: digest for name, digest in digests.items() if name in {MANIFEST_FILE, PAGE_FILE, PDF_FILE}}
    here = manifest_of(place)
    for name in (STATEMENT_FILE, ENVELOPE_FILE, BUNDLE_FILE):
        here.pop(name, None)
    faults = [f"{SIGNOFF_FOLDER}/{place.name}/{fault}" for fault in differences(beside, here)]
    if faults:
        return faults
    signed = read_lines((place / MANIFEST_FILE).read_bytes())
    return differences(signed, without_signoff(manifest_of(folder)))
