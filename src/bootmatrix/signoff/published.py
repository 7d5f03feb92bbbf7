"""A sign-off as an artifact of a registry, which refers to the tested image."""

from pathlib import Path
from typing import Any

from bootmatrix.load.registries import load_registries, registries_file
from bootmatrix.model import Registry
from bootmatrix.signoff.manifest import MANIFEST_FILE
from bootmatrix.signoff.sent_report import REPORT_FILE
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


def _artifact(place: Path, statement: dict[str, Any]) -> Artifact:
    names = [name for name in FILES if (place / name).is_file()]
    files = [ArtifactFile(name, FILES[name], (place / name).read_bytes()) for name in names]
    annotations = {
        "org.opencontainers.image.version": place.name,
        "org.opencontainers.image.description": f"sign-off: {statement['predicate']['result']}",
        "dev.sigstore.bundle.predicateType": PREDICATE_TYPE,
    }
    return Artifact(files[0].media_type, files, annotations)
