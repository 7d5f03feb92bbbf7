"""Contents of images and specs for the record: packages, files and whole images."""

from collections.abc import Iterable, Iterator, Mapping

from bootmatrix.assembly.image.packages import LocalDeb
from bootmatrix.assembly.image.recipe import SourceEntry, Sources, source_digest
from bootmatrix.model import (
    Component,
    Container,
    CopyFile,
    ImageContents,
    ImageRecipe,
    ImageSource,
    Package,
    Profile,
    Spec,
    StoredImage,
)
from bootmatrix.model.spec import CHECK

VERSION_LABEL = "org.opencontainers.image.version"
"""Label of an image's version (opencontainers/image-spec, annotations.md)."""
MAX_VERSION = 256
"""Characters of it; every record of the image has them."""
ELF_MAGIC = b"\x7fELF"


def recipe_contents(  # noqa: PLR0913  (each is an ingredient of its own)
    recipe: ImageRecipe,
    *,
    base: StoredImage | None,
    packages: Iterable[Package],
    debs: Iterable[LocalDeb],
    sources: Sources,
    profile: Profile,
) -> tuple[Component, ...]:
    """List the contents of an image made from packages, with those of its base image.

    What the base's recipe names counts as named only if this recipe names nothing.
    """
    own = [
        *(_package(package, package.name in recipe.packages) for package in packages),
        *(_package(deb) for deb in debs),
        *(_file(copy, sources[copy.source], profile) for copy in recipe.files if copy.source is not None),
    ]
    below = base.contents if base else ()
    if any(component.is_named for component in own):
        below = tuple(component.model_copy(update={"is_named": False}) for component in below)
    return (*own, *below)


def _package(package: Package | LocalDeb, is_named: bool = True) -> Component:
    return Component(
        kind="package",
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        sha256=package.sha256,
        is_named=is_named,
        is_local=isinstance(package, LocalDeb),
    )


def _file(copy: CopyFile, entries: tuple[SourceEntry, ...], profile: Profile) -> Component:
    """Describe a user's file or folder.

    Programs and folders are named by it; other files came with them.
    """
    whole = len(entries) == 1 and entries[0].kind == "file" and not entries[0].below
    is_program = whole and _is_program(entries[0])
    return Component(
        kind="file",
        name=f"/{copy.path.strip('/')}{'' if whole else '/'}",
        architecture=profile.names.debian if is_program else "",
        sha256=entries[0].sha256 if whole else source_digest(entries),
        is_named=is_program or not whole,
        is_local=True,
    )


def _is_program(entry: SourceEntry) -> bool:
    try:
        with entry.path.open("rb") as file:
            return file.read(len(ELF_MAGIC)) == ELF_MAGIC
    except OSError:
        return False


def pulled_contents(image: StoredImage, reference: str, source: ImageSource, profile: Profile) -> tuple[Component, ...]:
    """Describe an image of a registry, an engine or a file as a whole."""
    name = str(source).removeprefix("docker://") if source.path or source.name else reference
    version = image.config.labels.get(VERSION_LABEL, "")[:MAX_VERSION]
    is_local = bool(source.path)
    return (
        Component(
            kind="image",
            name=name,
            version=version,
            architecture=profile.names.oci,
            sha256=image.digest,
            is_named=True,
            is_local=is_local,
        ),
    )


def spec_contents(spec: Spec, images: Mapping[str, StoredImage], digests: Mapping[str, str]) -> Iterator[ImageContents]:
    """List the contents of a spec's images, in its order, and its own files."""
    roles = _roles(spec)
    for name, image in images.items():
        yield ImageContents(
            image=image.reference, sha256=image.digest, roles=roles.get(name, ("volumes",)), components=image.contents
        )
    files = tuple(_spec_files(spec, digests))
    if files:
        yield ImageContents(roles=("files",), components=files)


def _roles(spec: Spec) -> dict[str, tuple[str, ...]]:
    """Return the sections that use each image; `checks` are services of their own."""
    roles: dict[str, list[str]] = {}
    for name in spec.init:
        roles.setdefault(name, []).append("init")
    sections = {"onboot": spec.onboot, "services": spec.services, "onshutdown": spec.onshutdown}
    for section, containers in sections.items():
        for container in containers:
            roles.setdefault(container.image, []).append("checks" if _is_check(container) else section)
    return {name: tuple(dict.fromkeys(sections)) for name, sections in roles.items()}


def _is_check(container: Container) -> bool:
    return CHECK in (container.annotations or {})


def _spec_files(spec: Spec, digests: Mapping[str, str]) -> Iterator[Component]:
    for file in spec.files:
        digest = digests.get(file.source, "") if file.source else ""
        if digest:
            is_program = bool(file.mode and int(file.mode, 8) & 0o111)
            path = f"/{file.path.strip('/')}"
            yield Component(kind="file", name=path, sha256=digest, is_named=is_program, is_local=True)
