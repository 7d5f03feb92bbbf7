"""`bootmatrix push`, `bootmatrix cloud sweep`: images and what is left."""

import argparse
from pathlib import Path

from bootmatrix.cli.output import say
from bootmatrix.cli.run_on import build, open_place, open_to_sweep
from bootmatrix.cloud.docker import DockerPlace
from bootmatrix.store import temporary_folder


def run(args: argparse.Namespace) -> int:
    """Build a spec, upload it and print the image's name."""
    place, machine = open_place(args.on, args, keep=True)
    with temporary_folder() as folder:
        prefix = folder / Path(args.files[0]).name.split(".")[0]
        build(args, machine.format, prefix)
        say(place.push(prefix.with_name(prefix.name + machine.suffix), prefix.name))
    return 0


def run_sweep(args: argparse.Namespace) -> int:
    """Remove what runs left, and print it."""
    removed = DockerPlace().sweep() if args.on == "docker" else open_to_sweep(args.on, args).sweep(args.older_than)
    say(*(f"removed {name}" for name in removed))
    say(f"{len(removed)} removed")
    return 0
