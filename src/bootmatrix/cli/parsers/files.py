"""Options of commands on files of users, and on the host."""

from __future__ import annotations

from pathlib import Path

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands

ARCH_CHECK_SPEC = "hello"
KERNELS_ADD_HELP = """\
SOURCE is a kernel file (bzImage, Image, zImage, vmlinux), a build tree, a .deb, .rpm or .apk, tuxmake's folder, an OCI
image (folder or tar), or the URL of such a file. With a transport, such as docker://linuxkit/kernel:6.12, it is a
container image (docs/images.md). Several sources form one kernel, such as a package with the kernel and another with
its modules. The kind is detected from the content.
"""
SCHEMA_KINDS = ("run", "spec", "guest", "matrix", "profile", "catalogue", "image", "registries", "cluster")
"""`run`, and the kinds of load.schema, repeated because importing it is slow; a test compares them."""


def add_validate(commands: Commands) -> None:
    """Add the options of `validate`."""
    parser = arguments.add_command(
        commands, "validate", "check specs, matrices, profiles and image recipes without building"
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")


def add_arch(commands: Commands) -> None:
    """Add the options of `arch`."""
    parser = arguments.add_command(
        commands,
        "arch",
        "list architectures and machines; check a profile by booting it",
        description="Without an action, list architectures, their machines and kernel names.",
    )
    actions = parser.add_subparsers(metavar="ACTION")
    check = arguments.add_command(
        actions,
        "check",
        f"validate a profile, and boot '{ARCH_CHECK_SPEC}' on each of its machines",
        run="arch:run_check",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="a profile, arch/<name>.yml")
    check.add_argument("--machine", type=arguments.names, default=(), metavar="M,…", help="only these machines")
    check.add_argument("--kernel", type=arguments.names, default=(), metavar="K,…", help="kernels (default: one)")
    arguments.add(check, *arguments.SOURCES, *arguments.RUNNING)
    check.set_defaults(files=[ARCH_CHECK_SPEC])
    new = arguments.add_command(actions, "new", "create a profile from a similar board's", run="arch:run_new")
    new.add_argument("file", type=Path, metavar="FILE", help="arch/<name>.yml, a new file")
    new.add_argument("--like", required=True, metavar="A[/MACHINE]", help="the machine to copy")
    table = arguments.add_command(
        actions, "table", "print the results of runs by machine and kernel, as Markdown", run="arch:run_table"
    )
    table.add_argument("runs", nargs="*", metavar="RUN", help="runs; a cell's latest result counts")
    table.add_argument(
        "--kept",
        type=Path,
        metavar="FILE",
        help="a file with the results of earlier runs, which is updated and included",
    )
    table.add_argument("--spec", type=arguments.names, default=(), metavar="S,…", help="only these specs")
    arguments.add(table, "--reports")


def add_kernels(commands: Commands) -> None:
    """Add the options of `kernels`."""
    parser = arguments.add_command(
        commands, "kernels", "list the kernel names and what they resolve to; add custom kernels"
    )
    parser.add_argument("--arch", type=arguments.names, default=(), metavar="A,…", help="only these architectures")
    arguments.add(parser, *arguments.SOURCES)
    parser.add_argument(
        "--distro", default="", metavar="NAME", help="only kernels of kernels/NAME.yml, or 'all' distributions"
    )
    parser.add_argument("--facts", action="store_true", help="page size, HZ, preemption, address width, configuration")
    actions = parser.add_subparsers(title="custom kernels and catalogues", metavar="ACTION")
    _add_kernels_add(actions)
    check = arguments.add_command(
        actions,
        "check",
        "try the kernels of distributions against their servers, as a table",
        run="catalogues:run_check",
    )
    check.add_argument("names", nargs="*", metavar="DISTRIBUTION", help="the name of a catalogue")
    check.add_argument("--all", action="store_true", help="all catalogues")
    check.add_argument("--arch", type=arguments.names, default=(), metavar="A,…", help="only these architectures")
    arguments.add(check, *arguments.SOURCES)
    fragment = arguments.add_command(
        actions,
        "fragment",
        "print the options of the kernel's configuration that guests need, for merge_config.sh",
        run="kernels:run_fragment",
        description="Print options for a kernel's configuration: scripts/kconfig/merge_config.sh .config FRAGMENT.",
    )
    fragment.add_argument("machine", metavar="ARCH[/MACHINE]", help="the architecture, or one of its machines")
    fragment.add_argument(
        "--for",
        dest="purposes",
        type=arguments.names,
        default=("containers",),
        metavar="P,…",
        help="containers (default), agent, kunit",
    )
    remove = arguments.add_command(actions, "remove", "remove a kernel from kernels.yml", run="kernels:run_remove")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--arch", dest="one_arch", metavar="A", help="only for this architecture")


def _add_kernels_add(actions: Commands) -> None:
    add = arguments.add_command(
        actions, "add", "add a kernel, pinned by its digest", run="kernels:run_add", description=KERNELS_ADD_HELP
    )
    add.add_argument("name", metavar="NAME", help="name for --kernel")
    add.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder or URL")
    add.add_argument("--arch", dest="one_arch", metavar="A", help="its architecture (default: detected)")
    add.add_argument("--modules", type=Path, metavar="FOLDER", help="output folder of `make modules_install`")
    add.add_argument("--config", type=Path, metavar="FILE", help="its configuration, for /boot in the guest")
    add.add_argument("--sha256", action="append", default=[], metavar="HEX", help="for each SOURCE; required for a URL")
    add.add_argument("--follow", action="store_true", help="do not pin it: read it again for each run")
    arguments.add(add, *arguments.SOURCES)


def add_schema(commands: Commands) -> None:
    """Add the options of `schema`."""
    parser = arguments.add_command(
        commands,
        "schema",
        "print the JSON schema of run.json, or of users' files",
        description="Print a JSON schema: of run.json, for programs that read it, or of a kind of file that users "
        "write, for editors.",
    )
    parser.add_argument("kind", choices=SCHEMA_KINDS, help="run.json, or a kind of file")


def add_doctor(commands: Commands) -> None:
    """Add the options of `doctor`."""
    parser = arguments.add_command(
        commands,
        "doctor",
        "check the host, and print how to install what is missing",
        description="Check the host, and print how to install what is missing. Exit status 3 if something needed is "
        "missing. KVM is optional; if /dev/kvm exists, a guest is booted to test it.",
    )
    arguments.add(parser, *arguments.SOURCES)
