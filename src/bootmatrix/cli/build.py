"""`bootmatrix build`: write one cell as files, in LinuxKit's formats."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bootmatrix.assembly.formats import output_formats
from bootmatrix.cli import options
from bootmatrix.cli.downloads import shown_downloads
from bootmatrix.cli.output import say


def run(args: argparse.Namespace) -> int:
    """Build, and write the files of all formats that were asked for, and `PREFIX-bootable.json`."""

    if "list" in args.format:
        return _list()
    to_stdout = args.output == "-"
    with shown_downloads() as downloads:
        paths = options.workspace(args).build(
            args.files[0],
            arch=args.arch,
            kernel=args.kernel,
            formats=args.format,
            prefix=Path(args.output) if args.output and not to_stdout else None,
            sbom=args.sbom,
            stream=sys.stdout.buffer if to_stdout else None,
            observer=downloads,
        )
    sys.stdout.buffer.flush()
    say(*paths)
    return 0


def _list() -> int:

    for name, one in output_formats().items():
        say(f"{name:18} {one.description}: {' '.join(f'NAME{suffix}' for suffix in one.files)}")
    return 0
