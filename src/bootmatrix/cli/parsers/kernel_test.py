"""Options of `kernel-test`."""

import argparse
from argparse import ArgumentParser
from pathlib import Path

from bootmatrix.cli.arguments import DOWNLOADS, NAMES, RUNNING, SIZE, add_shared, command, option

DESCRIPTION = """\
Boots the kernel of a build tree on each architecture of which the tree has an image, and runs a command in it, or the
kernel's own tests (KUnit). It needs no container runtime, no namespaces and no control groups of the kernel: a static
init mounts /proc, /sys, /dev, debugfs and tracefs, and runs the command as root. Verdicts are those of 'matrix'; a
command that ends with status 4, as kselftest has it, is a skip.
"""
EXAMPLES = """\
examples:
  bootmatrix kernel-test ../linux                                  # does it boot?
  bootmatrix kernel-test ../linux -- sh -c 'modprobe x && dmesg'
  bootmatrix kernel-test ../linux --kunit 'list*'
  bootmatrix kernel-test ../linux --copy kselftest_install --image debian -- ./run_kselftest.sh -c timers
"""


@command(
    "kernel-test",
    "boot a kernel's build tree, and run a command or KUnit in it",
    run="kernel_test",
    description=DESCRIPTION,
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    usage="bootmatrix kernel-test TREE [options] [-- COMMAND…]",
)
def _kernel_test(parser: ArgumentParser) -> None:
    option(parser, "tree TREE", "a build tree after make; or another SOURCE of 'kernels add'", type=Path)
    option(parser, "--kunit FILTER", "run the kernel's own tests: all, or those of a glob", nargs="?", const="")
    option(parser, "--copy FOLDER", "copy a folder into the guest, and run the command in it", type=Path)
    option(
        parser,
        "--image IMAGE",
        "root of the command: busybox, debian-small, debian, … (default: busybox)",
        dest="base",
        default="busybox",
    )
    option(parser, "--modules M,…", "kernel modules to load first", **NAMES)
    option(parser, "--arch A[/MACHINE],…", "architectures (default: all that the tree has an image of)", **NAMES)
    add_shared(parser, *SIZE, "--env", "--get")
    option(parser, "--save FOLDER", "also write spec, matrix and kernels.yml there", type=Path)
    add_shared(parser, *DOWNLOADS, "--qemu-args", "--flaky", "--fail-on-warning", *RUNNING)
    parser.set_defaults(image=[], locked=None)
