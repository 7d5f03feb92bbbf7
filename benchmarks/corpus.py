"""Pack saved runs into the corpus of the tests: real guests, with the verdict that each has to have.

    python -m benchmarks.corpus reports/RUN… -o tests/corpus/runs.tar.xz

Of each record stays what `bootmatrix judge` needs; paths and the description of the host are taken out. A cell whose
verdict is not reached again stays out too.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bootmatrix.attempts import rejudge
from bootmatrix.errors import InputError
from bootmatrix.model import Record, Run
from bootmatrix.runs import CELLS_FOLDER, RECORD_FILE, STARTED_FILE, load_run, read_console

FOLDER = re.compile(r"(?<![\w.])(?:/[\w.+@-]+)+/")
"""The folders of an absolute path."""
NOT_NEEDED = {"artefacts": (), "command": (), "files": (), "phases": (), "tries": (), "kernel": None}


def main() -> int:
    """Pack what the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=__doc__.split("\n", 1)[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    count = 0
    with tarfile.open(args.output, "w:xz", preset=9) as archive:
        for number, folder in enumerate(args.runs):
            count += _pack(archive, folder, f"{number:02}")
    print(f"{count} cells, {args.output.stat().st_size >> 10} KiB")
    return 0


def _pack(archive: tarfile.TarFile, folder: Path, name: str) -> int:
    """Add the cells of a run; how many."""
    try:
        run = load_run(folder)
        fit = [record for record, again in rejudge(run, folder) if again.verdict is record.verdict and not record.tries]
    except InputError as error:
        print(f"{folder}: left out: {error.message}", file=sys.stderr)
        return 0
    if fit:
        plain = Run(name=name, title=run.title, tool_version=run.tool_version, started_at=run.started_at)
        _add(archive, f"{name}/{STARTED_FILE}", plain.model_dump_json().encode())
    for record in fit:
        cell = record.cell
        place = f"{name}/{CELLS_FOLDER}/{cell.spec_name}/{cell.arch}/{cell.machine}/{cell.kernel}"
        _add(archive, f"{place}/{record.console}", read_console(folder, record))
        _add(archive, f"{place}/{RECORD_FILE}", _without_host(record))
    return len(fit)


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
