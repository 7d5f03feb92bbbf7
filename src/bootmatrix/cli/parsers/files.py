"""Options of commands on files of users, and on the host."""

from argparse import ArgumentParser
from pathlib import Path

from bootmatrix.cli.arguments import (
    NAMES,
    REPEATED,
    RUNNING,
    SOURCES,
    Commands,
    add_command,
    add_shared,
    command,
    names,
    option,
)

ARCH_CHECK_SPEC = "hello"
KERNELS_ADD_HELP = """\
SOURCE is a kernel file (bzImage, Image, zImage, vmlinux), a build tree, a .deb, .rpm or .apk, tuxmake's folder, an OCI
image (folder or tar), or the URL of such a file. With a transport, such as docker://linuxkit/kernel:6.12, it is a
container image (docs/images.md). Several sources form one kernel, such as a package with the kernel and another with
its modules. The kind is detected from the content.
"""
SCHEMA_KINDS = ("run", "spec", "guest", "matrix", "profile", "catalogue", "image", "registries", "cluster")
"""`run`, and the kinds of load.schema, repeated because importing it is slow; a test compares them."""


@command("validate", "check specs, matrices, profiles and image recipes without building")
def _validate(parser: ArgumentParser) -> None:
    option(parser, "files FILE", nargs="+", type=Path)


@command(
    "arch",
    "list architectures and machines; check a profile by booting it",
    description="Without an action, list architectures, their machines and kernel names.",
)
def _arch(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION")
    check = add_command(
        actions,
        "check",
        f"validate a profile, and boot '{ARCH_CHECK_SPEC}' on each of its machines",
        run="arch:run_check",
    )
    option(check, "file FILE", "a profile, arch/<name>.yml", type=Path)
    option(check, "--machine M,…", "only these machines", **NAMES)
    option(check, "--kernel K,…", "kernels (default: one)", **NAMES)
    add_shared(check, *SOURCES, *RUNNING)
    check.set_defaults(files=[ARCH_CHECK_SPEC])
    new = add_command(actions, "new", "create a profile from a similar board's", run="arch:run_new")
    option(new, "file FILE", "arch/<name>.yml, a new file", type=Path)
    option(new, "--like A[/MACHINE]", "the machine to copy", required=True)
    table = add_command(
        actions, "table", "print the results of runs by machine and kernel, as Markdown", run="arch:run_table"
    )
    option(table, "runs RUN", "runs; a cell's latest result counts", nargs="*")
    option(table, "--kept FILE", "a file with the results of earlier runs, which is updated and included", type=Path)
    option(table, "--spec S,…", "only these specs", **NAMES)
    add_shared(table, "--reports")


@command("kernels", "list the kernel names and what they resolve to; add custom kernels")
def _kernels(parser: ArgumentParser) -> None:
    option(parser, "--arch A,…", "only these architectures", **NAMES)
    add_shared(parser, *SOURCES)
    option(parser, "--distro NAME", "only kernels of kernels/NAME.yml, or 'all' distributions", default="")
    option(parser, "--facts", "page size, HZ, preemption, address width, configuration")
    actions = parser.add_subparsers(title="custom kernels and catalogues", metavar="ACTION")
    _add_kernels_add(actions)
    check = add_command(
        actions,
        "check",
        "try the kernels of distributions against their servers, as a table",
        run="catalogues:run_check",
    )
    option(check, "names DISTRIBUTION", "the name of a catalogue", nargs="*")
    option(check, "--all", "all catalogues")
    option(check, "--arch A,…", "only these architectures", **NAMES)
    add_shared(check, *SOURCES)
    fragment = add_command(
        actions,
        "fragment",
        "print the options of the kernel's configuration that guests need, for merge_config.sh",
        run="kernels:run_fragment",
        description="Print options for a kernel's configuration: scripts/kconfig/merge_config.sh .config FRAGMENT.",
    )
    option(fragment, "machine ARCH[/MACHINE]", "the architecture, or one of its machines")
    option(
        fragment,
        "--for P,…",
        "containers (default), agent, kunit",
        dest="purposes",
        type=names,
        default=("containers",),
    )
    remove = add_command(actions, "remove", "remove a kernel from kernels.yml", run="kernels:run_remove")
    option(remove, "name NAME")
    option(remove, "--arch A", "only for this architecture", dest="one_arch")


def _add_kernels_add(actions: Commands) -> None:
    add = add_command(
        actions, "add", "add a kernel, pinned by its digest", run="kernels:run_add", description=KERNELS_ADD_HELP
    )
    option(add, "name NAME", "name for --kernel")
    option(add, "sources SOURCE", "file, folder or URL", nargs="+")
    option(add, "--arch A", "its architecture (default: detected)", dest="one_arch")
    option(add, "--modules FOLDER", "output folder of `make modules_install`", type=Path)
    option(add, "--config FILE", "its configuration, for /boot in the guest", type=Path)
    option(add, "--sha256 HEX", "for each SOURCE; required for a URL", **REPEATED)
    option(add, "--follow", "do not pin it: read it again for each run")
    add_shared(add, *SOURCES)


@command(
    "schema",
    "print the JSON schema of run.json, or of users' files",
    description="Print a JSON schema: of run.json, for programs that read it, or of a kind of file that users "
    "write, for editors.",
)
def _schema(parser: ArgumentParser) -> None:
    option(parser, "kind", "run.json, or a kind of file", choices=SCHEMA_KINDS)


@command(
    "doctor",
    "check the host, and print how to install what is missing",
    description="Check the host, and print how to install what is missing. Exit status 3 if something needed is "
    "missing. KVM is optional; if /dev/kvm exists, a guest is booted to test it.",
)
def _doctor(parser: ArgumentParser) -> None:
    add_shared(parser, *SOURCES, "--reports")
