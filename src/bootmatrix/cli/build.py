"""`bootmatrix build`: write one cell in LinuxKit's output formats."""

import argparse
import sys
from pathlib import Path

from bootmatrix.assembly.formats import output_formats
from bootmatrix.cli import options
from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.output import say


def run(args: argparse.Namespace) -> int:
    """Write the requested formats and `PREFIX-bootable.json`."""
    if "list" in args.format:
        return _list()
    to_stdout = args.output == "-"
    with download_progress() as downloads:
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
    for name, output_format in output_formats().items():
        say(f"{name:18} {output_format.description}: {' '.join(f'NAME{suffix}' for suffix in output_format.files)}")
    return 0
