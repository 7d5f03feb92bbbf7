"""The corpus of the tests: real guests on every architecture, with every kind of end and the verdict that is right.

    python -m benchmarks.corpus                 boot benchmarks/ends, and pack what comes of it: half an hour or more
    python -m benchmarks.corpus reports/RUN…    pack runs that are there already

Of each record stays what `bootmatrix judge` needs; paths and the description of the host are taken out. A cell whose
verdict is not reached again stays out too. Exit status 1 if a cell is not what benchmarks/ends/verdicts.yml says.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bootmatrix.cell.rejudge import rejudge
from bootmatrix.errors import InputError
from bootmatrix.model import Record, Run
from bootmatrix.runs.consoles import read_console
from bootmatrix.runs.run_store import CELLS_FOLDER, RECORD_FILE, STARTED_FILE, load_run

ROOT = Path(__file__).resolve().parent.parent
ENDS = ROOT / "benchmarks/ends"
CORPUS = ROOT / "tests/corpus/runs.tar.xz"
FOLDER = re.compile(r"(?<![\w.])(?:/[\w.+@-]+)+/")
"""The folders of an absolute path."""
NOT_NEEDED = {"artefacts": (), "command": (), "files": (), "phases": (), "attempt_records": (), "kernel": None}


def main() -> int:
    """Boot, unless there are runs, and pack."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="pack these, and boot nothing")
    parser.add_argument("--arch", help="of benchmarks/ends, these only (default: all)")
    parser.add_argument("-o", "--output", type=Path, default=CORPUS, help="default: the corpus of the tests")
    args = parser.parse_args()
    if args.runs:
        return pack(args.runs, args.output)
    with tempfile.TemporaryDirectory(prefix="bootmatrix-corpus-") as folder:
        boot_ends(Path(folder), args.arch)
        return pack([Path(folder, "latest")], args.output)


def boot_ends(reports: Path, arch: str | None) -> None:
    """Run the matrix of ends; most of its cells are to fail, so its exit status says nothing."""
    program = Path(sys.executable).with_name("bootmatrix")
    command = [program, "matrix", ENDS / "ends.matrix.yml", "--reports", reports, *(("--arch", arch) if arch else ())]
    subprocess.run(command, check=False)


def pack(runs: list[Path], output: Path) -> int:
    """Write the corpus, and say what is in it."""
    packed: list[Record] = []
    with tarfile.open(output, "w:xz", preset=9) as archive:
        for number, folder in enumerate(runs):
            packed += _pack(archive, folder, f"{number:02}")
    for verdict, count in Counter(record.verdict.value for record in packed).most_common():
        print(f"{count:4}  {verdict}")
    print(f"{len(packed)} cells, {output.stat().st_size >> 10} KiB")
    wrong = [record for record in packed if record.verdict != expected().get(record.cell.spec_name, record.verdict)]
    for record in wrong:
        print(f"WRONG  {record.cell.id}: {record.verdict}: {record.judgement.reason}")
    return 1 if wrong else 0


def expected() -> dict[str, str]:
    """The verdict that each spec of benchmarks/ends has to have."""
    verdicts: dict[str, str] = yaml.safe_load((ENDS / "verdicts.yml").read_text(encoding="utf-8"))
    return verdicts


def _pack(archive: tarfile.TarFile, folder: Path, name: str) -> list[Record]:
    """Add the cells of a run; which."""
    try:
        run = load_run(folder)
        fit = [
            record
            for record, again in rejudge(run, folder)
            if again.verdict is record.verdict and not record.attempt_records
        ]
    except InputError as error:
        print(f"{folder}: left out: {error.message}", file=sys.stderr)
        return []
    if fit:
        plain = Run(name=name, title=run.title, tool_version=run.tool_version, started_at=run.started_at)
        _add(archive, f"{name}/{STARTED_FILE}", plain.model_dump_json().encode())
    for record in fit:
        cell = record.cell
        place = f"{name}/{CELLS_FOLDER}/{cell.spec_name}/{cell.arch}/{cell.machine}/{cell.kernel}"
        _add(archive, f"{place}/{record.console}", read_console(folder, record))
        _add(archive, f"{place}/{RECORD_FILE}", _without_host(record))
    return fit


def _without_host(record: Record) -> bytes:
    outcome = record.outcome and record.outcome.model_copy(update={"stderr": FOLDER.sub("/", record.outcome.stderr)})
    plain = record.model_copy(update={**NOT_NEEDED, "outcome": outcome}).model_dump()
    plain["cell"]["spec"] = Path(record.cell.spec).name
    for artefact in _artefacts(plain["bootable"]):
        artefact["path"] = f"/{Path(artefact['path']).name}"
    return json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")


def _artefacts(value: Any) -> Iterator[dict[str, Any]]:
    """Every value in a value that has a path."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        yield value
    for one in inner:
        yield from _artefacts(one)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    sys.exit(main())
