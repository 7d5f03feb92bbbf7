"""Hold a run and one of its sign-offs against what was signed."""

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
"""What sigstore's tools leave when they sign the statement; it is theirs to verify."""
_DIGESTED = {MANIFEST_FILE, PAGE_FILE, PDF_FILE}
_FORMS = ({ENVELOPE_FILE}, {STATEMENT_FILE}, {STATEMENT_FILE, BUNDLE_FILE})
"""The attestation files that may stand beside each other: of a signed sign-off, of one that is not, of sigstore's."""


@dataclass(frozen=True)
class Checked:
    """What came of checking a sign-off: it holds if there are no faults. `statement` is empty if it cannot be read."""

    release: str
    is_signed: bool
    faults: tuple[str, ...]
    statement: dict[str, Any]
    file_count: int = 0


def verify_signoff(folder: Path, release: str, key: Path | None) -> Checked:
    """Hold a sign-off, and all files of its run, against its attestation.

    With a public key nothing holds but a sign-off that is signed by it. Without one, only unsigned ones are checked.

    Raises:
        InputError: there is no such sign-off, it is signed and no key is given, or the key is none.
        OSError: the run's folder cannot be listed.
    """
    place = folder / SIGNOFF_FOLDER / release
    if place.parent.is_symlink() or place.is_symlink() or not place.is_dir():
        raise InputError(
            f"{place}: there is no such sign-off", "Make one with 'bootmatrix signoff RUN --release NAME'."
        )
    envelope = place / ENVELOPE_FILE
    if key is None and envelope.is_file():
        raise InputError(f"{envelope}: it is signed", "Give the public key with --key, so that it can be verified.")
    found = survey(folder)
    faults = [*found.faults, *_out_of_place(found)]
    try:
        told = _statement(_payload(place, key))
        faults += [*_misattributed(told, folder, release), *_changed(found, place, told)]
    except WrongSignature as error:
        return Checked(release, key is not None, (*faults, str(error)), {})
    return Checked(release, key is not None, tuple(faults), told, len(without_signoff(found.files)))


def _out_of_place(found: Survey) -> Iterator[str]:
    """Name what stands in the folder of the sign-offs, of any release, and is no part of one."""
    beside: dict[str, set[str]] = {}
    for name in (*found.files, *found.empty):
        parts = PurePosixPath(name).parts
        if parts[0] != SIGNOFF_FOLDER:
            continue
        if name in found.empty or len(parts) != 3 or not TAG.fullmatch(parts[1]):
            yield f"{name}: not there when it was signed"
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
        yield f"{place}/{name}: not there when it was signed"


def _misattributed(told: dict[str, Any], folder: Path, release: str) -> Iterator[str]:
    """Compare the release and the run that were signed with the names that they have here."""
    said = _annotations(told)
    for what, signed, here in (
        ("release", said.get("release"), release),
        ("run", said.get("run"), folder.resolve().name),
    ):
        if signed != here:
            yield f"the attestation is of the {what} {signed!r}, and this is {here!r}"


def _changed(found: Survey, place: Path, told: dict[str, Any]) -> list[str]:
    """Name what is not as it was signed: of what stands beside the attestation, then of the run."""
    above = f"{SIGNOFF_FOLDER}/{place.name}/"
    beside = {f"{above}{name}": digest for name, digest in _digests(told).items() if name in _DIGESTED}
    here = {name: found.files[name] for name in (f"{above}{name}" for name in _DIGESTED) if name in found.files}
    faults = differences(beside, here)
    if faults:
        return faults
    try:
        signed = read_lines((place / MANIFEST_FILE).read_bytes())
    except InputError as error:
        raise WrongSignature(error.message) from error
    faults = differences(signed, without_signoff(found.files))
    known = _annotations(told).get("emptyFolders")
    empty = set(known) if isinstance(known, list) else set()
    return faults + [
        f"{name}: an empty folder, not there when it was signed"
        for name in outside_signoff(found.empty)
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
        raise WrongSignature(f"{file} is missing, or no plain file of a plausible size")
    return file.read_bytes()


def _statement(payload: bytes) -> dict[str, Any]:
    """The statement in a payload, of the form that we write."""
    try:
        found = json.loads(payload)
        is_ours = (found["_type"], found["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
        if not is_ours or MANIFEST_FILE not in _digests(found) or not isinstance(_annotations(found), dict):
            raise WrongSignature("the attestation is not one of a sign-off")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WrongSignature(f"the attestation cannot be read: {type(error).__name__}: {error}") from error
    return dict(found)


def _digests(told: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["digest"]["sha256"] for one in told["predicate"]["configuration"]}


def _annotations(told: dict[str, Any]) -> dict[str, Any]:
    """Return what the statement says beside the manifest's digest: the release and the run among it."""
    found = next(one for one in told["predicate"]["configuration"] if one["name"] == MANIFEST_FILE)
    annotations: dict[str, Any] = found.get("annotations", {})
    return annotations
