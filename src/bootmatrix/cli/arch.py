"""`bootmatrix arch`: the architectures and their machines."""

from __future__ import annotations

import argparse

from bootmatrix.cli import options


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser("arch", help="list architectures, their machines and kernel names")
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    """Print all profiles."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("arch/machine", "what it is", "QEMU", "kernels"):
        table.add_column(heading, no_wrap=heading == "arch/machine")
    for profile in options.profiles().values():
        for name, machine in profile.machines.items():
            default = name == profile.default_machine()
            table.add_row(
                f"{profile.name}/{name}" + (" *" if default else ""),
                machine.description,
                f"{machine.qemu} ≥ {machine.min_qemu}",
                " ".join(profile.kernels_of(name)),
            )
    console = options.table_console()
    console.print(table)
    console.print("* meant when only the architecture is named")
    return 0
