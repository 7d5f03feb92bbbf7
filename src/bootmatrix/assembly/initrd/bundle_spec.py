"""Containers of a spec with their images and settings, and their needs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from bootmatrix.assembly.initrd.runtime_config import merged_settings
from bootmatrix.assembly.initrd.volumes import with_volumes
from bootmatrix.errors import BuildError
from bootmatrix.model import ConsoleProof, Container, ContainerSettings, Spec, StoredImage, Volume
from bootmatrix.model.durations import duration_s
from bootmatrix.model.spec import CHECK, CONSOLE, MODULES, NETWORK, PID1, STOP

MAX_FIRST_WORDS = 64
"""ARGUMENTS of src/guest/pid1.c, which reads words that tabs separate from a line."""
MODULE_FOLDERS = ("/lib/modules", "/usr/lib/modules")


@dataclass(frozen=True)
class BundleSpec:
    """A container with its image, its settings, and its folder in the guest."""

    section: str
    folder: str
    container: Container
    settings: ContainerSettings
    image: StoredImage

    @property
    def path(self) -> str:
        """The bundle's path, relative to the root."""
        return f"containers/{self.section}/{self.folder}"

    @property
    def annotation_and_label(self) -> Mapping[str, str]:
        """Annotations of the container, then labels of the image."""
        return {**self.image.config.labels, **(self.settings.annotations or {})}


def place(spec: Spec, images: Mapping[str, StoredImage]) -> tuple[BundleSpec, ...]:
    """Return all containers of a spec in start order."""
    bundles = []
    for section in ("onboot", "services", "onshutdown"):
        for number, container in enumerate(getattr(spec, section)):
            image = images[container.image]
            folder = container.name if section == "services" else f"{number:03d}-{container.name}"
            settings = with_volumes(container, merged_settings(container, image.config), spec.volumes)
            bundles.append(BundleSpec(section, folder, container, settings, image))
    return tuple(bundles)


def writes_root(bundle: BundleSpec) -> bool:
    """Return whether the runtime may write to a read-only root's mount points."""
    settings = bundle.settings
    mounts = (settings.binds, settings.binds_add, settings.mounts, settings.tmpfs, settings.devices)
    moves = (settings.cwd or bundle.image.config.workdir or "/") != "/"
    return settings.runtime is not None or (bool(settings.readonly) and (moves or any(mounts)))


def check_seconds(bundles: tuple[BundleSpec, ...]) -> dict[str, float]:
    """Return time limits of checks by name."""
    return _service_seconds(bundles, CHECK)


def stop_seconds(bundles: tuple[BundleSpec, ...]) -> dict[str, float]:
    """Return the services' times to end, by name; others have init's default."""
    return _service_seconds(bundles, STOP)


def first_process(bundles: Iterable[BundleSpec]) -> tuple[str, ...]:
    """Return folder and command of the service that is the guest's first process.

    Empty without one. Raises BuildError if there are several, or init cannot pass on the command.
    """
    services = [bundle for bundle in bundles if PID1 in (bundle.settings.annotations or {})]
    if len(services) > 1:
        names = ", ".join(bundle.container.name for bundle in services)
        raise BuildError(f"several services are to be the guest's first process ({PID1}): {names}")
    for bundle in services:
        command = bundle.settings.command
        words = command if command is not None else (*bundle.image.config.entrypoint, *bundle.image.config.cmd)
        if len(words) > MAX_FIRST_WORDS or any(set(word) & set("\t\n\0") for word in words):
            raise BuildError(
                f"container {bundle.container.name}: the command of the guest's first process ({PID1}) has more than "
                f"{MAX_FIRST_WORDS} words, or one with a tab or a line end",
                "Put it into a script, and name that.",
            )
        return (f"{bundle.section}/{bundle.folder}", *words)
    return ()


def _service_seconds(bundles: tuple[BundleSpec, ...], annotation: str) -> dict[str, float]:
    values = {
        bundle.container.name: (bundle.settings.annotations or {}).get(annotation)
        for bundle in bundles
        if bundle.section == "services"
    }
    return {name: duration_s(value) for name, value in values.items() if value is not None}


def lost_paths(bundles: Iterable[BundleSpec]) -> Iterator[str]:
    """Note each container whose environment replaces the image's PATH."""
    for bundle in bundles:
        if bundle.settings.env and _path_of(bundle.image.config.env) and not _path_of(bundle.settings.env):
            yield f"{bundle.container.name}: its env has no PATH and replaces its image's env, which has one"


def ignored_users(bundles: Iterable[BundleSpec]) -> Iterator[str]:
    """Note each container that runs as root despite its image's user, as in LinuxKit."""
    for bundle in bundles:
        user = bundle.image.config.user
        if user.partition(":")[0] not in {"", "root", "0"} and bundle.settings.uid is None:
            yield (
                f"{bundle.container.name}: its image's USER {user[:60]!r} is not used: it runs as root. "
                "To have that user, give its number as 'uid'"
            )


def _path_of(env: Iterable[str]) -> str:
    return next((variable for variable in env if variable.startswith("PATH=")), "")


def needed_modules(
    bundles: Iterable[BundleSpec], init: Iterable[StoredImage], volumes: Iterable[Volume] = ()
) -> tuple[str, ...]:
    """Return kernel modules for containers, init images and volumes."""
    bundles = tuple(bundles)
    made = [kind for bundle in bundles for kind in _interface_kinds(bundle.settings)]
    overlay = ["overlay"] if any(not bundle.settings.readonly for bundle in bundles) or volumes else []
    return tuple(dict.fromkeys([*named_modules(bundles, init), *made, *overlay]))


def named_modules(bundles: Iterable[BundleSpec], init: Iterable[StoredImage]) -> tuple[str, ...]:
    """Return the kernel modules that containers and init images ask for by name."""
    labels = [*(image.config.labels for image in init), *(bundle.annotation_and_label for bundle in bundles)]
    return tuple(dict.fromkeys(name for label in labels for name in label.get(MODULES, "").split()))


def _interface_kinds(settings: ContainerSettings) -> list[str]:
    """Return the types of a container's network interfaces, which name their modules."""
    interfaces = (settings.runtime and settings.runtime.interfaces) or ()
    return [interface.add or "veth" for interface in interfaces if interface.add or interface.peer]


def needs_every_module(bundles: Iterable[BundleSpec]) -> bool:
    """Return whether a container sees the folder of kernel modules, and may load any."""
    sources = (bind.partition(":")[0] for bundle in bundles for bind in bundle.settings.binds or ())
    return any(PurePosixPath(source).is_relative_to(folder) for source in sources for folder in MODULE_FOLDERS)


def needs_network(bundles: Iterable[BundleSpec], init: Iterable[StoredImage]) -> bool:
    """Return whether a container or an init image needs a network card."""
    bundles = tuple(bundles)
    if "none" in _networks(bundles):
        return False
    labels = [*(image.config.labels for image in init), *(bundle.annotation_and_label for bundle in bundles)]
    return any(NETWORK in label for label in labels)


def needs_outbound(bundles: Iterable[BundleSpec]) -> bool:
    """Return whether the spec itself, not an image, asks for outbound."""
    return "outbound" in _networks(bundles)


def _networks(bundles: Iterable[BundleSpec]) -> set[str]:
    return {(bundle.container.annotations or {}).get(NETWORK, "") for bundle in bundles}


def console_proof(bundles: Iterable[BundleSpec]) -> ConsoleProof | None:
    """Return the console text that proves a foreign guest's pass, if any.

    Raises BuildError if containers have different texts.
    """
    annotated = ((bundle.settings.annotations or {}).get(CONSOLE) for bundle in bundles)
    texts = {text for text in annotated if text is not None}
    if len(texts) > 1:
        raise BuildError(f"containers have different texts as {CONSOLE}", "Have one of them print the last word.")
    return ConsoleProof(console=texts.pop()) if texts else None
