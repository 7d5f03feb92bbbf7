"""The plan of a guest for commands: a spec's, or one that serves an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.load.recipe import shipped_image
from bootmatrix.load.spec import find_spec
from bootmatrix.model import Container, GuestSize, ImageOverride, Machine, Spec
from bootmatrix.model.cell import Network
from bootmatrix.model.spec import CHECK, MODULES
from bootmatrix.qemu.host import total_memory_mib
from bootmatrix.scaffold.thing import find_thing
from bootmatrix.workspace.guest import CONTAINERS
from bootmatrix.workspace.planned_run import PlannedRun

DEFAULT_IMAGE = "debian-small"
ROOT = "root"
"""Name of the container whose root commands use, in a guest made for an image."""
ROOMY_MIB, HOST_PARTS = 2048, 4
"""Memory of a guest for an image: half of it can be files. At most one of so many parts of the host's."""
SPECS = (".yml", ".yaml")


def image_spec(image: str, network: Network | None = None, modules: Sequence[str] = ()) -> tuple[Spec, ImageOverride]:
    """Return a spec that runs nothing in an image's root, and its source.

    A shipped image is named by its folder, or as `NAME:TAG`. With a network, only its DHCP client runs. The kernel's
    modules are loaded.
    """
    folder = specs_folder()
    shipped = shipped_image(image)
    annotations = {CHECK: "1s", **({MODULES: " ".join(modules)} if modules else {})}
    root = Container(name=ROOT, image="bootmatrix.invalid/root", annotations=annotations)
    spec = Spec(name="exec", path=str(folder / "exec.yml"), init=("@pkg:./images/init",), services=(root,))
    if network in {"guest", "outbound"}:
        client = Container(name="dhcpcd", image="@pkg:./images/dhcpcd")
        spec = spec.model_copy(update={"init": (*spec.init, "@pkg:./images/crun"), "onboot": (client,)})
    source = f"@pkg:./images/{shipped}" if shipped else image
    return spec, ImageOverride(pattern=root.image, source=source, folder=str(folder) if shipped else ".")


def roomy_size(machine: Machine, host_mib: int) -> GuestSize:
    """Return a size for commands that write: install packages, unpack trees.

    A guest takes from the host only the memory that it uses.
    """
    memory_mib = min(ROOMY_MIB, host_mib // HOST_PARTS, machine.max_memory_mib or 0)
    return GuestSize(memory_mib=memory_mib) if memory_mib > machine.memory_mib else GuestSize()


def plan_guest(
    plan_single: Callable[[str], PlannedRun], name: str, modules: Sequence[str] = ()
) -> tuple[PlannedRun, str]:
    """Plan one guest of a spec or an image; return the root of its commands too.

    `plan_single` plans one cell of a spec. `modules` of the kernel are loaded for an image; a spec names its own.

    Raises InputError if the architecture, kernel or spec is unknown.
    """
    name = _image_at(name)
    try:
        spec_path = str(find_spec(name)) if name != DEFAULT_IMAGE else ""
    except InputError:
        if name.endswith(SPECS):
            raise
        spec_path = ""
    if spec_path:
        planned = plan_single(spec_path)
        return replace(planned, config=replace(planned.config, fork=True)), ""
    planned = plan_single("hello")
    spec, override = image_spec(name, planned.cells[0].network, modules)
    first = planned.cells[0]
    size = first.size.over(roomy_size(planned.config.machine(first), total_memory_mib()))
    cell = first.model_copy(update={"spec": spec.path, "spec_name": spec.name, "size": size})
    sources = replace(planned.config.sources, images=(override, *planned.config.sources.images))
    config = replace(planned.config, sources=sources, specs={spec.path: spec}, fork=True)
    plan = planned.plan.model_copy(update={"cells": (cell,)})
    return replace(planned, plan=plan, config=config), f"{CONTAINERS}/services/{ROOT}/rootfs"


def _image_at(name: str) -> str:
    """Return the source of an image's archive or layout that a path names.

    Other names are returned as they are. Raises InputError if nothing is at a path.
    """
    is_path = name.startswith(("/", "./", "../")) and not name.endswith(SPECS)
    try:
        return (find_thing([name]).image if is_path else "") or name
    except InputError:
        if not Path(name).exists():
            raise
        return name
