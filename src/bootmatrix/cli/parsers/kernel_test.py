"""Options of `kernel-test`."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli import arguments
from bootmatrix.cli.arguments import Commands

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


def add_kernel_test(commands: Commands) -> None:
    """Add the options of `kernel-test`."""
    parser = arguments.add_command(
        commands,
        "kernel-test",
        "boot a kernel's build tree, and run a command or KUnit in it",
        run="kernel_test",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="bootmatrix kernel-test TREE [options] [-- COMMAND…]",
    )
    parser.add_argument(
        "tree", type=Path, metavar="TREE", help="a build tree after make; or another SOURCE of 'kernels add'"
    )
    parser.add_argument(
        "--kunit", nargs="?", const="", metavar="FILTER", help="run the kernel's own tests: all, or those of a glob"
    )
    parser.add_argument(
        "--copy", type=Path, metavar="FOLDER", help="copy a folder into the guest, and run the command in it"
    )
    parser.add_argument(
        "--image",
        dest="base",
        default="busybox",
        metavar="IMAGE",
        help="root of the command: busybox, debian-small, debian, … (default: busybox)",
    )
    parser.add_argument(
        "--modules", type=arguments.names, default=(), metavar="M,…", help="kernel modules to load first"
    )
    parser.add_argument(
        "--arch",
        type=arguments.names,
        default=(),
        metavar="A[/MACHINE],…",
        help="architectures (default: all that the tree has an image of)",
    )
    arguments.add(parser, *arguments.SIZE, "--env", "--get")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="also write spec, matrix and kernels.yml there")
    arguments.add(parser, *arguments.DOWNLOADS, "--qemu-args", "--flaky", "--fail-on-warning", *arguments.RUNNING)
    parser.set_defaults(image=[], locked=None)
