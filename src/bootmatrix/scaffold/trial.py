"""The project of `bootmatrix try`: spec, image recipe and matrix of a thing."""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.load.expand import check_kernels, find_targets, product
from bootmatrix.load.facts import ANY_KERNEL
from bootmatrix.load.recipe import SHIPPED, shipped_image
from bootmatrix.model import Cell, Matrix, Profile
from bootmatrix.model.durations import duration_s
from bootmatrix.model.spec import ENGINE_CAPABILITIES
from bootmatrix.packaged import packaged
from bootmatrix.scaffold.debs import EVERY, choose_packages, copy_packages, read_packages, service_command
from bootmatrix.scaffold.programs import FileChoice, choose_programs
from bootmatrix.scaffold.source_tree import check_program, copy_tree, remove_reports, some
from bootmatrix.scaffold.systemd import SYSTEMD, SYSTEMD_FILES, SYSTEMD_PACKAGES, systemd_parts, unit_name
from bootmatrix.scaffold.thing import PLACEHOLDER, find_thing
from bootmatrix.scaffold.trial_request import DEFAULT_IMAGE, PREPARED_IMAGE, TrialRequest, check_request, with_packages
from bootmatrix.scaffold.yaml_text import yaml_text

INIT = (f"{SHIPPED}init", f"{SHIPPED}crun")
DHCP_IMAGE = f"{SHIPPED}dhcpcd"
RESOLVERS = "/run/resolvconf/resolv.conf:/etc/resolv.conf"
"""The list of resolvers that dhcpcd writes, as containers bind it."""
PROBE_IMAGE = f"{SHIPPED}busybox"
DEFAULT_LIMIT = "5m"
DEFAULT_STAYS = "10s"
GET_LIMIT = "1G"
"""Of all result files of a cell."""
LEAST_LIMIT_S = 60.0
"""Of the guest beside its command, as in a matrix: it takes time too."""
ANSWER_S = 60
"""Time that a service has for its first answer."""
KEPT = ("usr/lib/systemd", "etc/systemd", "etc/init.d", "etc/cron.*")
"""Files that recipes leave out by default, and that scripts of packages need."""
ALTERNATIVES = {
    "usr/bin/cc": ("gcc", ("gcc", "build-essential")),
    "usr/bin/c++": ("g++", ("g++", "build-essential")),
    "usr/bin/java": ("../lib/jvm/default-java/bin/java", ("default-jre-headless", "default-jdk-headless")),
    "usr/bin/javac": ("../lib/jvm/default-java/bin/javac", ("default-jdk-headless",)),
}
"""Links that maintainer scripts would set, with their targets, and the packages that bring these."""
SOURCES = "/src"
APT_UPDATE = "apt-get update"
USES_LISTS, MAKES_LISTS = (re.compile(rf"\bapt(-get)? [^;&|\n]*\b{word}(?![\w-])") for word in ("install", "update"))
"""Commands that need apt's lists, which no root brings along, and that fetch them."""

ImageFaults = Callable[[str, Sequence[Cell]], Mapping[str, str]]
"""Returns the architectures of cells that an image lacks, with the reasons."""


ImagePorts = Callable[[str, Sequence[str]], Sequence[int]]
"""Returns the TCP ports that an image exposes for architectures."""
HTTP_PORT = 80


def any_platform(_image: str, _cells: Sequence[Cell]) -> Mapping[str, str]:
    """Look at no image: a cell whose image is for others is a build-error."""
    return {}


def no_port(_image: str, _archs: Sequence[str]) -> tuple[int, ...]:
    """Look at no image: the port of HTTP is asked."""
    return ()


def no_arch(_image: str) -> tuple[str, ...]:
    """Look at no image: which architectures it is for is unknown."""
    return ()


@dataclass(frozen=True)
class ImageLooks:
    """Functions that look at an image before it is fetched."""

    faults: ImageFaults = any_platform
    ports: ImagePorts = no_port
    archs: Callable[[str], Sequence[str]] = no_arch


@dataclass
class _Project:
    """A project under way."""

    folder: Path
    request: TrialRequest
    name: str
    choice: FileChoice | None = None
    notes: list[str] = field(default_factory=list)
    command: tuple[str, ...] = ()
    cwd: str = ""

    def write(self, name: str, data: Mapping[str, Any], comment: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml_text(data, comment), encoding="utf-8")


def write_trial(
    folder: Path,
    request: TrialRequest,
    profiles: Mapping[str, Profile],
    looks: ImageLooks | None = None,
) -> tuple[Path, list[str]]:
    """Write the project to an empty folder; return its matrix and notes.

    The image is looked at when all else fits together.

    Raises InputError if the request does not fit together, or no architecture is left.
    """
    looks = looks or ImageLooks()
    check_request(request)
    request, added = with_packages(request)
    targets = [
        profile.name + ("" if machine == profile.default_machine() else f"/{machine}")
        for profile, machine in find_targets(request.arch, profiles)
    ]
    project = _Project(folder, request, request.thing.name)
    if added:
        listed = ",".join(added)
        project.notes.append(f"'{request.words[0]}' brings its packages; to replace them: --packages {listed}")
    image = _write_image(project, targets, profiles)
    if request.is_open and project.choice and not PLACEHOLDER.search(" ".join(request.thing.paths)):
        targets = _narrow(project, project.choice, targets)
    _write_spec(project, image)
    matrix, archs = _write_matrix(project, targets, profiles, looks)
    if request.path and request.port is None:
        project.request = replace(request, port=_http_port(project, archs, looks.ports))
        _write_spec(project, image)
    return matrix, project.notes


def _http_port(project: _Project, archs: Sequence[str], image_ports: ImagePorts) -> int:
    """Return the port to ask without a name: the image's only one, else HTTP's."""
    thing = project.request.thing
    ports = image_ports(thing.image, archs) if thing.kind == "image" and not thing.image.startswith(SHIPPED) else ()
    port = ports[0] if len(ports) == 1 else HTTP_PORT
    listed = ", ".join(map(str, ports))
    why = f"; the image exposes {listed}" if len(ports) > 1 else ", the one that the image exposes" if ports else ""
    project.notes.append(f"--http {project.request.path} asks port {port}{why}. To ask another one: --port N")
    return port


def _narrow(project: _Project, choice: FileChoice, targets: list[str]) -> list[str]:
    """Leave out targets without a file, and note which remain."""
    if choice.lacking:
        project.notes.append(f"{project.name} is for {', '.join(choice.files)}; --arch all lists the others as skipped")
        choice.lacking.clear()
    return [target for target in targets if target.partition("/")[0] in choice.files]


def base_image(name: str) -> str:
    """Return a base image's reference: `debian:13` is a shipped one.

    Raises InputError if it cannot be an image.
    """
    if shipped := shipped_image(name):
        return f"{SHIPPED}{shipped}"
    thing = find_thing([name])
    if thing.kind != "image":
        raise InputError(f"--image {name}: a {thing.kind}, and not an image")
    return thing.image


def _write_image(project: _Project, targets: list[str], profiles: Mapping[str, Profile]) -> str:
    """Write the recipes of the image that runs; return the image's reference."""
    request, kind = project.request, project.request.thing.kind
    archs = list(dict.fromkeys(target.partition("/")[0] for target in targets))
    recipe: dict[str, Any] = {"from": _write_base(project)}
    project.command = request.words
    if kind == "image":
        recipe["from"] = request.thing.image
    elif kind == "folder":
        _add_folder(project, recipe)
    elif kind == "program":
        _add_program(project, recipe, archs, profiles)
    elif kind == "packages":
        _add_packages(project, recipe, archs, profiles)
    if request.env:
        recipe["env"] = dict(text.split("=", 1) for text in request.env)
    if set(recipe) == {"from"}:
        return str(recipe["from"]).replace("@pkg:../", "@pkg:./images/")
    project.write(f"images/{project.name}/build.yml", recipe, f"The image of {project.name}. See docs/images.md.")
    return f"@pkg:./images/{project.name}"


def _write_base(project: _Project) -> str:
    """Write a base image's recipe with packages, apart from what changes."""
    request = project.request
    if is_prepared(request):
        return _write_prepared(project)
    base, packages = base_image(request.image), request.packages
    if not packages:
        return base
    links = [
        {"path": path, "symlink": target}
        for path, (target, names) in ALTERNATIVES.items()
        if set(names) & set(packages)
    ]
    recipe = {"from": base, "packages": list(packages), **({"files": links} if links else {})}
    project.write(f"images/{project.name}-base/build.yml", recipe, "The base image, with packages of the archive.")
    return f"@pkg:../{project.name}-base"


def is_prepared(request: TrialRequest) -> bool:
    """Return whether a part of the root is made in a guest."""
    return bool(request.prepare or request.systemd or (request.packages and request.image != DEFAULT_IMAGE))


def _write_prepared(project: _Project) -> str:
    request = project.request
    base = base_image(PREPARED_IMAGE if request.image == DEFAULT_IMAGE else request.image)
    packages = list(dict.fromkeys((*request.packages, *(SYSTEMD_PACKAGES if request.systemd else ()))))
    recipe: dict[str, Any] = {"from": base}
    if packages:
        recipe |= {"packages": packages, "configure": True, "keep": list(KEPT)}
    if request.systemd:
        recipe["files"] = list(SYSTEMD_FILES)
    if request.prepare:
        recipe["prepare"] = _with_lists(request.prepare)
    project.write(f"images/{project.name}-base/build.yml", recipe, "The base image, prepared in a guest, once.")
    return f"@pkg:../{project.name}-base"


def _with_lists(commands: Sequence[str]) -> list[str]:
    """Return commands with an update of apt's lists before their first use."""
    first = next((number for number, text in enumerate(commands) if USES_LISTS.search(text)), len(commands))
    if first == len(commands) or any(map(MAKES_LISTS.search, commands[: first + 1])):
        return list(commands)
    return [*commands[:first], APT_UPDATE, *commands[first:]]


def _add_folder(project: _Project, recipe: dict[str, Any]) -> None:
    source = Path(project.request.thing.paths[0]).resolve()
    without = [project.folder, *([project.request.reports] if project.request.reports else [])]
    tree = project.folder / f"images/{project.name}/tree"
    copied = copy_tree(source, tree, without, honours_ignore=not project.request.no_ignore)
    project.notes += copied.notes()
    check_program(project.request.words[0], source, tree)
    project.cwd = f"{SOURCES}/{project.name}"
    if old := remove_reports(tree, project.cwd, project.request.results):
        project.notes.append(f"left out, as the command is to write what --get names: {some(old)}")
    recipe |= {"files": [{"path": project.cwd.lstrip("/"), "source": "tree"}], "workdir": project.cwd}


def _add_program(project: _Project, recipe: dict[str, Any], archs: list[str], profiles: Mapping[str, Profile]) -> None:
    pattern = project.request.thing.paths[0]
    choice = project.choice = choose_programs(pattern, archs, profiles, explicit=project.request.is_explicit)
    folder = project.folder / f"images/{project.name}/bin"
    name = project.name
    for arch, path in choice.files.items():
        target = folder / (name if choice.is_same else f"{arch}/{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(path, target)
    source = f"bin/{name}" if choice.is_same else f"bin/{{arch}}/{name}"
    recipe["files"] = [{"path": f"usr/local/bin/{name}", "source": source, "mode": "0755"}]
    project.command = (f"/usr/local/bin/{name}", *project.request.words)


def _add_packages(project: _Project, recipe: dict[str, Any], archs: list[str], profiles: Mapping[str, Profile]) -> None:
    request = project.request
    packages = read_packages(request.thing.paths, profiles)
    project.choice, names = choose_packages(packages, archs, profiles, explicit=request.is_explicit)
    used = sorted({profiles[arch].names.debian for arch in project.choice.files})
    copy_packages(packages, project.folder / f"images/{project.name}/debs", used)
    recipe["debs"] = [f"./debs/{{debian_arch}}/{name}.deb" for name in names]
    if request.service:
        paths = [package.path for package in packages if package.architecture in {EVERY, *used}]
        project.command = service_command(paths, request.service, systemd=request.systemd)
    if request.systemd:
        recipe |= {"configure": True, "keep": list(KEPT)}
        project.command = SYSTEMD


def _write_spec(project: _Project, image: str) -> None:
    request = project.request
    limit = request.timeout or DEFAULT_LIMIT
    container: dict[str, Any] = {"name": project.name, "image": image, "capabilities": list(ENGINE_CAPABILITIES)}
    if "disk" in request.keys.get("resources", {}):
        container["capabilities"].remove("CAP_MKNOD")  # which would open the disk itself
    if project.command:
        container["command"] = list(project.command)
    if project.cwd:
        container["cwd"] = project.cwd
    annotations = {"bootmatrix.results": " ".join(request.results)} if request.results else {}
    spec: dict[str, Any] = {"init": list(INIT)}
    if request.systemd:
        stays_s = duration_s(request.stays or DEFAULT_STAYS)
        spec |= systemd_parts(container, PROBE_IMAGE, unit_name(request.service), stays_s)
        if request.port or request.path:
            spec["services"].append(_probe(project))
            spec["files"].append(_probe_file())
        project.write(f"{project.name}.yml", spec, _comment(project))
        return
    if request.outbound:
        spec["onboot"] = [{"name": "dhcpcd", "image": DHCP_IMAGE, "annotations": {"bootmatrix.network": "outbound"}}]
        container["binds"] = [RESOLVERS]
    if not request.is_service:
        container["annotations"] = {"bootmatrix.check": limit, **annotations}
        project.write(f"{project.name}.yml", spec | {"services": [container]}, _comment(project))
        return
    if annotations:
        container["annotations"] = annotations
    probe = _probe(project)
    parts = {"services": [container, probe], "files": [_probe_file()]}
    project.write(f"{project.name}.yml", spec | parts, _comment(project))


def _probe_file() -> dict[str, Any]:
    return {"path": "checks/probe", "mode": "0644", "contents": packaged("scaffold/probe.sh", answer_s=ANSWER_S)}


def _probe(project: _Project) -> dict[str, Any]:
    """Return the check that looks at a service from outside."""
    request = project.request
    stays_s = duration_s(request.stays or DEFAULT_STAYS)
    port = request.port or (HTTP_PORT if request.path else None)
    url = f"http://127.0.0.1:{port}{request.path}" if request.path else ""
    limit = request.timeout or f"{stays_s + 2 * ANSWER_S:.0f}s"
    env = [f"URL={url}", f"PORT={port or ''}", f"STAYS_S={ceil(stays_s)}", "PATH=/bin:/usr/bin"]
    return {
        "name": f"{project.name[:50]}-probe",
        "image": PROBE_IMAGE,
        "readonly": True,
        "command": ["/bin/busybox", "sh", "/checks/probe"],
        "env": env,
        "binds": ["/checks:/checks:ro"],
        "annotations": {"bootmatrix.check": limit},
    }


def _comment(project: _Project) -> str:
    what = " ".join(project.request.thing.paths) or project.request.thing.image or project.request.image
    run = f"bootmatrix matrix {project.name}.matrix.yml"
    lines = (f"Written by 'bootmatrix try' for {json.dumps(what)[1:-1]}.", f"Run it: {run}")
    return "\n".join(lines)


def _exclusions(project: _Project, cells: Sequence[Cell], looks: ImageLooks) -> list[dict[str, str]]:
    """Exclude architectures for which a file or the image is missing.

    Raises InputError if the image must be for each of them, or no architecture is left.
    """
    request = project.request
    image = request.thing.image or base_image(request.image)
    archs = list(dict.fromkeys(cell.arch for cell in cells))
    faults = {} if image.startswith(SHIPPED) else looks.faults(image, cells)
    reasons = {**(project.choice.lacking if project.choice else {}), **faults}
    if faults and (request.is_explicit or len(faults) == len(archs)):
        others = ",".join([arch for arch in archs if arch not in faults] or looks.archs(image))
        raise InputError(next(iter(faults.values())), f"It is for --arch {others}." if others else "")
    return [{"arch": arch, "reason": reasons[arch]} for arch in archs if arch in reasons]


def _write_matrix(
    project: _Project, targets: list[str], profiles: Mapping[str, Profile], looks: ImageLooks
) -> tuple[Path, list[str]]:
    """Write the matrix; return it, and the architectures that it does not exclude."""
    request = project.request
    kernels = list(request.kernel) or [ANY_KERNEL]
    limit_s = max(duration_s(request.timeout or DEFAULT_LIMIT), LEAST_LIMIT_S)
    matrix: dict[str, Any] = {"specs": [f"{project.name}.yml"], "arch": targets, "kernel": kernels}
    matrix |= request.keys
    if request.results:
        matrix["get_limit"] = GET_LIMIT
    whole = Matrix.model_validate_json(json.dumps({**matrix, "resources": []}))
    cells = product(whole, project.folder, profiles)
    check_kernels(cells, profiles)
    if exclude := _exclusions(project, cells, looks):
        matrix["exclude"] = exclude
    matrix["timeouts"] = {"boot": 120, "services": limit_s, "silence": limit_s}
    path = project.folder / f"{project.name}.matrix.yml"
    project.write(path.name, matrix, "Which architectures and kernels. See docs/verdicts.md.")
    excluded = {one["arch"] for one in exclude}
    return path, [arch for arch in dict.fromkeys(cell.arch for cell in cells) if arch not in excluded]
