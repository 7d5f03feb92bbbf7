"""Verification of a run and its sign-off against the attestation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.history.reference import TAG
from bootmatrix.signoff.manifest import (
    MANIFEST_FILE,
    MAX_BYTES,
    SIGNOFF_FOLDER,
    Survey,
    differences,
    outside_signoff,
    read_lines,
    survey,
    without_signoff,
)
from bootmatrix.signoff.statement import PREDICATE_TYPE, STATEMENT_TYPE, WrongSignature, opened

PAGE_FILE = "signoff.html"
PDF_FILE = "signoff.pdf"
STATEMENT_FILE = "attestation.json"
ENVELOPE_FILE = "attestation.dsse.json"
BUNDLE_FILE = "attestation.sigstore.json"
"""Sigstore's signature of the statement, left to its own tools to verify."""
_DIGESTED = {MANIFEST_FILE, PAGE_FILE, PDF_FILE}
_FORMS = ({ENVELOPE_FILE}, {STATEMENT_FILE}, {STATEMENT_FILE, BUNDLE_FILE})
"""Valid sets of attestation files: signed, unsigned, and unsigned with sigstore's."""


@dataclass(frozen=True)
class Checked:
    """Result of a verification: valid without faults. `statement` is empty if it cannot be read."""

    release: str
    is_signed: bool
    faults: tuple[str, ...]
    statement: dict[str, Any]
    file_count: int = 0


def verify_signoff(folder: Path, release: str, key: Path | None) -> Checked:
    """Verify a sign-off and all files of its run against its attestation.

    With a public key, only a sign-off signed by it is valid. Without a key, only unsigned ones can be checked.

    Raises:
        InputError: no such sign-off, a signed one without a key, or an invalid key.
        OSError: the run's folder cannot be listed.
    """
    place = folder / SIGNOFF_FOLDER / release
    if place.parent.is_symlink() or place.is_symlink() or not place.is_dir():
        raise InputError(f"{place}: no such sign-off", "Make one with 'bootmatrix signoff RUN --release NAME'.")
    envelope = place / ENVELOPE_FILE
    if key is None and envelope.is_file():
        raise InputError(f"{envelope}: the sign-off is signed", "Name the public key with --key to verify it.")
    contents = survey(folder)
    faults = [*contents.faults, *_out_of_place(contents)]
    try:
        attested = _statement(_payload(place, key))
        faults += [*_misattributed(attested, folder, release), *_changed(contents, place, attested)]
    except WrongSignature as error:
        return Checked(release, key is not None, (*faults, str(error)), {})
    return Checked(release, key is not None, tuple(faults), attested, len(without_signoff(contents.files)))


def _out_of_place(contents: Survey) -> Iterator[str]:
    """Describe unexpected entries in the folder of the sign-offs, of all releases."""
    beside: dict[str, set[str]] = {}
    for name in (*contents.files, *contents.empty):
        parts = PurePosixPath(name).parts
        if parts[0] != SIGNOFF_FOLDER:
            continue
        if name in contents.empty or len(parts) != 3 or not TAG.fullmatch(parts[1]):
            yield f"{name}: not part of the signed run"
        elif parts[2] not in _DIGESTED:
            beside.setdefault(parts[1], set()).add(parts[2])
        else:
            beside.setdefault(parts[1], set())
    for release, names in beside.items():
        if names not in _FORMS:
            yield from _unexpected(release, names)


def _unexpected(release: str, names: set[str]) -> Iterator[str]:
    place = f"{SIGNOFF_FOLDER}/{release}"
    if not names & {ENVELOPE_FILE, STATEMENT_FILE}:
        yield f"{place}: has no attestation"
    for name in sorted(names - ({ENVELOPE_FILE} if ENVELOPE_FILE in names else _FORMS[2])):
        yield f"{place}/{name}: not part of the signed run"


def _misattributed(attested: dict[str, Any], folder: Path, release: str) -> Iterator[str]:
    """Compare the signed release and run with their names here."""
    annotations = _annotations(attested)
    for kind, signed, actual in (
        ("release", annotations.get("release"), release),
        ("run", annotations.get("run"), folder.resolve().name),
    ):
        if signed != actual:
            yield f"the attestation is for {kind} {signed!r}, not {actual!r}"


def _changed(contents: Survey, place: Path, attested: dict[str, Any]) -> list[str]:
    """Describe the changes since the signature: first beside the attestation, then in the run."""
    above = f"{SIGNOFF_FOLDER}/{place.name}/"
    beside = {f"{above}{name}": digest for name, digest in _digests(attested).items() if name in _DIGESTED}
    current = {
        name: contents.files[name] for name in (f"{above}{name}" for name in _DIGESTED) if name in contents.files
    }
    faults = differences(beside, current)
    if faults:
        return faults
    try:
        signed = read_lines((place / MANIFEST_FILE).read_bytes())
    except InputError as error:
        raise WrongSignature(error.message) from error
    faults = differences(signed, without_signoff(contents.files))
    recorded = _annotations(attested).get("emptyFolders")
    empty = set(recorded) if isinstance(recorded, list) else set()
    return faults + [
        f"{name}: an empty folder that is not part of the signed run"
        for name in outside_signoff(contents.empty)
        if name not in empty
    ]


def _payload(place: Path, key: Path | None) -> bytes:
    if key is None:
        return _read(place / STATEMENT_FILE)
    if not (place / ENVELOPE_FILE).is_file():
        raise WrongSignature(f"{place / ENVELOPE_FILE} is missing: this sign-off is not signed")
    return opened(_read(place / ENVELOPE_FILE), key)


def _read(file: Path) -> bytes:
    if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise WrongSignature(f"{file}: missing, not a regular file, or too large")
    return file.read_bytes()


def _statement(payload: bytes) -> dict[str, Any]:
    """Parse a payload as a statement of a sign-off."""
    try:
        value = json.loads(payload)
        is_ours = (value["_type"], value["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
        if not is_ours or MANIFEST_FILE not in _digests(value) or not isinstance(_annotations(value), dict):
            raise WrongSignature("the attestation is not a sign-off's")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongSignature(f"the attestation cannot be read: {type(error).__name__}: {error}") from error
    return dict(value)


def _digests(attested: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["digest"]["sha256"] for entry in attested["predicate"]["configuration"]}


def _annotations(attested: dict[str, Any]) -> dict[str, Any]:
    """Return the annotations of the manifest's digest, including the release and the run."""
    manifest = next(entry for entry in attested["predicate"]["configuration"] if entry["name"] == MANIFEST_FILE)
    annotations: dict[str, Any] = manifest.get("annotations", {})
    return annotations
