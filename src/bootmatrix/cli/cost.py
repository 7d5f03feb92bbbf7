"""`bootmatrix cost`: what a run costs on machines by the hour."""

import argparse

from bootmatrix.cli import options
from bootmatrix.cli.output import say
from bootmatrix.cloud.cost import Cost, Prices, cost_of
from bootmatrix.errors import InputError
from bootmatrix.history.lookup import usual_s
from bootmatrix.workspace.saved_run import SavedRun
from bootmatrix.workspace.selection import Selection

CELL_S = 30.0


def run(args: argparse.Namespace) -> int:
    """Print the cost of a run, and the break-even.

    Raises InputError if a number is not positive, or a matrix, spec or run is not found.
    """
    values = (args.hour, args.runs, args.machines, args.cores, args.cell or 1, args.month or 1)
    if min(values) <= 0 or min(args.start, args.least) < 0:
        raise InputError("prices, times and numbers must be positive")
    cells_s, source = _times(args)
    prices = Prices(args.hour, args.month, args.start, args.least)
    _print(cost_of(cells_s, args.machines, args.cores, prices, args.runs), len(cells_s), source, args)
    return 0


def _times(args: argparse.Namespace) -> tuple[list[float], str]:
    """Return the cells' seconds and their source: a run, runs, or an estimate."""
    workspace = options.workspace(args)
    if bool(args.of) == bool(args.files):
        raise InputError("name a matrix or specs, or a run that has ended: --of RUN")
    if args.of:
        saved = SavedRun.load(args.of, workspace.reports_folder)
        times = [record.outcome.wall_s if record.outcome else record.wall_s for record in saved.records]
        return [seconds for seconds in times if seconds], f"as they took in {saved.folder.name}"
    cells = workspace.plan(*args.files, selection=Selection(needs_qemu=False, must_test=False)).cells
    known = {} if args.cell else usual_s(workspace.reports_folder)
    times = [known.get(cell.id, args.cell or CELL_S) for cell in cells]
    number = sum(cell.id in known for cell in cells)
    if number == len(cells):
        return times, "as in earlier runs"
    return times, f"{f'{number} as in earlier runs, ' if number else ''}estimated at {args.cell or CELL_S:g} s a cell"


def _print(cost: Cost, cells: int, source: str, args: argparse.Namespace) -> None:
    say(f"{cells} cells, {source}, on {args.machines} x {args.cores} cores")
    say(
        f"a run: {cost.run:.4f} ({cost.cell:.5f} a cell), {cost.wall_s:.0f} s; {cost.paid_s:.0f} s of machines are paid"
    )
    say(f"{args.runs:g} runs a month: {cost.month:.2f}")
    if cost.break_even is not None:
        say(f"always on: {args.month:.2f} a month; cheaper from {cost.break_even:.0f} runs a month on")
