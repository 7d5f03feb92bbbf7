"""Verification of a run and its sign-off against the attestation."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.fsio import open_plain
from bootmatrix.history.reference import TAG
from bootmatrix.signoff.manifest import (
    MANIFEST_FILE,
    MAX_BYTES,
    SIGNOFF_FOLDER,
    Survey,
    differences,
    outside_signoff,
    read_lines,
    signoffs_of,
    survey,
    without_signoff,
)
from bootmatrix.signoff.sent_report import MAX_BYTES as MAX_REPORT_BYTES
from bootmatrix.signoff.sent_report import REPORT_FILE, digest_of, read_sent, split
from bootmatrix.signoff.statement import MARK, PREDICATE_TYPE, STATEMENT_TYPE, Identity, WrongSignature, opened

PAGE_FILE = "signoff.html"
PDF_FILE = "signoff.pdf"
STATEMENT_FILE = "attestation.json"
ENVELOPE_FILE = "attestation.dsse.json"
BUNDLE_FILE = "attestation.sigstore.json"
"""Signed by an identity: the statement in a bundle of sigstore, or a bundle for the statement beside it."""
KEY_HINT = "Name the public key with --key to verify it."
IDENTITY_HINT = "Name who signed it with --identity and --issuer to verify it."
_DIGESTED = {MANIFEST_FILE, PAGE_FILE, PDF_FILE, REPORT_FILE}
_FORMS = ({ENVELOPE_FILE}, {STATEMENT_FILE}, {BUNDLE_FILE}, {STATEMENT_FILE, BUNDLE_FILE})
"""Valid sets of attestation files."""

Signer = Path | Identity
"""Expected signer: the owner of a public key, by its file, or an identity."""


@dataclass(frozen=True)
class Checked:
    """A verification, valid without faults; `statement` may be empty."""

    release: str
    is_signed: bool
    faults: tuple[str, ...]
    statement: dict[str, Any]
    file_count: int = 0


def verify_signoff(folder: Path, release: str, signer: Signer | None) -> Checked:
    """Verify a sign-off and all files of its run against its attestation.

    With a signer, only a sign-off that it signed is valid. Without, only unsigned ones can be checked.

    Raises InputError without such a sign-off, or for a signed one without a signer, or an invalid key or trust
    configuration; OSError if the run's folder cannot be listed.
    """
    place = folder / SIGNOFF_FOLDER / release
    if place.parent.is_symlink() or place.is_symlink() or not place.is_dir():
        raise InputError(f"{place}: no such sign-off", "Make one with 'bootmatrix signoff RUN --release NAME'.")
    if signer is None and not (place / STATEMENT_FILE).is_file():
        for file, hint in ((place / ENVELOPE_FILE, KEY_HINT), (place / BUNDLE_FILE, IDENTITY_HINT)):
            if file.is_file():
                raise InputError(f"{file}: the sign-off is signed", hint)
    contents = survey(folder)
    faults = [*contents.faults, *_out_of_place(contents)]
    try:
        payload = _payload(place, signer)
        attested = _statement(payload)
        sent = _sent_digest(place, signer, payload)
        faults += [*_misattributed(attested, folder, release), *_changed(contents, place, attested, sent)]
    except WrongSignature as error:
        return Checked(release, signer is not None, (*faults, str(error)), {})
    return Checked(release, signer is not None, tuple(faults), attested, len(without_signoff(contents.files)))


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


def _changed(contents: Survey, place: Path, attested: dict[str, Any], sent: str) -> list[str]:
    """Describe changes since the signature, the attestation's first.

    `sent` is the digest of the report that carries the attestation.
    """
    above = f"{SIGNOFF_FOLDER}/{place.name}/"
    beside = {f"{above}{name}": digest for name, digest in _digests(attested).items() if name in _DIGESTED}
    current = {
        name: contents.files[name] for name in (f"{above}{name}" for name in _DIGESTED) if name in contents.files
    }
    if f"{above}{REPORT_FILE}" in current:
        current[f"{above}{REPORT_FILE}"] = sent
    faults = differences(beside, current)
    if faults:
        return faults
    lines = _read(place / MANIFEST_FILE)
    if sha256(lines).hexdigest() != _digests(attested)[MANIFEST_FILE]:  # it was another one a moment ago
        return [f"{above}{MANIFEST_FILE}: changed"]
    try:
        signed = read_lines(lines)
    except InputError as error:
        raise WrongSignature(error.message) from error
    faults = differences(signed, without_signoff(contents.files))
    recorded = _annotations(attested).get("emptyFolders")
    empty = {name for name in recorded if isinstance(name, str)} if isinstance(recorded, list) else set()
    return faults + [
        f"{name}: an empty folder that is not part of the signed run"
        for name in outside_signoff(contents.empty)
        if name not in empty
    ]


def _sent_digest(place: Path, signer: Signer | None, payload: bytes) -> str:
    """Return a sent report's digest; empty if its statement differs."""
    try:
        page, attestation = split(_read(place / REPORT_FILE, MAX_REPORT_BYTES))
        is_bare = not _needs(attestation)  # beside it, a bundle may sign it
        carried = attestation if is_bare and not isinstance(signer, Path) else _opened(attestation, signer)
    except (InputError, WrongSignature):
        return ""
    return digest_of(page) if carried == payload else ""


def _needs(attestation: bytes) -> str:
    """Return an attestation's hint on its signer; empty if not signed."""
    if MARK in attestation:
        return IDENTITY_HINT
    return KEY_HINT if b'"payloadType"' in attestation else ""


def _opened(attestation: bytes, signer: Signer | None, statement: bytes | None = None) -> bytes:
    """Return the payload of an attestation, or of the statement beside a bundle.

    Raises InputError for an invalid key or trust configuration, WrongSignature if it is not signed by the signer.
    """
    if isinstance(signer, Identity):
        from bootmatrix.signoff.identity import opened_by_identity

        return opened_by_identity(attestation, signer, statement)
    return opened(attestation, signer) if signer else attestation


def verify_sent(file: Path, signer: Signer | None, release: str = "") -> Checked:
    """Verify a report in one file against the attestation that it carries.

    Raises InputError if it carries none, a signed one without a signer, or for an invalid key or trust.
    """
    page, attestation = read_sent(file)
    if signer is None and (hint := _needs(attestation)):
        raise InputError(f"{file}: the sign-off is signed", hint)
    try:
        value = _statement(_opened(attestation, signer))
    except WrongSignature as error:
        return Checked(release, signer is not None, (str(error),), {})
    signed = str(_annotations(value).get("release"))
    faults = [] if release in {"", signed} else [f"the attestation is for release {signed!r}, not {release!r}"]
    if _digests(value).get(REPORT_FILE) != digest_of(page):
        faults.append("the report was changed since it was signed off")
    return Checked(signed, signer is not None, tuple(faults), value)


def changed_since(folder: Path) -> list[str]:
    """Return releases of a run's sign-offs from which it differs now."""
    contents = survey(folder)
    return [release for release in signoffs_of(folder) if _differs(contents, folder / SIGNOFF_FOLDER / release)]


def _differs(contents: Survey, place: Path) -> bool:
    try:
        signed = read_lines(_read(place / MANIFEST_FILE))
    except (InputError, WrongSignature):
        return True
    return bool(differences(signed, without_signoff(contents.files)))


def _payload(place: Path, signer: Signer | None) -> bytes:
    if signer is None:
        return _read(place / STATEMENT_FILE)
    is_identity = isinstance(signer, Identity)
    file = place / (BUNDLE_FILE if is_identity else ENVELOPE_FILE)
    if not file.is_file():
        raise WrongSignature(f"{file} is missing: this sign-off is not signed {'so' if is_identity else ''}".rstrip())
    beside = place / STATEMENT_FILE
    return _opened(_read(file), signer, _read(beside) if is_identity and beside.is_file() else None)


def _read(file: Path, limit_bytes: int = MAX_BYTES) -> bytes:
    try:
        with open_plain(file, limit_bytes) as opened:
            return opened.read()
    except OSError as error:
        raise WrongSignature(f"{file}: {error.strerror}") from error


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
    """Return a manifest's annotations with release and run."""
    manifest = next(entry for entry in attested["predicate"]["configuration"] if entry["name"] == MANIFEST_FILE)
    annotations: dict[str, Any] = manifest.get("annotations", {})
    return annotations
