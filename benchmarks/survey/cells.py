"""One cell of a survey: autopkgtest with a package's tests in guests, and its result."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.survey.plan import SurveyCell, SurveyList
from benchmarks.survey.sources import SourcePackage
from bootmatrix import __version__
from bootmatrix.fsio import write_atomic

PASSED, SOME_SKIPPED, FAILED, FAILED_SKIPPED, ALL_SKIPPED, BAD_PACKAGE = 0, 2, 4, 6, 8, 12
"""Exit statuses of autopkgtest(1); others are faults of the testbed."""
STATUS = {
    PASSED: "pass",
    SOME_SKIPPED: "pass",
    FAILED: "fail",
    FAILED_SKIPPED: "fail",
    ALL_SKIPPED: "skip",
    BAD_PACKAGE: "bad-package",
}
RESULT = "result.json"
SUMMARY = re.compile(r"(\S+)\s+(PASS|FAIL|SKIP|FLAKY)(?:\s+(.*))?")
IN_TEST = re.compile(
    r"^autopkgtest \S+: test \S+ +\[-+$(.*?)^autopkgtest \S+: test \S+ +-+\]$", re.MULTILINE | re.DOTALL
)
MISSING = re.compile(r": (?:line )?\d+: (\S{1,60}): (?:command )?not found$", re.MULTILINE)
BEGUN = re.compile(r"^autopkgtest \S+: test \S+ +\[-+$", re.MULTILINE)
END_S = 60.0
"""For autopkgtest to end its testbed after a signal."""


@dataclass(frozen=True)
class CellResult:
    """The result of a cell, kept as JSON. `status` is of STATUS, `timeout` or `infra-error`; times are in seconds.

    `missing` are commands that its tests called and a shell did not find: a pass says little then.
    """

    id: str
    package: str
    version: str
    machine: str
    kernel: str
    status: str
    exit_status: int
    reason: str
    tests: tuple[dict[str, str], ...]
    dsc_sha256: str
    command: str
    started_at: str
    wall_s: float
    cpu_s: float
    tool: str = __version__
    guests: tuple[dict[str, Any], ...] = field(default=())
    missing: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the tests that failed."""
        return tuple(test["name"] for test in self.tests if test["result"] == "fail")

    @property
    def all_cpu_s(self) -> float:
        """CPU time with the guests'."""
        return self.cpu_s + sum(float(guest.get("cpu_s") or 0) for guest in self.guests)

    @property
    def waited_s(self) -> float:
        """Time that the host withheld from the guests."""
        return sum(float(guest.get("waited_s") or 0) for guest in self.guests)

    @property
    def is_starved(self) -> bool:
        """True if the guests waited for the host for longer than they ran."""
        return self.waited_s > self.all_cpu_s


def load_result(folder: Path) -> CellResult | None:
    """Return the kept result of a cell; None without one."""
    try:
        return _parse((folder / RESULT).read_bytes())
    except (OSError, ValueError):
        return None


def load_results(path: Path) -> dict[str, CellResult]:
    """Return the results of a file of lines by cell; empty without the file."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return {result.id: result for result in map(_parse, lines)}


def save_results(path: Path, results: Iterable[CellResult]) -> None:
    """Write results as lines of JSON, in order of their cells."""
    lines = [json.dumps(asdict(result)) for result in sorted(results, key=lambda result: result.id)]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())


def _parse(data: bytes) -> CellResult:
    values: dict[str, Any] = json.loads(data)
    return CellResult(
        **values | {name: tuple(values[name]) for name in ("tests", "guests", "missing") if name in values}
    )


def run_cell(cell: SurveyCell, source: SourcePackage, survey: SurveyList, folder: Path, limit_s: float) -> CellResult:
    """Run a package's tests on a target, and keep result, output and record in a folder.

    Tests that fail on a host which is busy with other things must fail in a second run as well.
    """
    result = _run_once(cell, source, survey, folder, limit_s)
    if result.is_starved and result.status == "fail":
        log = (folder / "log").read_bytes()
        result = confirmed(result, _run_once(cell, source, survey, folder, limit_s))
        (folder / "log.first").write_bytes(log)
    elif result.is_starved and result.status == "timeout":
        reason = f"{result.reason}, for {result.waited_s:.0f} s of which it waited for the host"
        result = replace(result, status="infra-error", reason=reason)
    write_atomic(folder / RESULT, json.dumps(asdict(result), indent=1).encode())
    return result


def confirmed(first: CellResult, second: CellResult) -> CellResult:
    """Return the result of two runs on a busy host, the first of which failed."""
    if second.status == "pass":
        return replace(second, reason=f"in a second run; a first one on a busy host failed: {', '.join(first.failed)}")
    if second.status == "fail" and second.failed == first.failed:
        return second
    tests = ", ".join(dict.fromkeys((*first.failed, *second.failed)))
    return replace(second, status="infra-error", reason=f"two runs on a busy host differ: {tests}")


def _run_once(cell: SurveyCell, source: SourcePackage, survey: SurveyList, folder: Path, limit_s: float) -> CellResult:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    record = folder / "record.json"
    skips = [f"--skip-test={name}" for name in survey.skipped.get(cell.package, ())]
    server = str(Path(sys.executable).with_name("autopkgtest-virt-bootmatrix"))
    command = [
        *("setpriv", "--pdeathsig", "TERM", "autopkgtest", "--no-built-binaries", *skips, str(source.tree)),
        *("--output-dir", str(folder / "out"), "--timeout-factor", "10", "--", server),
        *_options(cell, survey, str(source.tree)),
        *("--record", str(record)),
    ]
    started, before_s = time.monotonic(), _cpu_s()
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    status, is_over = _run(command, folder / "log", limit_s)
    guests = json.loads(record.read_bytes())["guests"] if record.is_file() else []
    tests = _tests(folder / "out" / "summary")
    log = (folder / "log").read_text(encoding="utf-8", errors="replace")
    return CellResult(
        *(cell.id, cell.package, source.version, cell.machine, cell.kernel),
        status=status_of_late(log) if is_over else status_of(status, tests),
        exit_status=status,
        reason=_reason(folder / "log", status, is_over, limit_s),
        tests=tests,
        dsc_sha256=source.dsc_sha256,
        command=shlex.join(
            ["autopkgtest", "-B", *skips, f"{cell.package}/", "--", "bootmatrix", *_options(cell, survey, cell.package)]
        ),
        started_at=started_at,
        wall_s=round(time.monotonic() - started, 1),
        cpu_s=round(_cpu_s() - before_s, 1),
        guests=tuple(guests),
        missing=missing_commands(log),
    )


def missing_commands(log: str) -> tuple[str, ...]:
    """Return commands that a shell did not find while a test ran, by autopkgtest's output."""
    return tuple(sorted({name for test in IN_TEST.findall(log) for name in MISSING.findall(test)}))


def status_of_late(log: str) -> str:
    """Return the status of a cell whose time was over; before its first test the testbed was too slow."""
    return "timeout" if BEGUN.search(log) else "infra-error"


def status_of(exit_status: int, tests: Sequence[Mapping[str, str]]) -> str:
    """Return the status of a cell; tests whose packages cannot be installed have not failed."""
    status = STATUS.get(exit_status, "infra-error")
    failed = [test["reason"] for test in tests if test["result"] == "fail"]
    return "bad-package" if status == "fail" and failed and set(failed) == {"badpkg"} else status


def _options(cell: SurveyCell, survey: SurveyList, tree: str) -> list[str]:
    """Return options of the server, such that apt in the guest reads no more than the tests need."""
    target = ("--arch", cell.machine, "--kernel", cell.kernel, "--root", survey.root)
    modules = (word for name in survey.modules.get(cell.package, ()) for word in ("--module", name))
    return [*target, "--isolation", survey.isolation, "--tree", tree, *modules]


def _run(command: list[str], log: Path, limit_s: float) -> tuple[int, bool]:
    """Run a command with its output in a file; return its exit status, and whether it was ended for its time."""
    with log.open("ab") as output:  # autopkgtest opens its standard error again
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=_env()
        )
        try:
            return process.wait(limit_s), False
        except subprocess.TimeoutExpired:
            return _stop(process), True
        except BaseException:
            _stop(process)
            raise


def _env() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def _stop(process: subprocess.Popen[bytes]) -> int:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def _cpu_s() -> float:
    """CPU time of ended children; guests have theirs in their records."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tests(summary: Path) -> tuple[dict[str, str], ...]:
    if not summary.is_file():
        return ()
    lines = summary.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [match for line in lines if (match := SUMMARY.fullmatch(line.strip()))]
    return tuple({"name": match[1], "result": match[2].lower(), "reason": match[3] or ""} for match in found)


TELLING = ("ERROR", "bad package", "badpkg: ", "autopkgtest-virt-bootmatrix: ")
"""Words of lines with an error of autopkgtest or of our server; not of the command line, which names a folder."""


def _reason(log: Path, status: int, is_over: bool, limit_s: float) -> str:
    """Return the last error of autopkgtest; empty if all tests have a result."""
    if is_over:
        return f"ended after {limit_s:.0f} s"
    if status in {PASSED, SOME_SKIPPED, FAILED, FAILED_SKIPPED, ALL_SKIPPED}:
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    telling = [line for line in lines if any(words in line for words in TELLING)]
    return (telling or lines or [""])[-1][:300]
