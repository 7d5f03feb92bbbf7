"""Firmware from packages of the archive, independent of the host's QEMU."""

import json
from pathlib import Path
from typing import Any

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.errors import BuildError
from bootmatrix.model import Artefact, Firmware, Machine, Package, Profile
from bootmatrix.source.deb import open_data

FORMAT = "1"
"""Changes whenever the same package would give another file."""
LIMIT_BYTES = 256 << 20
"""Flash images have 64 MiB, nearly all of it padding."""


def board_firmware(machine: Machine, profile: Profile, builder: Builder) -> dict[str, Any]:
    """Fetch the firmware with which a board starts, as fields of Bootable.

    Raises BuildError if the archive lacks the file.
    """
    own = machine.firmware
    firmware = firmware_artefact(own, profile, builder) if isinstance(own, Firmware) else None
    return {"firmware": firmware, "flash": tuple(firmware_artefact(flash, profile, builder) for flash in machine.flash)}


def firmware_artefact(firmware: Firmware, profile: Profile, builder: Builder) -> Artefact:
    """Unpack a firmware file, cached.

    Raises BuildError if the package lacks the file, or is damaged; InfraError if the package cannot be fetched.
    """
    package = _find(firmware, profile, builder)
    store, key = builder.store, json.dumps([FORMAT, package.sha256, firmware.path])

    def make() -> str:
        return store.add_bytes(_read(builder.archive.fetch(package), firmware.path, package))

    path = store.verified(digest := store.cached_digest("firmware", key, make))
    return Artefact(
        kind="firmware",
        name=f"{package.name} {package.version}",
        path=str(path),
        sha256=digest,
        size_bytes=path.stat().st_size,
    )


def _find(firmware: Firmware, profile: Profile, builder: Builder) -> Package:
    architecture = firmware.architecture or profile.names.debian
    packages = builder.archive.closure([firmware.package], [], firmware.suites, architecture)
    return next(package for package in packages if package.name == firmware.package)


def _read(deb: Path, path: str, package: Package) -> bytes:
    with open_data(deb) as archive:
        for member in archive:
            if member.name.removeprefix("./") == path and member.isreg() and member.size <= LIMIT_BYTES:
                file = archive.extractfile(member)
                if file:
                    return file.read()
    raise BuildError(f"{package} holds no file {path} of at most {LIMIT_BYTES >> 20} MiB")
