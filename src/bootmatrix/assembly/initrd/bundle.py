"""OCI bundles in the guest, laid out as in LinuxKit, and preparations.

containers/SECTION/FOLDER/config.json     configuration of the OCI runtime
containers/SECTION/FOLDER/runtime.json    preparations, in LinuxKit's format
containers/SECTION/FOLDER/rootfs          the root; if writable, an overlay on lower/ with tmp/
etc/bootmatrix/containers/SECTION/FOLDER  the preparations as steps for init, one per line, separated by tabs
etc/bootmatrix/hooks/SECTION/FOLDER       actions between creating the namespaces and starting the container
etc/bootmatrix/configs/SECTION/FOLDER.json  the runtime's configuration, if it differs from config.json
etc/bootmatrix/roots                      roots on disks: serial number, path, `rw` if something is written there
"""

import json
import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.image.roots import completed
from bootmatrix.assembly.initrd.bundle_spec import BundleSpec, writes_root
from bootmatrix.assembly.initrd.privileges import MAGIC, ORDINARY, is_bind, is_open
from bootmatrix.assembly.initrd.runtime_config import full_mount, runtime_config
from bootmatrix.assembly.initrd.world import BINDS, WORLD, is_volume, normal
from bootmatrix.assembly.tree import Tree, directory, text_file
from bootmatrix.errors import BuildError
from bootmatrix.model.artefact import ExpectedFiles
from bootmatrix.model.spec import RESULTS, BindNS, Runtime
from bootmatrix.store import Store

MAX_RESULT_BYTES = 400
"""Of a path: init names it in a message of 768 bytes (src/guest/report.c), in base64."""
MAX_RESULTS = 16
STEPS_FOLDER = "etc/bootmatrix/containers"
HOOKS_FOLDER = "etc/bootmatrix/hooks"
CONFIGS_FOLDER = "etc/bootmatrix/configs"
ROOTS_LIST = "etc/bootmatrix/roots"
SERIAL_CHARACTERS = 20
"""VIRTIO_BLK_ID_BYTES of linux/virtio_blk.h."""
SHARED_PIDS = "etc/bootmatrix/pids"
"""Is there if init is to make a namespace of process ids that containers share."""
PIDS = "/bootmatrix/pids"
"""Its path. Init's processes are outside of it: containers cannot see or signal them."""
CONTROL = "/run/bootmatrix"
"""Folder that a container binds to make requests: docs/guest-protocol.md."""
CONTROL_FOLDER = "/bootmatrix/control"
"""Init's folders with a pipe for each such container."""
CRUN = "run.oci."
"""Prefix of annotations with which crun mounts, runs or writes more than other runtimes (crun(1))."""
HOOK_PROGRAM = "/usr/lib/bootmatrix/hook"
NONE = "-"
"""Placeholder for an empty word of a step."""

Json = dict[str, Any]


def add_bundles(  # noqa: PLR0913
    bundles: Sequence[BundleSpec],
    ids: Mapping[str, int],
    tree: Tree,
    store: Store,
    *,
    in_world: bool = False,
    on_disk: Collection[str] = (),
) -> None:
    """Add all bundles; as in LinuxKit, containers of one image share a root.

    With `in_world`, they see their own view of the guest's root (world.py). Init mounts the roots of the images
    `on_disk`, by digest.

    Raises BuildError if the guest does not support a setting.
    """
    roots: dict[str, str] = {}
    for bundle in bundles:
        own = own_root(bundle)
        root = roots.setdefault(bundle.image.digest, own)
        if root == own and bundle.image.digest in on_disk:
            tree.put(own, directory())
        elif root == own:
            tree.graft(completed(image_tree(bundle.image, store)), own)
        for folder in ("rootfs",) if bundle.settings.readonly else ("tmp", "rootfs"):
            if tree.get(f"{bundle.path}/{folder}") is None:
                tree.put(f"{bundle.path}/{folder}", directory())
        _add_configuration(bundle, root, ids, tree, in_world=in_world)
        if shares_pids(bundle):
            tree.put(SHARED_PIDS, text_file(""))
    if on_disk:
        tree.put(ROOTS_LIST, text_file("".join(_root_lines(bundles, roots, on_disk))))


def own_root(bundle: BundleSpec) -> str:
    """Return the path of the root of a bundle's image, if it is the first one."""
    return f"{bundle.path}/{'rootfs' if bundle.settings.readonly else 'lower'}"


def disk_serial(digest: str) -> str:
    """Return the serial number by which init knows the disk of an image."""
    return digest[:SERIAL_CHARACTERS]


def _root_lines(bundles: Sequence[BundleSpec], roots: Mapping[str, str], on_disk: Collection[str]) -> Iterator[str]:
    written = {bundle.image.digest for bundle in bundles if writes_root(bundle)}
    for digest, root in roots.items():
        if digest in on_disk:
            yield f"{disk_serial(digest)}\t/{root}\t{'rw' if digest in written else 'ro'}\n"


def _add_configuration(bundle: BundleSpec, root: str, ids: Mapping[str, int], tree: Tree, *, in_world: bool) -> None:
    config = runtime_config(bundle.container, bundle.settings, bundle.image.config, ids)
    runtime = _runtime(bundle, root)
    tree.put(f"{bundle.path}/config.json", text_file(json.dumps(config, indent=1)))
    tree.put(f"{bundle.path}/runtime.json", text_file(json.dumps(runtime, indent=1)))
    hooks = list(_hook_lines(bundle, runtime))
    own = _own_configuration(bundle, config, is_hooked=bool(hooks))
    steps = list(_steps(bundle, runtime, in_world=in_world))
    if own["mounts"] != config["mounts"]:
        steps.append(("control",))
    if in_world:
        own, binds = _in_world(bundle, config, own)
        steps += binds
    if own != config:
        steps.append(_replaced(bundle, own, tree))
    tree.put(f"{STEPS_FOLDER}/{bundle.section}/{bundle.folder}", text_file(_lines(bundle, steps)))
    if hooks:
        tree.put(f"{HOOKS_FOLDER}/{bundle.section}/{bundle.folder}", text_file(_lines(bundle, hooks)))


def _runtime(bundle: BundleSpec, root: str) -> Json:
    """Return runtime.json: all keys, as in LinuxKit, the root's mounts first."""
    runtime = bundle.settings.runtime or Runtime()
    spaces = runtime.bind_ns or BindNS()
    return {
        "cgroups": list(runtime.cgroups or ()),
        "mounts": [
            *_root_mounts(bundle, root),
            *(full_mount(bundle.container, mount) for mount in runtime.mounts or ()),
        ],
        "mkdir": list(runtime.mkdir or ()),
        "interfaces": [
            interface.model_dump(by_alias=True, exclude_defaults=True) | {"createInRoot": interface.create_in_root}
            for interface in runtime.interfaces or ()
        ],
        "bindNS": {name: path or "" for name, path in spaces.model_dump().items()},
        "namespace": runtime.namespace or "",
    }


def _root_mounts(bundle: BundleSpec, root: str) -> list[Json]:
    rootfs, tmp = f"/{bundle.path}/rootfs", f"/{bundle.path}/tmp"  # noqa: S108
    if bundle.settings.readonly:
        return [{"destination": rootfs, "source": f"/{root}", "options": ["bind"]}]
    overlay = [f"lowerdir=/{root}", f"upperdir={tmp}/upper", f"workdir={tmp}/work"]
    return [
        {"destination": tmp, "type": "tmpfs", "source": "tmpfs"},
        {"destination": tmp, "options": ["remount", "private"]},
        {"destination": rootfs, "type": "overlay", "source": "overlay", "options": overlay},
    ]


def _steps(bundle: BundleSpec, runtime: Json, *, in_world: bool) -> Iterator[tuple[str, ...]]:
    """Return steps in LinuxKit's order: mounts, folders, groups, results."""
    for number, mount in enumerate(runtime["mounts"]):
        is_root = number < (1 if bundle.settings.readonly else 3)
        yield from _mount_steps(bundle, mount) if is_root or not in_world else _world_mount_steps(bundle, mount)
    for path in runtime["mkdir"]:
        is_inside = not path.startswith("/")
        yield (("inside-mkdir" if is_inside else "world-mkdir") if in_world else "mkdir", _absolute(bundle, path))
    yield from (("mkdir", _cgroup(bundle, path)) for path in runtime["cgroups"])
    yield from (("result", path) for path in result_paths(bundle))


def _mount_steps(bundle: BundleSpec, mount: Json) -> Iterator[tuple[str, ...]]:
    destination = _absolute(bundle, mount["destination"])
    options = mount.get("options", [])
    if options == ["remount", "private"]:  # nothing is shared in this guest, so nothing must be made private
        return
    yield ("mkdir", destination)
    for option in options:
        if option.startswith(("upperdir=", "workdir=")):
            yield ("mkdir", option.partition("=")[2])
    yield ("mount", mount.get("type") or NONE, mount.get("source") or NONE, destination, ",".join(options) or NONE)


def _world_mount_steps(bundle: BundleSpec, mount: Json) -> Iterator[tuple[str, ...]]:
    """Return the steps of mounts in the containers' view, which resolves their paths.

    Raises BuildError if a mount inside of the container needs a type of its own.
    """
    options, kind = list(mount.get("options", ())), mount.get("type", "")
    words = (kind or NONE, mount.get("source") or NONE, mount["destination"], ",".join(options) or NONE)
    if mount["destination"].startswith("/"):
        made = [option.partition("=")[2] for option in options if option.startswith(("upperdir=", "workdir="))]
        yield from (("world-mkdir", path) for path in (mount["destination"], *made))
        yield ("world-mount", *words)
        return
    if not is_bind(kind, options) and kind not in ORDINARY:
        raise BuildError(
            f"container {bundle.container.name}: runtime.mounts has a mount of type {kind} inside of the container",
            "Put it under 'mounts', or at an absolute path that the container binds.",
        )
    yield ("inside-mount", *words)


def _cgroup(bundle: BundleSpec, path: str) -> str:
    if ".." in path.split("/"):
        raise BuildError(f"container {bundle.container.name}: the control group {path!r} leaves its folder")
    return f"/sys/fs/cgroup/{path.strip('/')}"


def _in_world(bundle: BundleSpec, config: Json, own: Json) -> tuple[Json, list[tuple[str, ...]]]:
    """Rewrite paths for the containers' view; add steps that resolve binds.

    Paths in `own` are unchanged.
    """
    mounts: list[Json] = []
    steps: list[tuple[str, ...]] = []
    for number, (original, mount) in enumerate(zip(config["mounts"], own["mounts"], strict=True)):
        source, place = mount["source"], f"{bundle.section}-{bundle.folder}-{number}"
        if original != mount or is_volume(normal(source)):
            mounts.append(mount)
        elif is_bind(mount["type"], mount.get("options", ())):
            if MAGIC.match(normal(source)) and not is_open(bundle.settings):
                raise BuildError(
                    f"container {bundle.container.name}: the bind {source!r} leads through another process",
                    "Bind the folder itself by its path in the guest, such as / for /proc/1/root.",
                )
            steps.append(("bind", place, source, "all" if is_open(bundle.settings) else NONE))
            mounts.append({**mount, "source": f"{BINDS}/{place}"})
        else:  # init's own /dev has few devices in this case
            mounts.append({**mount, "source": WORLD + normal(source)} if source.startswith("/dev/") else mount)
    spaces = [_world_namespace(space) for space in own["linux"]["namespaces"]]
    return {**own, "mounts": mounts, "linux": {**own["linux"], "namespaces": spaces}}, steps


def _world_namespace(space: Json) -> Json:
    path = space.get("path", "")
    is_ours = not path or path == PIDS or path.startswith("/proc/")
    return space if is_ours else {**space, "path": f"{WORLD}{normal(path)}"}


def _absolute(bundle: BundleSpec, path: str) -> str:
    """Return a guest path; a relative one is inside of the container."""
    return path if path.startswith("/") else f"/{bundle.path}/rootfs/{path}"


def _own_configuration(bundle: BundleSpec, config: Json, *, is_hooked: bool) -> Json:
    """Return LinuxKit's configuration with the additions of this guest."""
    own = dict(config)
    if is_hooked:
        hook = {"path": HOOK_PROGRAM, "args": ["hook", f"/{HOOKS_FOLDER}/{bundle.section}/{bundle.folder}"]}
        own["hooks"] = {"createRuntime": [hook]}
    if annotations := config.get("annotations"):
        own["annotations"] = {key: text for key, text in annotations.items() if not key.startswith(CRUN)}
    own["mounts"] = [_with_own_control(bundle, mount) for mount in config["mounts"]]
    if shares_pids(bundle):
        spaces = [*config["linux"]["namespaces"], {"type": "pid", "path": PIDS}]
        own["linux"] = {**config["linux"], "namespaces": spaces}
    return own


def _with_own_control(bundle: BundleSpec, mount: Json) -> Json:
    """Return a mount; a bind of the control folder becomes read-only and private."""
    source = posixpath.normpath(mount["source"])
    if source not in {CONTROL, f"{CONTROL}/control"} or not is_bind(mount["type"], mount.get("options", [])):
        return mount
    own = f"{CONTROL_FOLDER}/{bundle.section}/{bundle.folder}{source.removeprefix(CONTROL)}"
    return {**mount, "source": own, "options": ["ro", "rbind"]}


def shares_pids(bundle: BundleSpec) -> bool:
    """Return whether a container shares its process IDs with others."""
    return bundle.settings.pid in {"host", "root"}


def _replaced(bundle: BundleSpec, own: Json, tree: Tree) -> tuple[str, ...]:
    """Add a configuration; return the step that replaces LinuxKit's with it."""
    place = f"{CONFIGS_FOLDER}/{bundle.section}/{bundle.folder}.json"
    tree.put(place, text_file(json.dumps(own, indent=1)))
    return ("mount", NONE, f"/{place}", f"/{bundle.path}/config.json", "bind")


def _hook_lines(bundle: BundleSpec, runtime: Json) -> Iterator[tuple[str, ...]]:
    """Return the hook's lines: `add NAME TYPE PEER root|new`, `bind NS PATH`.

    Raises BuildError if an interface lacks a name or its peer.
    """
    for interface in runtime["interfaces"]:
        name, peer = interface.get("name", ""), interface.get("peer", "")
        kind = interface.get("add", "") or ("veth" if peer else "")
        if not name or (kind == "veth" and not peer):
            lack = "peer" if name else "name"
            raise BuildError(f"container {bundle.container.name}: an interface has no {lack}")
        if kind:
            yield ("add", name, kind, peer or NONE, "root" if interface["createInRoot"] or peer else "new")
        else:
            yield ("move", name)
    yield from (("bind", name, path) for name, path in runtime["bindNS"].items() if path)


def _lines(bundle: BundleSpec, steps: Iterable[tuple[str, ...]]) -> str:
    lines = []
    for step in steps:
        if any(set(word) & set("\t\n\0") for word in step):
            raise BuildError(f"container {bundle.container.name}: a tab or a line end in {' '.join(step)!r}")
        lines.append("\t".join(step) + "\n")
    return "".join(lines)


def result_paths(bundle: BundleSpec) -> tuple[str, ...]:
    """Return a container's result files.

    Raises BuildError if a path is not absolute, or there are too many.
    """
    words = (bundle.settings.annotations or {}).get(RESULTS, "").split()
    paths = tuple(dict.fromkeys(word.rstrip("/") for word in words))
    if len(paths) > MAX_RESULTS:
        raise BuildError(
            f"container {bundle.container.name}: {len(paths)} results, and {MAX_RESULTS} at most can be sent"
        )
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/") or not path:
            fault = f"the result {path or '/'!r} is not the absolute path of a file or folder"
            raise BuildError(f"container {bundle.container.name}: {fault}")
        if len(path.encode()) > MAX_RESULT_BYTES:
            fault = f"the result {path[:60]}… has more than {MAX_RESULT_BYTES} bytes in its path"
            raise BuildError(f"container {bundle.container.name}: {fault}")
    return paths


def results(bundles: Iterable[BundleSpec]) -> tuple[ExpectedFiles, ...]:
    """Return the result files of all containers that have some."""
    return tuple(
        ExpectedFiles(container=bundle.container.name, paths=paths, section=bundle.section)
        for bundle in bundles
        if (paths := result_paths(bundle))
    )
