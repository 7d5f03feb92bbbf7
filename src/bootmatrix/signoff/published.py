"""A sign-off as an artifact of a registry, which refers to the tested image."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from bootmatrix.errors import UntrustedError
from bootmatrix.fsio import open_plain
from bootmatrix.load.registries import load_registries, registries_file
from bootmatrix.model import Registry
from bootmatrix.signoff.manifest import MANIFEST_FILE
from bootmatrix.signoff.sent_report import MAX_BYTES, REPORT_FILE, digest_of, split
from bootmatrix.signoff.statement import PREDICATE_TYPE
from bootmatrix.signoff.verify import BUNDLE_FILE, ENVELOPE_FILE, PAGE_FILE, PDF_FILE, STATEMENT_FILE
from bootmatrix.source.images.endpoint import endpoint
from bootmatrix.source.images.reference import parse_reference
from bootmatrix.source.images.referrers import Artifact, ArtifactFile, attach

FILES = {
    BUNDLE_FILE: "application/vnd.dev.sigstore.bundle.v0.3+json",
    ENVELOPE_FILE: "application/vnd.dsse.envelope.v1+json",
    STATEMENT_FILE: "application/vnd.in-toto+json",
    PAGE_FILE: "text/html",
    PDF_FILE: "application/pdf",
    REPORT_FILE: "text/html",
    MANIFEST_FILE: "text/plain",
}
"""Media types by name. The first one that a sign-off has is the artifact's kind, as cosign looks for it."""


def publish(place: Path, statement: dict[str, Any], image: str) -> str:
    """Attach a sign-off to an image that it names; return its digest.

    Raises InputError if it is not an image of the sign-off; NetworkError if the registry does not answer, or refuses;
    UntrustedError if it answers with another image.
    """
    reference = parse_reference(image.removeprefix("docker://"))
    file = registries_file()
    settings = load_registries(file).registries.get(reference.registry, Registry())
    tested = {entry["digest"]["sha256"] for entry in statement["subject"] if entry["name"].startswith("image ")}
    return attach(endpoint(reference.registry, settings, file.parent), reference, _artifact(place, statement), tested)


def _verified(file: Path, statement: dict[str, Any]) -> bytes:
    """Read a file of a sign-off.

    Raises UntrustedError if it is another one than the verified one, which it may have been a moment ago.
    """
    with open_plain(file, MAX_BYTES) as opened:
        data = opened.read()
    page = split(data)[0] if file.name == REPORT_FILE else data
    found = digest_of(page) if file.name == REPORT_FILE else sha256(data).hexdigest()
    signed = {entry["name"]: entry["digest"]["sha256"] for entry in statement["predicate"]["configuration"]}
    if signed.get(file.name, found) != found:
        raise UntrustedError(f"{file}: has changed since it was verified")
    return data


def _artifact(place: Path, statement: dict[str, Any]) -> Artifact:
    names = [name for name in FILES if (place / name).is_file()]
    files = [ArtifactFile(name, FILES[name], _verified(place / name, statement)) for name in names]
    annotations = {
        "org.opencontainers.image.version": place.name,
        "org.opencontainers.image.description": f"sign-off: {statement['predicate']['result']}",
        "dev.sigstore.bundle.predicateType": PREDICATE_TYPE,
    }
    return Artifact(files[0].media_type, files, annotations)
