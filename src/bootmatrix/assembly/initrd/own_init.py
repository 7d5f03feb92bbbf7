"""Protection of our init: no spec and no init image replaces its files."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.initrd.bundle_spec import BundleSpec
from bootmatrix.assembly.initrd.privileges import powers
from bootmatrix.assembly.initrd.world import is_within, named_paths
from bootmatrix.assembly.tree import Node, Tree
from bootmatrix.errors import BuildError
from bootmatrix.model import StoredImage
from bootmatrix.store import Store

PROTOCOL = "bootmatrix.protocol"
"""Label of an init image that reports by docs/guest-protocol.md: the version of it."""
VERSIONS = {"1": 1, "2": 2}
SETTINGS = ("bootmatrix", "containers", "etc/bootmatrix", "usr/lib/bootmatrix")
"""Paths that init reads or writes."""
SHIPPED = "@pkg:./images/init"
"""The shipped init image, in the folder of specs."""
DAEMONS = "etc/bootmatrix/daemons"
"""Other init images name here what is to run beside the services."""
KNOWN_DAEMONS = {"427309d71c80af2c40f420898b3fadac8ef2a6f0b2ea5c39c7c9b0e57ac6ca81"}
"""Digests of recipes (specs/images) whose daemons are known to leave alone what init and the runtime use."""
DAEMON_STATE = "/var/lib/containerd"
"""Folder of the known daemon's containers, some of which it starts by itself."""
LOADER_CACHE = "etc/ld.so.cache"
"""Names the library of each name, also in other folders than usual."""
LOADER = ("etc/ld.so.preload", LOADER_CACHE, "etc/ld.so.conf", "etc/ld.so.conf.d")
STEERING = re.compile(
    r"noinitrd$|(init|rdinit|initrd|initrdmem|ENV|PATH|GLIBC_TUNABLES|BOOTMATRIX)=|LD_|_LIBCONTAINER_|bootmatrix[._]"
    r"|sysctl[./](kernel[./](core_pattern|modprobe|hotplug|poweroff_cmd)|fs[./]ocfs2[./]nm[./]hb_ctl_path)="
    r"|(drbd\.usermode[_-]helper|uvesafb\.v86d|nfs\.cache[_-]getent|nfsd\.cltrack[_-]prog|TOMOYO[_-](loader|trigger))="
)
"""Kernel parameters (Documentation/admin-guide), and those that it does not know: init has these in its environment.
The last ones name programs that the kernel starts beside init."""
SPACES = re.compile(r'[\s"]+')
"""Of bytes, as Linux sees them: to it A0 is a blank, also as a part of another letter (lib/ctype.c)."""
PROGRAM_FOLDERS = ("bin", "sbin", "usr/bin", "usr/sbin")
LIBRARY_FOLDERS = ("lib", "lib32", "lib64", "libx32", "usr/lib", "usr/lib32", "usr/lib64", "usr/libx32")
ROOT_LINKS = {*PROGRAM_FOLDERS, *LIBRARY_FOLDERS}
"""Folders that one image may have as links into /usr, and another as they are."""
RUNTIMES = {"crun", "runc"}
HELPERS = {
    *("modprobe", "request-key", "hotplug", "poweroff", "reboot", "usermode-helper", "bridge-stp", "drbdadm"),
    *("nfs_cache_getent", "nfsdcltrack", "ocfs2_hb_ctl", "tomoyo-init", "v86d", "critical_overtemp", "pnpbios"),
}
"""Programs that Linux starts by itself (call_usermodehelper), as root of the guest. Any container can make it do so."""
OTHERS = ("containers", "bootmatrix", "run", "tmp", "var", "proc", "dev", "sys")
"""Folders in which containers may write, or whose files are theirs."""
UNIMPORTANT = ("usr/share", "etc/hosts", "etc/resolv.conf", "etc/mtab")
HINT = (
    "A guest whose init was changed cannot be judged by what that init reports. Leave bootmatrix's init image out, and "
    "say by 'bootmatrix.console' what a pass shows on the console."
)


def privileged(bundles: Sequence[BundleSpec], init: Iterable[StoredImage], store: Store) -> tuple[str, ...]:
    """Return the containers that may reach init, each with its means."""
    entries = [
        (bundle.container.name, [*powers(bundle.settings)], [*_sockets(bundle)]) for bundle in bundles
    ]  # not unique
    if any(sockets for _, _, sockets in entries) and any(
        _has_daemons(image, store) for image in init if PROTOCOL not in image.config.labels
    ):
        entries = [(name, [*words, *sockets], sockets) for name, words, sockets in entries]
    lines = (f"{name}: {', '.join(words)}" for name, words, _ in entries if words)
    return tuple(dict.fromkeys(lines))


def unknown_daemons(init: Iterable[StoredImage], store: Store) -> tuple[str, ...]:
    """Return the init images with unknown programs that run with init's rights."""
    others = (image for image in init if not {PROTOCOL} & {*image.config.labels})
    unknown = (image for image in others if image.recipe_digest not in KNOWN_DAEMONS)
    return tuple(f"init image {image.reference}" for image in unknown if _has_daemons(image, store, HELPERS))


def unknown_runtimes(
    init: Iterable[StoredImage], store: Store, shipped: Callable[[], Iterable[str]]
) -> tuple[str, ...]:
    """Return the init images that decide what starts the containers.

    It tells how they end, too.

    `shipped` gives the digests of the recipes whose runtimes are known to tell the truth.
    """
    found = []
    for image in init:
        if PROTOCOL in image.config.labels:
            continue
        paths = image_tree(image, store).nodes
        means = ["runtime"] if any(_is_program_of(path, RUNTIMES) for path in paths) else []
        means += [f"/{LOADER_CACHE}"] if LOADER_CACHE in paths else []
        if means and not any(digest == image.recipe_digest for digest in shipped()):
            found.append(f"init image {image.reference}: its {' and '.join(means)}")
    return tuple(found)


def other_inits(init: Iterable[StoredImage], shipped: Callable[[], StoredImage]) -> tuple[str, ...]:
    """Return foreign init images that report like ours, as their authors vouch."""
    others = [image for image in init if PROTOCOL in image.config.labels]
    ours = shipped().digest if others else ""
    return tuple(
        f"init image {image.reference} in the place of the shipped one" for image in others if image.digest != ours
    )


def find_protocol(init: Iterable[StoredImage]) -> int | None:
    """Return the init images' protocol version, None if no init is ours.

    Raises BuildError if an image has a version that is not supported.
    """
    versions = []
    for image in init:
        label = image.config.labels.get(PROTOCOL)
        if label is not None and label not in VERSIONS:
            expected = " or ".join(VERSIONS)
            problem = f"the init image {image.reference}: label {PROTOCOL}: expected {expected}, found {label[:80]!r}"
            raise BuildError(problem, "Use an init image of this version of bootmatrix, or a newer bootmatrix.")
        versions += [VERSIONS[label]] if label is not None else []
    return min(versions, default=None)


def _has_daemons(image: StoredImage, store: Store, programs: Collection[str] = ()) -> bool:
    return any(is_within(path, DAEMONS) or _is_program_of(path, programs) for path in image_tree(image, store).nodes)


def _sockets(bundle: BundleSpec) -> Iterable[str]:
    """Binds by which containers can instruct init's daemons."""
    for path in named_paths(bundle):
        if not path.is_made and (is_within(path.path, "/run") or is_within("/run", path.path)):
            yield f"the bind {path.path}, where daemons of init listen"
        elif path.can_write and (is_within(path.path, DAEMON_STATE) or is_within(DAEMON_STATE, path.path)):
            yield f"the bind {path.path}, where daemons of init keep what they run"


def check_images(tree: Tree, init: Iterable[StoredImage], store: Store) -> None:
    """Refuse init images that replace our init's files, or files it reads.

    Raises BuildError if an image does.
    """
    runtimes: dict[str, tuple[str, str]] = {}
    trees = [(image, image_tree(image, store)) for image in init]
    _check_precedence(tree, trees)
    for image, files in trees:
        is_ours = PROTOCOL in image.config.labels
        for path, node in files.nodes.items():
            is_run = not _is_under(path, UNIMPORTANT) if is_ours else _is_program(path) and path not in ROOT_LINKS
            if is_run and not is_same(tree.get(path), node):
                raise BuildError(f"another init image replaces /{path} of {image.reference}", HINT)
            if not is_ours and node.kind != "dir" and _is_read(path) and not is_within(path, DAEMONS):
                raise BuildError(f"the init image {image.reference} contains /{path}, which belongs to init", HINT)
            folder, _, name = path.rpartition("/")
            if folder in PROGRAM_FOLDERS and name in RUNTIMES:
                where, whose = runtimes.setdefault(name, (path, image.reference))
                if path != where and image.reference != whose:
                    reason = f"the init image {image.reference} brings /{path} beside /{where} of {whose}"
                    raise BuildError(reason, HINT)


def _check_precedence(tree: Tree, trees: Sequence[tuple[StoredImage, Tree]]) -> None:
    """Refuse libraries that a loader takes in the place of another image's.

    So are links by which a program or library would come from where containers write, or the folders of programs,
    libraries or settings from another.

    Raises BuildError if an image has one.
    """
    libraries = [{tree.resolve(path) for path in files.nodes if _is_library(path)} for _, files in trees]
    for (image, files), own in zip(trees, libraries, strict=True):
        for folder in ("etc", *sorted(ROOT_LINKS, reverse=True)):
            if (where := files.resolve(folder, whole=True)) not in {"etc", *ROOT_LINKS}:
                raise BuildError(f"the init image {image.reference} brings /{folder}, a link to /{where}", HINT)
        others = {place for other in libraries if other is not own for place in other}
        for path, node in files.nodes.items():
            if node.kind == "symlink" and _is_program(path) and _is_under(tree.resolve(path, whole=True), OTHERS):
                raise BuildError(f"the init image {image.reference} brings /{path}, a link to others' files", HINT)
            later = _later_places(tree.resolve(path)) if _is_library(path) else ()
            if shadowed := next((place for place in later if place in others), ""):
                raise BuildError(f"the init image {image.reference} brings /{path} before /{shadowed}", HINT)


def _later_places(place: str) -> Iterator[str]:
    """Yield where a loader looks for a library after a path."""
    folder, _, name = place.rpartition("/")
    yield from (f"{above}/{name}" for above in PurePosixPath(folder).parents)
    if not is_within(folder, "usr"):
        yield from (f"usr/{below}/{name}" for below in (folder, *PurePosixPath(folder).parents))


def check_cmdline(words: str, place: str) -> None:
    """Refuse kernel parameters that start another init, or configure init.

    Raises BuildError if the command line, of a place such as `kernel.cmdline`, has one.
    """
    parameters = SPACES.split(words.encode("utf-8", "replace").decode("latin-1"))
    word = next((word for word in parameters if STEERING.match(word)), None)
    if word is not None:
        reason = f"{place}: {word[:80]!r} would start another program, or configure bootmatrix's init"
        raise BuildError(reason, HINT)


def check_files(before: Mapping[str, Node], tree: Tree) -> None:
    """Refuse `files` that replace programs of the init images or their inputs.

    `before` is the tree without these entries.

    Raises BuildError if an entry does.
    """
    for path, node in before.items():
        now = tree.nodes.get(path)
        is_replaced = now is None or (now is not node and not (now.kind == node.kind == "dir"))
        if is_replaced and (_is_program(path) or _is_own(path)):
            raise BuildError(f"files: an entry replaces /{path} of the init images, or of a container", HINT)
    for path, node in tree.nodes.items():
        if path not in before and (_is_own(path) or _is_shadow(path, node)):
            raise BuildError(f"files: /{path} would be read or run by init", HINT)


def is_same(node: Node | None, other: Node) -> bool:
    """Return whether two nodes are equal but for owners and times."""
    if node is None or node.kind != other.kind:
        return False
    if node is other or node.kind == "dir":
        return True
    return (node.target, node.device) == (other.target, other.device) and node.has_data_of(other)


def _is_read(path: str) -> bool:
    return _is_under(path, (*SETTINGS, "etc/ld.so.preload"))


def _is_own(path: str) -> bool:
    return path == "init" or _is_under(path, (*SETTINGS, *LOADER))


def _is_program(path: str) -> bool:
    return _is_under(path, (*PROGRAM_FOLDERS, *LIBRARY_FOLDERS))


def _is_shadow(path: str, node: Node) -> bool:
    """Return whether a new file is one that init, its runtime or Linux would take."""
    if node.kind == "dir":
        return False
    is_loaded = ".so" in path.rpartition("/")[2] or node.kind == "symlink"
    return path in ROOT_LINKS or _is_program_of(path, RUNTIMES | HELPERS) or (is_loaded and _is_library(path, ""))


def _is_program_of(path: str, names: Collection[str]) -> bool:
    folder, _, name = path.rpartition("/")
    return folder in PROGRAM_FOLDERS and name in names


def _is_library(path: str, mark: str = ".so") -> bool:
    return mark in path.rpartition("/")[2] and _is_under(path, LIBRARY_FOLDERS)


def _is_under(path: str, folders: Iterable[str]) -> bool:
    return any(is_within(path, folder) for folder in folders)
