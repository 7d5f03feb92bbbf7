"""The page of a survey, in Markdown: a grid, and each failure with what sets it apart."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.survey.cells import CellResult
from benchmarks.survey.plan import Cause, SurveyList
from bootmatrix.model import Cell, Judgement, Record, Verdict
from bootmatrix.report.failure_pattern import families, pattern
from bootmatrix.workspace.workspace import Workspace

WORDS = {
    "pass": "pass",
    "fail": "**FAIL**",
    "skip": "skip",
    "timeout": "timeout",
    "bad-package": "–",
    "infra-error": "infra-error",
}
LEGEND = """\
`pass`: all tests passed that could be run; `2/3`: two of three passed, the others were skipped. `FAIL`: a test failed.
`skip`: none could be run. `timeout`: the time of a cell was over, for which the host may be too slow. `–`: the package
cannot be installed there. `infra-error`: the testbed or the host failed, which says nothing about the package: the cell
is run again the next time. An empty cell was not run.
"""
VERDICTS = {"pass": Verdict.PASS, "fail": Verdict.FAIL}


def render(survey: SurveyList, results: Sequence[CellResult], versions: Mapping[str, str]) -> str:
    """Return the page. `versions` are of the programs of this host."""
    by_id = {result.id: result for result in results}
    parts = [
        "# A survey of packages' own tests\n",
        _introduction(survey, results, versions),
        "## Results\n",
        *_grid(survey, by_id),
        LEGEND,
        *_second_runs(results),
        *_hollow(results),
        *_left_out(survey),
        *(f"{note}\n" for note in survey.notes),
        "## Failures\n",
        *_failures(survey, results),
        "## Skipped tests\n",
        *_skipped(results),
        "## Packages and inputs\n",
        *_inputs(survey, results),
        "## Costs\n",
        _costs(survey, results),
    ]
    return "\n".join(parts)


def _introduction(survey: SurveyList, results: Sequence[CellResult], versions: Mapping[str, str]) -> str:
    counts = Counter(result.status for result in results)
    packages = len({result.package for result in results})
    dates = sorted(result.started_at for result in results)
    cells = len(list(survey.cells()))
    tools = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"""\
Packages of {survey.suite} with their own tests (autopkgtest), in guests of several architectures, kernels and page
sizes, by [autopkgtest-virt-bootmatrix](autopkgtest.md). Written by `python -m benchmarks.survey`; do not edit.

- **Extent**: {packages} of {len(survey.packages)} packages, {len(results)} of {cells} cells{_counted(counts)}.
- **Date**: {f"{dates[0]} to {dates[-1]}" if dates else "not run"}.
- **Testbeds**: root `{survey.root}`, 2 GiB of memory, TCG, no network beside the archive.
- **Programs**: {tools}.

To repeat a cell, in a folder with the unpacked source: the command in its row below. To repeat all:
`python -m benchmarks.survey LIST --budget 8h`, which continues where it ended.
"""


def _counted(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return "".join(f"{', ' if place else ': '}{number} {status}" for place, (status, number) in enumerate(ordered))


def _grid(survey: SurveyList, by_id: Mapping[str, CellResult]) -> Iterator[str]:
    targets = [f"{machine}/{kernel}" for machine, kernel in survey.targets]
    yield f"| package | {' | '.join(targets)} |"
    yield f"|---|{'---|' * len(targets)}"
    waiting = []
    for package in survey.packages:
        cells = [by_id.get(f"{package}/{target}") for target in targets]
        if any(cells):
            yield f"| {package} | {' | '.join(_word(result) for result in cells)} |"
        else:
            waiting.append(package)
    yield f"\nNot reached yet: {', '.join(waiting)}.\n" if waiting else ""


def _second_runs(results: Sequence[CellResult]) -> Iterator[str]:
    passed = [result for result in results if result.status == "pass" and result.reason]
    if passed:
        yield "Passed only in a second run, after a first one on a busy host had failed:\n"
        yield from (f"- {result.id}: {_plain(result.reason)}." for result in passed)
        yield ""


def _hollow(results: Sequence[CellResult]) -> Iterator[str]:
    """Passes of tests that called commands which are not there."""
    hollow = [result for result in results if result.status == "pass" and result.missing]
    if hollow:
        yield "`pass?`: passed although a command of the test was not found, so that the pass says little:\n"
        yield from (f"- {result.id}: {_plain(', '.join(result.missing))}." for result in hollow)
        yield ""


def _left_out(survey: SurveyList) -> Iterator[str]:
    if survey.not_run:
        yield "Not run this time:\n"
        yield from (f"- {packages}: {reason}." for packages, reason in survey.not_run)
        yield ""


def _word(result: CellResult | None) -> str:
    if result is None:
        return ""
    passed = sum(test["result"] == "pass" for test in result.tests)
    if result.status == "pass" and passed < len(result.tests):
        return f"{passed}/{len(result.tests)}"
    return "pass?" if result.status == "pass" and result.missing else WORDS[result.status]


def records(results: Sequence[CellResult]) -> dict[str, Record]:
    """Return records of the cells that say something about a package, by id, for the report's patterns."""
    cells: dict[tuple[str, str], Cell] = {}
    found = {}
    for result in results:
        verdict = VERDICTS.get(result.status)
        if verdict is None:
            continue
        target = (result.machine, result.kernel)
        if target not in cells:
            (cells[target],) = Workspace().plan_single("hello", *target).cells
        cell = cells[target].model_copy(update={"spec": result.package, "spec_name": result.package})
        judgement = Judgement(verdict=verdict, reason=result.reason or result.status)
        passed = verdict is Verdict.PASS
        found[result.id] = Record(
            cell=cell, judgement=judgement, expected=passed, started_at=result.started_at, wall_s=result.wall_s
        )
    return found


def _failures(survey: SurveyList, results: Sequence[CellResult]) -> Iterator[str]:
    made = records(results)
    groups = families(made.values())
    failed = [result for result in results if result.status not in {"pass", "skip"}]
    if not failed:
        yield "None.\n"
        return
    yield "| cell | tests | apart | cause |\n|---|---|---|---|"
    for result in failed:
        record = made.get(result.id)
        apart = pattern(record, groups[record.cell.spec_name]) if record else ""
        tests = "; ".join(f"{test['name']}: {test['reason']}" for test in result.tests if test["result"] == "fail")
        causes = [cause for cause in survey.causes if _fits(cause, result)]
        words = " ".join(f"{cause.cause}: {cause.text}" for cause in causes) or "not looked into yet"
        yield f"| {result.id} | {_plain(tests or result.reason)} | {apart or '–'} | {words} |"
    yield ""


def _skipped(results: Sequence[CellResult]) -> Iterator[str]:
    """Tests that were skipped, with the number of their cells."""
    counts = Counter(
        (result.package, test["name"], test["reason"])
        for result in results
        for test in result.tests
        if test["result"] == "skip"
    )
    if not counts:
        yield "None.\n"
        return
    yield "| package | test | cells | reason |\n|---|---|---|---|"
    for (package, name, reason), number in sorted(counts.items()):
        yield f"| {package} | {_plain(name)} | {number} | {_plain(reason)} |"
    yield ""


def _fits(cause: Cause, result: CellResult) -> bool:
    names = [test["name"] for test in result.tests if test["result"] == "fail"] or [""]
    return any(cause.fits(result.id, name) for name in names)


def _plain(text: str) -> str:
    """Make a text of a guest harmless in a table."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text[:300])
    for letter in "&\\|<>[]`*_":
        kept = kept.replace(letter, f"&#{ord(letter)};")
    return kept


def _inputs(survey: SurveyList, results: Sequence[CellResult]) -> Iterator[str]:
    yield "| package | version | sha256 of its .dsc |\n|---|---|---|"
    versions = {result.package: (result.version, result.dsc_sha256) for result in results}
    for package in survey.packages:
        if package in versions:
            yield f"| {package} | {versions[package][0]} | `{versions[package][1]}` |"
    yield "\n| target | kernel | sha256 of kernel and initrd | command |\n|---|---|---|---|"
    by_target: dict[str, CellResult] = defaultdict()
    for result in results:
        if result.guests and result.package not in {*survey.skipped, *survey.modules}:
            by_target[f"{result.machine}/{result.kernel}"] = result
    for target, result in by_target.items():
        guest = result.guests[-1]
        files = guest.get("files", {})
        digests = ", ".join(f"`{files[name][:16]}`" for name in ("kernel", "initrd.img") if name in files)
        command = result.command.replace(result.package, "PACKAGE")
        yield f"| {target} | {_plain(str(guest.get('kernel_release', '')))} | {digests} | `{command}` |"
    yield ""


def _costs(survey: SurveyList, results: Sequence[CellResult]) -> str:
    if not results:
        return "Nothing was run.\n"
    slowest = sorted(results, key=lambda result: -result.all_cpu_s)[:3]
    named = ", ".join(f"{result.id} ({result.all_cpu_s:.0f} s)" for result in slowest)
    packages = sum(len(guest.get("packages", ())) for result in results for guest in result.guests)
    guests = sum(len(result.guests) for result in results)
    wall_s, cpu_s, waited_s = (
        sum(getattr(result, name) for result in results) for name in ("wall_s", "all_cpu_s", "waited_s")
    )
    lines = [
        f"- {len(results)} cells with {guests} guests, which installed {packages} packages.",
        f"- {wall_s / 3600:.1f} hours, of which guests waited {waited_s / 3600:.1f} for a core of a busy host.",
        f"- {cpu_s / 3600:.2f} hours of CPU time, {statistics.median(result.all_cpu_s for result in results):.0f} s in "
        f"the middle cell. Most: {named}.",
        *(f"- {note}" for note in survey.cost_notes),
    ]
    return "\n".join(lines) + "\n"
