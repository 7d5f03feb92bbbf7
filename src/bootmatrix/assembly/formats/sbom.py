"""SBOM of a guest as SPDX 2.3: kernel, images, packages.

https://spdx.github.io/spdx-spec/v2.3
"""

import hashlib
import json
import re
from collections.abc import Iterator
from urllib.parse import quote

from bootmatrix.assembly.formats.source import Source
from bootmatrix.model import Kernel, StoredImage

CREATED = "2017-04-18T16:30:00Z"
"""Not the time at which it is written, so that it is the same for the same guest."""
GUEST = "SPDXRef-guest"
UNKNOWN = "NOASSERTION"

Json = dict[str, object]


def sbom(source: Source) -> bytes:
    """Return the document as JSON."""
    spec, kernel = source.assembly.spec, source.assembly.kernel
    images = list(source.assembly.images.values())
    owned = [_kernel(kernel, source), *(part for image in images for part in _image(image, source))]
    parts = {str(part["SPDXID"]): part for part, _ in owned}
    contained = ((owner, "CONTAINS", part["SPDXID"]) for part, owner in owned)
    relations = (("SPDXRef-DOCUMENT", "DESCRIBES", GUEST), *contained)
    guest = _package(GUEST, spec.name, kernel.release, source.id)
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{spec.name} on {source.assembly.profile.name}, Linux {kernel.release}",
        "documentNamespace": f"urn:uuid:{source.uuid('sbom')}",
        "creationInfo": {"created": CREATED, "creators": ["Tool: bootmatrix"]},
        "packages": [guest, *parts.values()],
        "relationships": [
            {"spdxElementId": owner, "relationshipType": kind, "relatedSpdxElement": part}
            for owner, kind, part in dict.fromkeys(relations)
        ],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _kernel(kernel: Kernel, source: Source) -> tuple[Json, str]:
    package = kernel.packages[0] if kernel.packages else None
    reference = _purl(package.name, package.version, package.architecture) if package else ""
    digest = package.sha256 if package else source.assembly.files.image
    name = package.name if package else f"linux {kernel.release}"
    return _package("SPDXRef-kernel", name, kernel.version, digest, reference), GUEST


def _image(image: StoredImage, source: Source) -> Iterator[tuple[Json, str]]:
    """Return an image, contained in the guest, with its packages."""
    number = f"SPDXRef-image-{image.digest}"
    yield _package(number, image.reference, "", image.digest), GUEST
    for text in image.packages:
        name, version = text.split(" ")[:2]
        digest = image.package_sums.get(text, "")
        reference = _purl(name, version, source.assembly.profile.names.debian)
        yield _package(_deb_id(text, digest), name, version, digest, reference), number


def _package(number: str, name: str, version: str, digest: str, reference: str = "") -> Json:
    purl = {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": reference}
    return {
        "SPDXID": number,
        "name": name,
        **({"versionInfo": version} if version else {}),
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": False,
        **({"checksums": [{"algorithm": "SHA256", "checksumValue": digest}]} if digest else {}),
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        **({"externalRefs": [purl]} if reference else {}),
    }


def _purl(name: str, version: str, architecture: str) -> str:
    return f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={quote(architecture)}"


def _deb_id(text: str, digest: str) -> str:
    """Return a unique identifier of a package; only few characters are allowed."""
    name, version = text.split(" ")[:2]
    own = hashlib.sha256(f"{text} {digest}".encode()).hexdigest()[:16]
    return f"SPDXRef-deb-{_safe(name)}-{_safe(version)}-{own}"


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", text)
