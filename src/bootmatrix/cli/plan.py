"""`bootmatrix plan`: list the cells and skips of a matrix, without booting."""

import argparse
import sys

from bootmatrix.cli import options
from bootmatrix.cli.output import complain, say
from bootmatrix.plan import check_tests
from bootmatrix.report.sanitize import one_line
from bootmatrix.workspace.planned_run import load_specs


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    workspace = options.workspace(args)
    plan, _, profiles = workspace.matrix_plan(args.files, options.selection(args))
    options.print_notes(plan)
    specs = load_specs(plan.cells)
    for cell in plan.cells:
        say(cell.id + (f"  (expected not to pass: {cell.expect})" if cell.expect else ""))
    for skip in plan.skips:
        say(f"{skip.cell.id}  skipped: {one_line(skip.reason)}")
    say(plan.counts)
    sys.stdout.flush()
    from bootmatrix.workspace.kernel_notes import kernel_notes  # half of the time that the command takes

    for note in kernel_notes(plan.cells, profiles, workspace.sources()):
        complain(f"note: {note}")
    check_tests(plan, specs, allow_empty=args.allow_empty)
    return 0
