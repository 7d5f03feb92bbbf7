"""A cell of the user tier: containers on the host's kernel, by qemu-user."""

import os
import platform
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import IO, Any

import anyio.to_thread

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.image.programs import check_programs
from bootmatrix.assembly.initrd.bundle import own_root, result_paths
from bootmatrix.assembly.initrd.bundle_spec import BundleSpec, check_seconds, place
from bootmatrix.assembly.initrd.root import RootParts, base_tree, container_ids, guest_tree, id_order
from bootmatrix.assembly.initrd.runtime_config import runtime_config
from bootmatrix.assembly.initrd.world import is_volume, is_within, normal
from bootmatrix.assembly.tree import EPOCH_S, Tree, write_tar
from bootmatrix.assembly.userland import fetch_images, image_artefact
from bootmatrix.cell.bounded_output import BoundedOutput
from bootmatrix.errors import HostError
from bootmatrix.fsio import create_plain, read_whole
from bootmatrix.judge.user_tier import judge_user
from bootmatrix.model import Artefact, Judgement, Machine, Profile, Spec
from bootmatrix.model.profile import has_magic
from bootmatrix.model.user_tier import UserBind, UserContainer, UserEnd, UserOutcome, UserRole
from bootmatrix.qemu.cgroup import bounded
from bootmatrix.qemu.user_mode import (
    ELF_BYTES,
    NAME,
    TREE_MIB,
    Emulator,
    check_kernel,
    find_emulator,
    leashed,
    sandbox,
    script,
)
from bootmatrix.runs.run_store import CONSOLE_FILE

NAMESPACED = {
    *("CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD"),
    *("CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"),
    "CAP_SYS_CHROOT",
}
"""Those of an ordinary container. In a namespace of one user they reach its own files and processes only."""
MAX_ACCOUNT_BYTES = 1 << 20
LIMIT_S = 60.0
"""For everything beside what the containers may take."""
MAX_PROCESSES = 1024
"""Limit of processes and threads of a cell, where the host has control groups for it."""
PLAIN_MOUNTS = {"proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts"}
"""Every container has these, or, of /sys, does without."""
ELF = b"\x7fELF"


class Unsupported(Exception):
    """A spec needs what only a guest has; the message names it."""


def containers_of(
    spec: Spec, bundles: tuple[BundleSpec, ...], ids: Mapping[str, int], tree: Tree
) -> list[UserContainer]:
    """Translate the containers of a spec.

    Raises Unsupported if a container needs rights or devices that only a guest has.
    """
    limits = check_seconds(bundles)
    roots: dict[str, str] = {}
    for bundle in id_order(bundles):  # as the tree has them
        roots.setdefault(bundle.image.digest, own_root(bundle))
    made = [
        _container(
            bundle,
            roots[bundle.image.digest],
            runtime_config(bundle.container, bundle.settings, bundle.image.config, ids),
            tree,
        )
        for bundle in bundles
    ]
    if spec.kernel.cmdline or spec.kernel.image:
        raise Unsupported("the spec has a kernel or a kernel command line of its own")
    if not made:
        raise Unsupported("the spec has no container")
    return [
        bundle.model_copy(update={"role": "check", "limit_s": limits[bundle.name]})
        if bundle.role == "service" and bundle.name in limits
        else bundle
        for bundle in made
    ]


ROLES: dict[str, UserRole] = {"onboot": "onboot", "services": "service", "onshutdown": "onshutdown"}


def _container(bundle: BundleSpec, root: str, config: dict[str, Any], tree: Tree) -> UserContainer:
    name, process = bundle.container.name, config["process"]
    for what, needs in _needs(bundle, config):
        if needs:
            raise Unsupported(f"container {name} has {what}, which only a guest has")
    binds, tmpfs = _mounts(name, config["mounts"], tree)
    spaces = {space["type"] for space in config["linux"]["namespaces"]}
    return UserContainer(
        role=ROLES[bundle.section],
        name=name,
        root=root,
        arguments=tuple(process["args"]),
        environment=tuple(process["env"]),
        cwd=process["cwd"],
        uid=process["user"]["uid"],
        gid=process["user"]["gid"],
        binds=tuple(binds),
        tmpfs=tuple(tmpfs),
        is_readonly=bool(bundle.settings.readonly),
        capabilities=tuple(sorted(_capabilities(config))),
        has_network="network" not in spaces,
        limit_s=LIMIT_S,
    )


def _needs(bundle: BundleSpec, config: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    linux, settings = config["linux"], bundle.settings
    yield "a name that is not plain", not NAME.fullmatch(bundle.container.name)
    yield "capabilities for the whole machine", bool(_capabilities(config) - NAMESPACED)
    yield "devices", bool(linux.get("devices"))
    yield "sysctl settings", bool(linux.get("sysctl"))
    yield "mappings of users", bool(linux.get("uidMappings") or linux.get("gidMappings"))
    yield "'runtime' settings", settings.runtime is not None
    yield "the process ids of others", settings.pid not in {None, "new"}
    yield "a network namespace by its path", any("path" in space for space in linux["namespaces"])
    yield "result files", bool(result_paths(bundle))
    yield "a hostname", bool(config.get("hostname"))


def _capabilities(config: dict[str, Any]) -> set[str]:
    return {name for names in config["process"]["capabilities"].values() for name in names}


def _mounts(name: str, mounts: Iterable[dict[str, Any]], tree: Tree) -> tuple[list[UserBind], list[str]]:
    binds: list[UserBind] = []
    tmpfs: list[str] = []
    for mount in mounts:
        kind, place = mount["type"], mount["destination"]
        if kind == "bind" or "bind" in mount.get("options", ()) or "rbind" in mount.get("options", ()):
            binds.append(_bind(name, mount, tree))
        elif kind == "tmpfs" and place != "/dev":
            tmpfs.append(place)
        elif kind not in PLAIN_MOUNTS | {"tmpfs"}:
            raise Unsupported(f"container {name} mounts a {kind}, which only a guest can")
    return binds, tmpfs


def _bind(name: str, mount: dict[str, Any], tree: Tree) -> UserBind:
    source = normal(mount["source"])
    if not is_volume(source):
        source = normal(tree.resolve(source, whole=True))
        top = source[1:].partition("/")[0]
        known = tree.get(source[1:]) if source != "/" else None
        if known is None or known.kind not in {"dir", "file"} or top in {"containers", "etc", "usr", "bin", "lib"}:
            raise Unsupported(f"container {name} binds {source}, which only a guest has")
    return UserBind(source=source, destination=mount["destination"], is_readonly="ro" in mount.get("options", ()))


def first_program(tree: Tree, profile: Profile) -> bytes:
    """Return the beginning of a container's program for an architecture.

    A container may hold others beside it, such as a source tree with files that were built on the host. The profile's
    first kind of program is preferred.

    Raises Unsupported without one.
    """
    headers: dict[str, bytes] = {}
    for path, node in tree.items():
        if path.startswith("containers/") and node.kind == "file" and node.mode & 0o111 and node.size > ELF_BYTES:
            with node.open() as file:
                header = file.read(ELF_BYTES)
            kind = next((magic for magic in profile.programs if has_magic(header, magic)), "")
            if kind or (header.startswith(ELF) and not profile.programs):
                headers.setdefault(kind, header)
            if kind and kind == profile.programs[0]:
                break
    found = next((headers[kind] for kind in (*profile.programs, "") if kind in headers), b"")
    if not found:
        raise Unsupported(f"no container has a program for {profile.name}")
    return found


class UserRun:
    """One run: a child process, its console and its account."""

    def __init__(self, console: Path, emulator: Emulator | None, machine: Machine) -> None:
        self._machine = machine.model_copy(update={"memory_mib": TREE_MIB + machine.memory_mib, "cpus": MAX_PROCESSES})
        self._console = console
        self._emulator = emulator
        self._account = bytearray()
        self._process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """End the child and everything in its namespaces, unless it has ended."""
        if self._process and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def run(self, command: tuple[str, ...], tree: Tree, limit_s: float) -> UserOutcome:
        """Run a command with the tree on stdin; return the outcome. Blocking.

        Raises HostError if it cannot be started.
        """
        started = time.monotonic()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(f"{command[0]} cannot be started: {error.strerror}") from error
        self._process, is_late = process, False
        with bounded(self._machine) as bound, process:
            bound.hold(process.pid)
            threads = [
                Thread(target=_feed, args=(process.stdin, tree), daemon=True),
                Thread(target=self._read_console, args=(process.stdout,), daemon=True),
                Thread(target=self._read_account, args=(process.stderr,), daemon=True),
            ]
            try:
                for thread in threads:
                    thread.start()
                process.wait(limit_s)
            except subprocess.TimeoutExpired:
                is_late = True
            finally:
                self.kill()
            for thread in threads:
                thread.join()
        return self._outcome(is_late=is_late, wall_s=time.monotonic() - started)

    def _read_console(self, pipe: IO[bytes]) -> None:
        with create_plain(self._console) as file:
            output = BoundedOutput(file)
            while data := pipe.read1(1 << 16):  # type: ignore[attr-defined]
                output.feed(data)
            output.finish()

    def _read_account(self, pipe: IO[bytes]) -> None:
        while data := pipe.read1(1 << 16):  # type: ignore[attr-defined]
            self._account += data[: MAX_ACCOUNT_BYTES - len(self._account)]

    def _outcome(self, *, is_late: bool, wall_s: float) -> UserOutcome:
        started: list[int] = []
        ends: list[UserEnd] = []
        calls: dict[int, tuple[int, ...]] = {}
        fault, finished, stopping = "", False, False
        for line in self._account.decode("ascii", "replace").splitlines():
            match line.split(" "):
                case ["start", number]:
                    started.append(int(number))
                case ["end", number, status]:
                    ends.append(UserEnd(number=int(number), status=int(status), was_stopped=stopping))
                case ["lacks", number, call]:
                    calls[int(number)] = (*calls.get(int(number), ()), int(call))
                case ["stopping"]:
                    stopping = True
                case ["done"]:
                    finished = True
                case _:
                    fault = fault or line.removeprefix("broken ")[:200]
        if not started and not fault and not is_late:
            fault = "its namespaces could not be made"
        return UserOutcome(
            emulator=str(self._emulator.program.name) if self._emulator else "",
            kernel_release=platform.release(),
            started=tuple(started),
            ends=tuple(ends),
            missing_calls=calls,
            fault=fault,
            is_late=is_late,
            finished=finished,
            wall_s=wall_s,
        )


def _feed(pipe: IO[bytes], tree: Tree) -> None:
    with suppress(BrokenPipeError), pipe, tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        write_tar(tree, archive, EPOCH_S)


@dataclass(frozen=True)
class UserCell:
    """A cell of the user tier, ready to run."""

    containers: tuple[UserContainer, ...]
    tree: Tree
    emulator: Emulator | None
    volumes: tuple[str, ...]
    machine: Machine
    artefacts: tuple[Artefact, ...]
    spec_sha256: str

    @property
    def limit_s(self) -> float:
        """Seconds for the whole run."""
        return LIMIT_S + sum(container.limit_s for container in self.containers)


def prepare_user(spec: Spec, profile: Profile, machine: Machine, builder: Builder) -> UserCell:
    """Fetch and build everything of a cell. Blocking.

    Raises Unsupported if the spec needs what only a guest has, BuildError if a program is for another architecture,
    which this host may run itself; HostError if the emulator is missing, or the kernel is too old.
    """
    if spec.own:
        raise Unsupported("a prebuilt guest has a kernel of its own")
    images = fetch_images(spec, profile, builder)
    bundles = place(spec, images)
    init = [images[reference] for reference in spec.init]
    tree = _without_init(guest_tree(RootParts(spec, images, bundles, builder.store)), base_tree(init, builder.store))
    containers = containers_of(spec, bundles, container_ids(bundles), tree)
    _check_nested(containers)
    check_programs(bundles, profile, builder)
    emulator = find_emulator(profile, first_program(tree, profile))
    if emulator:
        check_kernel(platform.release())
    artefacts = tuple(image_artefact(image, builder) for image in images.values())
    volumes = tuple(volume.name for volume in spec.volumes)
    return UserCell(tuple(containers), tree, emulator, volumes, machine, artefacts, spec.digest())


def _without_init(whole: Tree, init: Tree) -> Tree:
    """Return the tree without init's files and without devices."""
    kept = Tree()
    for path, node in whole.items():
        if node.kind not in {"char", "block"} and (node.kind == "dir" or path not in init.nodes):
            kept.put(path, node)
    return kept


def _check_nested(containers: Iterable[UserContainer]) -> None:
    """Refuse a bind of what another container may replace by a link out of the tree.

    Raises Unsupported if there is one.
    """
    binds = [(container.name, bind) for container in containers for bind in container.binds]
    for name, bind in binds:
        for _, other in binds:
            if not other.is_readonly and bind.source != other.source and is_within(bind.source, other.source):
                raise Unsupported(f"container {name} binds {bind.source} inside of a bind that is written to")


async def run_user_cell(cell: UserCell, folder: Path) -> tuple[UserOutcome, Judgement]:
    """Run and judge a cell; `folder`/console.log. Raises HostError on a fault."""
    run = UserRun(folder / CONSOLE_FILE, cell.emulator, cell.machine)
    code = script(cell.containers, cell.emulator, cell.volumes, cell.machine.cpu or "")
    try:
        work = partial(run.run, leashed(sandbox(code)), cell.tree, cell.limit_s)
        outcome = await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    finally:
        run.kill()
    console = read_whole(folder / CONSOLE_FILE).decode("utf-8", "replace")
    return outcome, judge_user(outcome, cell.containers, console)
