"""`bootmatrix build`: write one cell as files, in LinuxKit's formats."""

from __future__ import annotations

import argparse
from pathlib import Path

from bootmatrix.cli import options
from bootmatrix.cli.output import say

DEFAULT_FORMAT = "kernel+initrd"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "build",
        help="write one cell as kernel and initrd, disk, ISO, cloud image…",
        description="Write one spec for one architecture and kernel, in any of LinuxKit's formats: docs/formats.md. "
        "'bootmatrix run' boots what it wrote.",
    )
    parser.add_argument("files", nargs=1, metavar="SPEC", help="a spec (path or name)")
    options.add_single(parser)
    options.add_sources(parser)
    parser.add_argument("-o", "--output", metavar="PREFIX", help="default: SPEC-ARCH-KERNEL in the current folder")
    parser.add_argument(
        "-f",
        "--format",
        type=options.names,
        default=(DEFAULT_FORMAT,),
        metavar="F,…",
        help=f"formats, or 'list' (default: {DEFAULT_FORMAT})",
    )
    parser.add_argument("--sbom", action="store_true", help="write what is in it too, as SPDX: PREFIX.spdx.json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build, and write the files of all formats that were asked for, and `PREFIX-bootable.json`."""
    from bootmatrix.cli.downloads import shown_downloads

    if "list" in args.format:
        return _list()
    with shown_downloads() as downloads:
        paths = options.workspace(args).build(
            args.files[0],
            arch=args.arch,
            kernel=args.kernel,
            formats=args.format,
            prefix=Path(args.output) if args.output else None,
            sbom=args.sbom,
            observer=downloads,
        )
    say(*paths)
    return 0


def _list() -> int:
    from bootmatrix.assembly.formats import output_formats

    for name, one in output_formats().items():
        say(f"{name:18} {one.description}: {' '.join(f'NAME{suffix}' for suffix in one.files)}")
    return 0
