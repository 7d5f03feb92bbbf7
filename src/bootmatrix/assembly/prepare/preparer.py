"""Images prepared in guests: commands that run once, and leave a layer."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from bootmatrix.assembly.assemble import bootable_of, gather
from bootmatrix.assembly.image.builder import Builder, PrepareOrder, image_tree, make_image
from bootmatrix.assembly.image.manifest import write_layer, write_manifest
from bootmatrix.assembly.image.roots import completed
from bootmatrix.assembly.initrd.memory import check_memory
from bootmatrix.assembly.kernel.custom import find_kernel
from bootmatrix.assembly.prepare.guest import CommandRun, PrepareGuest, Tell, open_prepare_guest
from bootmatrix.assembly.prepare.tree_reader import difference
from bootmatrix.errors import BuildError, InfraError, Interrupted
from bootmatrix.guest.frames import ExitKind
from bootmatrix.guest.requests import ENVIRONMENT
from bootmatrix.guest.serve import PROXY
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.load.document import read_document
from bootmatrix.load.facts import ANY_KERNEL, choose_kernels
from bootmatrix.model import Bootable, Container, GuestSize, Kernel, Machine, Package, Profile, Spec, StoredImage
from bootmatrix.model.base import Model, Sha256
from bootmatrix.model.spec import CHECK
from bootmatrix.packaged import packaged
from bootmatrix.progress import Observer
from bootmatrix.qemu.suitability import check_machine
from bootmatrix.qemu.version import qemu_version
from bootmatrix.report.sanitize import one_line
from bootmatrix.report.units import duration
from bootmatrix.source.guest_repository import GuestRepository
from bootmatrix.store import model_codec

FORMAT = "1"
"""Changes whenever the same inputs would give another layer."""
ROOT = "root"
IMAGE = "bootmatrix.invalid/root"
INIT = "@pkg:./images/init"
MEMORY_MIB, STEP_MIB = 2048, 256
"""Files written by commands stay in memory, and can use half of it."""
LAST_LINES = 20
MAX_LINE = 120
"""Characters of a command's last line in a note."""
DECIDING = {"qemu", "machine", "cpu", "arguments", "cmdline", "firmware", "flash", "dtb", "modules"}
"""Fields of a machine that decide what its guest does."""
CONFIGURE = "assembly/prepare/configure.sh"
"""Runs the scripts of unpacked packages. Services are not started: init is not there."""


class PreparedLayer(Model):
    """A layer made in a guest, and the packages that its commands fetched."""

    layer: Sha256
    packages: tuple[Package, ...] = ()


class Preparer:
    """Prepares images. Thread-safe and blocking; `close` ends running guests."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._turn = threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) // 2))
        self._running: set[tuple[asyncio.AbstractEventLoop, asyncio.Task[PreparedLayer]]] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """End running guests. Their threads raise Interrupted."""
        with self._lock:
            self._is_closed = True
            for loop, task in self._running:
                loop.call_soon_threadsafe(task.cancel)

    def __call__(
        self, order: PrepareOrder, profile: Profile, builder: Builder
    ) -> tuple[StoredImage, tuple[Package, ...]]:
        """Return the prepared image, cached, and the packages that its commands fetched.

        Raises BuildError if a command fails, or no machine of the architecture can run it; InfraError for a fault of
        the archive, the network or the host.
        """
        machine, kernel = choose_machine(order, profile, builder)
        init = make_image(INIT, specs_folder() / "prepare.yml", profile, builder)
        work = _Work(order, profile, machine, kernel, init, replace(builder, fork=False))
        archive, debian = builder.archive, profile.names.debian

        def is_whole(layer: PreparedLayer) -> bool:
            return builder.store.has(layer.layer) and all(
                archive.is_newest(package, debian) for package in layer.packages
            )

        codec = model_codec(PreparedLayer)
        layer = builder.store.cached("prepared", work.key, lambda: self._make(work), codec, is_whole)
        archive.used.add_packages(debian, layer.packages)
        return prepared_image(order.image, layer, profile, builder), layer.packages

    def _make(self, work: _Work) -> PreparedLayer:
        qemu_version(work.machine)
        check_machine(work.machine, work.builder.store)
        with self._turn:
            self._observer.note(f"{work.order.path}: preparing it for {work.profile.name} in a guest")
            try:
                return asyncio.run(self._tracked(work))
            except asyncio.CancelledError:
                raise Interrupted("stopped while an image was prepared") from None

    async def _tracked(self, work: _Work) -> PreparedLayer:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task
        entry = (loop, cast("asyncio.Task[PreparedLayer]", task))
        with self._lock:
            if self._is_closed:
                raise asyncio.CancelledError
            self._running.add(entry)
        try:
            return await work.run(partial(self._still, work))
        finally:
            with self._lock:
                self._running.discard(entry)

    def _still(self, work: _Work, since_s: float, line: str) -> None:
        last = f": {one_line(line)[:MAX_LINE]}" if line else ""
        self._observer.note(
            f"{work.order.path}: still preparing it for {work.profile.name}, {duration(since_s)} after its start{last}"
        )


def choose_machine(order: PrepareOrder, profile: Profile, builder: Builder) -> tuple[Machine, Kernel]:
    """Choose a machine with a port for the agent, and its default kernel.

    Raises BuildError if the architecture has none.
    """
    for name, machine in profile.machines.items():
        if machine.result == "virtio-serial":
            kernel = choose_kernels([ANY_KERNEL], (), (profile, name))[0]
            wanted_mib = MEMORY_MIB + 2 * (order.image.size_bytes >> 20)
            memory_mib = min(-(-wanted_mib // STEP_MIB) * STEP_MIB, machine.max_memory_mib or machine.memory_mib)
            sized = machine.sized(GuestSize(memory_mib=max(memory_mib, machine.memory_mib))).emulated()
            return sized, find_kernel(kernel, profile.kernels_of(name)[kernel], profile, builder)
    raise BuildError(
        f"{order.path}: the image cannot be prepared: no machine of {profile.name} has a virtio-serial port",
        "Exclude the architecture, or remove 'prepare' and 'configure'.",
    )


def prepared_image(image: StoredImage, layer: PreparedLayer, profile: Profile, builder: Builder) -> StoredImage:
    """Return an image with one more layer, and with the packages in it."""
    layers = (*image.layers, layer.layer)
    names = {f"{package.name} {package.version}": package.sha256 for package in layer.packages}
    changes = {
        "layers": layers,
        "digest": write_manifest(layers, image.config, profile.names.oci, builder.store),
        "size_bytes": image.size_bytes + builder.store.blob(layer.layer).stat().st_size,
        "packages": (*image.packages, *names),
        "package_sums": {**image.package_sums, **names},
    }
    return image.model_copy(update=changes)


@dataclass(frozen=True)
class _Work:
    order: PrepareOrder
    profile: Profile
    machine: Machine
    kernel: Kernel
    init: StoredImage
    builder: Builder

    @property
    def key(self) -> str:
        """Cache key of the layer: its inputs, except for packages of commands.

        Another project's profile may differ in any of what decides the guest.
        """
        recipe = self.order.recipe
        parts = {
            "format": FORMAT,
            "image": self.order.image.digest,
            "configure": packaged(CONFIGURE) if recipe.configure else "",
            "prepare": recipe.prepare,
            "suites": self.order.suites,
            "kernel": self.kernel.model_dump(mode="json"),
            "init": self.init.digest,
            "machine": self.machine.model_dump(mode="json", include=DECIDING),
        }
        return json.dumps(parts, sort_keys=True)

    async def run(self, tell: Tell) -> PreparedLayer:
        """Boot a guest, run everything in it, and keep what has changed."""
        store = self.builder.store
        repository = GuestRepository(self.builder.archive, self.profile.names.debian, self.order.suites)
        before = completed(image_tree(self.order.image, store))
        with store.temporary() as (path, file), store.workspace() as folder:
            bootable = await asyncio.to_thread(self._bootable)
            root = f"/containers/services/{ROOT}/rootfs"
            async with open_prepare_guest(self.machine, bootable, root, repository, folder, tell) as guest:
                await self._run_commands(guest, repository)
                after = await guest.tree(path, file)
            layer, _ = write_layer(difference(before, after), store)
        return PreparedLayer(layer=layer, packages=repository.packages)

    def _bootable(self) -> Bootable:
        folder = specs_folder()
        root = Container(name=ROOT, image=IMAGE, command=("/bin/sh",), annotations={CHECK: "1s"})
        spec = Spec(name="prepare", path=str(folder / "prepare.yml"), init=(INIT,), services=(root,))
        images = {INIT: self.init, IMAGE: self.order.image.model_copy(update={"reference": IMAGE})}
        assembly = gather(spec, self.profile, self.machine, self.kernel, self.builder, "auto", images)
        bootable = bootable_of(assembly)
        check_memory(self.machine, bootable)
        return bootable

    async def _run_commands(self, guest: PrepareGuest, repository: GuestRepository) -> None:
        recipe, document = self.order.recipe, read_document(self.order.path)
        config = dict(text.partition("=")[::2] for text in self.order.image.config.env)
        env = {**ENVIRONMENT, **config, "http_proxy": PROXY, "DEBIAN_FRONTEND": "noninteractive"}
        if recipe.configure:
            where = f"{self.order.path}:{document.line(('configure',))}"
            done = await guest.run(packaged(CONFIGURE), env)
            _check(done, f"{where}: the packages' maintainer scripts", repository)
        for number, command in enumerate(recipe.prepare):
            where = f"{self.order.path}:{document.line(('prepare', number))}"
            done = await guest.run(command, env)
            _check(done, f"{where}: {' '.join(command.split())[:200]!r}", repository)


def _check(done: CommandRun, what: str, repository: GuestRepository) -> None:
    if not done.end.status:
        return
    lines = done.output.strip().splitlines()[-LAST_LINES:]
    if done.end.kind is ExitKind.FAULT:
        raise BuildError(f"{what} cannot be run in the guest: {done.end.text}", "The image needs /bin/sh.")
    if repository.fault:  # then the command is not to blame
        message = f"{what} failed without packages of the archive: {repository.fault.message}"
        raise InfraError(message, repository.fault.hint) from repository.fault
    last = f": {lines[-1]}" if lines else ""  # first, for tables show the beginning only
    output = "\n".join(lines)[-4000:]
    raise BuildError(f"{what} failed in the guest: exit status {done.end.status}{last}\n{output}".rstrip())
