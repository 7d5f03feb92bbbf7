"""Volumes: guest folders shared by containers, at LinuxKit's paths."""

from collections.abc import Mapping, Sequence

from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.image.oci_volume import layout_key
from bootmatrix.assembly.image.roots import completed
from bootmatrix.assembly.initrd.privileges import is_bind
from bootmatrix.assembly.tree import Tree, directory, text_file
from bootmatrix.errors import BuildError
from bootmatrix.model import Container, ContainerSettings, StoredImage, Volume
from bootmatrix.model.spec import Mount
from bootmatrix.store import Store

FOLDER = "containers/volumes"
LIST = "etc/bootmatrix/volumes"
RESOLV_CONF = "/run/resolvconf/resolv.conf"


def with_volumes(container: Container, settings: ContainerSettings, volumes: Sequence[Volume]) -> ContainerSettings:
    """Replace volume names in binds and mounts by folders.

    Raises BuildError if the volume is unknown, or it is read-only and bound writable.
    """
    known = {volume.name: volume for volume in volumes}
    binds = [_bind(container, text, known) for text in settings.binds or ()]
    mounts = [_mount(container, mount, known) for mount in settings.mounts or ()]
    return settings.model_copy(
        update={
            "binds": tuple(binds) if settings.binds is not None else None,
            "mounts": tuple(mounts) if settings.mounts is not None else None,
        }
    )


def _bind(container: Container, text: str, known: Mapping[str, Volume]) -> str:
    source, colon, rest = text.partition(":")
    if source.startswith("/") or not colon:
        return text
    options = rest.partition(":")[2].split(",")
    return f"{_merged(container, source, options, known)}:{rest}"


def _mount(container: Container, mount: Mount, known: Mapping[str, Volume]) -> Mount:
    if not is_bind(mount.usual_type, mount.options) or mount.source.startswith("/"):  # of any type
        return mount
    return mount.model_copy(update={"source": _merged(container, mount.source, mount.options, known)})


def _merged(container: Container, name: str, options: Sequence[str], known: Mapping[str, Volume]) -> str:
    volume = known.get(name)
    if volume is None:
        raise BuildError(
            f"container {container.name}: unknown volume {name!r}",
            "A bind's source must be an absolute path, or a name under 'volumes'.",
        )
    if volume.readonly and ("ro" not in options or "rw" in options):
        raise BuildError(f"container {container.name}: the volume {name} is read-only. Bind it with the option ro")
    return f"/{FOLDER}/{name}/merged"


def add_volumes(volumes: Sequence[Volume], images: Mapping[str, StoredImage], tree: Tree, store: Store) -> None:
    """Add the folders of volumes, and the list from which init mounts them.

    Raises BuildError if a volume cannot be built.
    """
    for volume in volumes:
        below = f"{FOLDER}/{volume.name}"
        for name in ("lower", "tmp", "merged"):
            tree.put(f"{below}/{name}", directory())
        if volume.format == "oci":
            tree.graft(image_tree(images[layout_key(volume)], store), f"{below}/lower")
        elif volume.image:
            root = completed(image_tree(images[volume.image], store), resolv_conf=RESOLV_CONF)
            tree.graft(root, f"{below}/lower")
    if volumes:
        tree.put(LIST, text_file("".join(f"{volume.name}\n" for volume in volumes)))
