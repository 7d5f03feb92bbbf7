"""Run a survey, cell by cell, and write its page.

    python -m benchmarks.survey benchmarks/survey/list.yml --budget 8h --page docs/survey.md

Cells with a result are not run again, so that a survey goes on where it ended; an infra-error is not a result.
Results are kept beside the list, in LIST.results.jsonl, and logs in the folder of `--state`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.survey.cells import CellResult, load_result, load_results, run_cell, save_results
from benchmarks.survey.page import render
from benchmarks.survey.plan import SurveyCell, SurveyList, load_list
from benchmarks.survey.sources import SourceArchive
from bootmatrix import __version__
from bootmatrix.errors import BootmatrixError
from bootmatrix.model.durations import duration_s
from bootmatrix.store import Store, default_cache


def main() -> int:
    """Run what is left of the survey."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survey", description=__doc__.split("\n", 1)[0])
    parser.add_argument("list", type=Path, help="packages, machines and kernels: benchmarks/survey/list.yml")
    parser.add_argument("--state", type=Path, default=Path("reports/survey"), help="folder of logs")
    parser.add_argument("--page", type=Path, help="write the page to this file")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="cells, PACKAGE/MACHINE/KERNEL")
    parser.add_argument("--budget", default="", help="begin no cell after this time; without it, run none")
    parser.add_argument("--limit", default="1h", help="time of one cell (default: 1h)")
    parser.add_argument("--jobs", type=int, default=1, help="guests at once (default: 1)")
    parser.add_argument("--again", action="store_true", help="run cells again that have a result")
    args = parser.parse_args()
    try:
        survey = load_list(args.list)
        kept = args.list.with_suffix(".results.jsonl")
        known = load_results(kept)
        _run(survey, args, known)
        known |= {cell.id: new for cell in survey.cells() if (new := load_result(args.state / cell.folder))}
        save_results(kept, known.values())
        results = [known[cell.id] for cell in survey.cells() if cell.id in known]
        if args.page:
            args.page.write_text(render(survey, results, _versions()), encoding="utf-8")
    except BootmatrixError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(survey: SurveyList, args: argparse.Namespace, known: Mapping[str, CellResult]) -> None:
    end = time.monotonic() + (duration_s(args.budget) if args.budget else 0)
    sources = SourceArchive(Store(default_cache()), survey.suite, args.state.absolute() / "sources")
    cells = [cell for cell in survey.cells() if _is_due(cell, args, known)]

    def work(cell: SurveyCell) -> None:
        if time.monotonic() >= end or not _is_due(cell, args, known):  # another process may have run it since
            return
        try:
            source = sources.get(cell.package)
        except BootmatrixError as error:
            print(f"{cell.id}: {error}", flush=True)
            return
        folder = args.state.absolute() / cell.folder
        _say(run_cell(cell, source, survey, folder, duration_s(args.limit)))

    with ThreadPoolExecutor(args.jobs) as pool:
        for _ in pool.map(work, cells):
            pass


def _is_due(cell: SurveyCell, args: argparse.Namespace, known: Mapping[str, CellResult]) -> bool:
    if args.only and not any(fnmatchcase(cell.id, pattern) for pattern in args.only):
        return False
    result = load_result(args.state / cell.folder) or known.get(cell.id)
    return args.again or result is None or result.status == "infra-error"


def _say(result: CellResult) -> None:
    words = ", ".join(f"{test['name']} {test['result']}" for test in result.tests) or result.reason
    print(f"{result.wall_s:7.0f} s  {result.id}: {result.status} ({words})", flush=True)


def _versions() -> dict[str, str]:
    asked = {"autopkgtest": "autopkgtest", "QEMU": "qemu-system-arm"}
    found = {name: _package_version(package) for name, package in asked.items()}
    return {"bootmatrix": __version__, **{name: version for name, version in found.items() if version}}


def _package_version(package: str) -> str:
    command = ["dpkg-query", "--show", "--showformat", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    sys.exit(main())
