"""The project of `kernel-test`: spec, recipe, matrix, kernels.yml."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.load.recipe import SHIPPED
from bootmatrix.model.durations import duration_s
from bootmatrix.packaged import packaged
from bootmatrix.scaffold.source_tree import copy_tree
from bootmatrix.scaffold.trial import LEAST_LIMIT_S, base_image
from bootmatrix.scaffold.trial_request import VARIABLE
from bootmatrix.scaffold.yaml_text import yaml_text

NAME = "kernel-test"
INIT = (f"{SHIPPED}init", f"{SHIPPED}chroot")
DEFAULT_IMAGE = "busybox"
DEFAULT_LIMIT = "5m"
CONTAINER = "test"
FILES = "/kernel-test/files"
RUN = "kernel-test/run"
"""The program that the runtime of the image chroot starts."""
SCRIPT = """\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
mkdir -p /root
cd {folder} || exit
"""

KSELFTEST = """
{command}
status=$?
# kselftest's KSFT_SKIP
[ $status -ne 4 ] || echo '1..0 # SKIP the command ended with status 4, kselftest has it for a skip'
exit $status
"""


@dataclass(frozen=True)
class KernelTestRequest:
    """Input of `kernel-test` beside a kernel; `keys` are the matrix's.

    `kunit` is the filter of the kernel's own tests, None to leave them out. `copy` is a folder for the guest,
    `modules` are loaded before the test.
    """

    words: tuple[str, ...] = ()
    kunit: str | None = None
    copy: Path | None = None
    image: str = DEFAULT_IMAGE
    env: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    timeout: str = ""
    modules: tuple[str, ...] = ()
    append: tuple[str, ...] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)


def write_kernel_test(
    folder: Path,
    request: KernelTestRequest,
    kernel: str,
    kernels: Mapping[str, Mapping[str, Any]],
    targets: Sequence[str],
) -> tuple[Path, list[str]]:
    """Write the project to an empty folder; return its matrix and notes.

    `kernels` has the entry of kernels.yml for each architecture, `targets` the machines.

    Raises InputError if the request is invalid, or its folder cannot be copied.
    """
    notes: list[str] = []
    recipe: dict[str, Any] = {"from": base_image(request.image), "workdir": "/"}
    recipe["files"] = [{"path": RUN, "mode": "0755", "contents": script(request)}]
    if request.copy is not None:
        notes += copy_tree(request.copy.resolve(), folder / f"images/{NAME}/files", [folder]).notes()
        recipe["files"].append({"path": FILES.lstrip("/"), "source": "files"})
    limit = request.timeout or DEFAULT_LIMIT
    limit_s = max(duration_s(limit), LEAST_LIMIT_S)
    annotations = {"bootmatrix.check": limit}
    if request.results:
        annotations["bootmatrix.results"] = " ".join(request.results)
    if request.modules:
        annotations["bootmatrix.modules"] = " ".join(request.modules)
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": f"@pkg:./images/{NAME}",
        "readonly": True,
        "capabilities": ["all"],
        "annotations": annotations,
    }
    matrix = {
        "specs": [f"{NAME}.yml"],
        "arch": list(targets),
        "kernel": [kernel],
        "roots": "ram",
        # A kernel that hangs while it boots is to be told of soon, unless it runs its own tests then.
        "timeouts": {"services": limit_s, **({} if request.kunit is None else {"boot": limit_s, "silence": limit_s})},
        **({"append": " ".join(_append(request))} if _append(request) else {}),
        **request.keys,
    }
    _write(folder / f"images/{NAME}/build.yml", recipe, "The root of the test. See docs/images.md.")
    spec = {"init": list(INIT), "services": [container]}
    _write(folder / f"{NAME}.yml", spec, "Written by 'bootmatrix kernel-test'.")
    _write(folder / "kernels.yml", {"kernels": {kernel: dict(kernels)}}, "The kernel, as it is when a run begins.")
    _write(folder / f"{NAME}.matrix.yml", matrix, "To run it: BOOTMATRIX_KERNELS=kernels.yml bootmatrix matrix FILE")
    return folder / f"{NAME}.matrix.yml", notes


def script(request: KernelTestRequest) -> str:
    """Return the guest's script. Raises InputError unless NAME=VALUE."""
    text = SCRIPT.format(folder=FILES if request.copy is not None else "/")
    for variable in request.env:
        name, equals, value = variable.partition("=")
        if not equals or not VARIABLE.fullmatch(name):
            raise InputError(f"--env {variable!r} must be NAME=VALUE")
        text += f"export {name}={shlex.quote(value)}\n"
    if request.kunit is not None:
        text += packaged("scaffold/kunit.sh")
    command = request.words or (() if request.kunit is not None else ("uname", "-a"))
    return text + (KSELFTEST.format(command=shlex.join(command)) if command else "")


def _append(request: KernelTestRequest) -> tuple[str, ...]:
    """Return KUnit's words of a command line; loaded tests run by themselves."""
    if request.kunit is None:
        return request.append
    chosen = (f"kunit.filter_glob={request.kunit}",) if request.kunit else ()
    return ("kunit.enable=1", *chosen, *request.append)


def _write(path: Path, data: Mapping[str, Any], comment: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml_text(data, comment), encoding="utf-8")
