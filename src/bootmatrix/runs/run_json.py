"""A run as one file, `run.json`, with a record a line for incremental access.

    {"format": 2, "name": …, "records": [
    {…},
    {…}
    ]}

JSON with other line breaks, as an editor may write it, is read at once.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import ValidationError

from bootmatrix import __version__
from bootmatrix.errors import DamagedRun, OtherFormat, UnreadableRun
from bootmatrix.fsio import open_plain, write_atomic
from bootmatrix.model import Cell, Machine, Record, Run
from bootmatrix.model.base import Model, as_json, first_fault, many_made

FORMAT = 2
READ_FORMATS = (1, FORMAT)
"""Format 1 has other names for fields, which the models know as aliases."""
MAX_RUN_BYTES = 2 << 30
"""A run of 5,000 cells has 0.2 GB."""
REMOVED_KEY = "exit_program"
"""Of machines in older records."""
HEAD_END, END = b'"records": [\n', b"]}\n"
HINT = "A run is a folder under reports/, such as reports/latest."
DAMAGED_HINT = "Copy the run again, or remove its run.json: it is then read from its cells' records, as interrupted."

M = TypeVar("M", bound=Model)


def write_run(path: Path, run: Run, records: Iterable[bytes] | None = None) -> None:
    """Write a run atomically, with these records (JSON in a line each), or its own."""
    write_atomic(path, run_pieces(run, records))


def in_a_line(data: bytes) -> bytes:
    """Return JSON on one line; texts have their line ends escaped."""
    line = data.removesuffix(b"\n")
    return b"".join(map(bytes.lstrip, line.split(b"\n"))) if b"\n" in line else line


def run_pieces(run: Run, records: Iterable[bytes] | None = None) -> Iterator[bytes]:
    """Yield the file in pieces."""
    head = json.dumps(run.model_copy(update={"records": ()}).model_dump(exclude={"records"}), ensure_ascii=False)
    yield f"{head[:-1]}, ".encode("utf-8", "replace") + HEAD_END
    before = b""
    for record in map(as_json, run.records) if records is None else records:
        yield before + record
        before = b",\n"
    yield (b"\n" if before else b"") + END


def read_run(path: Path) -> Run:
    """Read a run.

    Raises DamagedRun if it is not a run, or damaged; OtherFormat if another version wrote it; UnreadableRun if it
    cannot be read.
    """
    with many_made():
        run = _read_lines(path)
        run = read_value(path, Run) if run is None else run
        return run if run.format == FORMAT else run.model_copy(update={"format": FORMAT})


def _read_lines(path: Path) -> Run | None:
    """Return None for a file with other line breaks."""
    try:
        with open_plain(path, MAX_RUN_BYTES) as file:
            head = file.readline()
            if not head.endswith(HEAD_END):
                return None
            run = _parse(path, head.removesuffix(b"\n") + b"]}", Run, DAMAGED_HINT)
            return run.model_copy(update={"records": tuple(_records(path, file))})
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UnreadableRun:
    return UnreadableRun(f"{path}: cannot be read: {error.strerror}", "Ask its owner for access, or copy it again.")


def _records(path: Path, file: BinaryIO) -> Iterator[Record]:
    is_last: bool | None = None
    known = Known()
    for line in file:
        if line == END:
            break
        if is_last:
            raise DamagedRun(f"{path}: damaged: more follows its last record", DAMAGED_HINT)
        is_last = not line.endswith(b",\n")
        yield known.shared(_parse(path, line.rstrip(b",\n"), Record, DAMAGED_HINT))
    else:
        raise DamagedRun(f"{path}: damaged: its end is missing", DAMAGED_HINT)
    if is_last is False:
        raise DamagedRun(f"{path}: damaged: its last record is missing", DAMAGED_HINT)
    if file.read(1):
        raise DamagedRun(f"{path}: damaged: more follows its end", DAMAGED_HINT)


class Known:
    """Deduplicates equal values of many records: machines, kernels, files."""

    def __init__(self) -> None:
        self._values: dict[object, object] = {}
        self._machines: dict[tuple[str, str], Machine | None] = {}

    def shared(self, record: Record) -> Record:
        """Return the record with equal values replaced by known ones."""
        bootable = record.bootable
        if bootable:
            bootable = bootable.model_copy(
                update={
                    "kernel": self._known(bootable.kernel),
                    "initrd": self._known(bootable.initrd),
                    "images": self._known(bootable.images),
                }
            )
        return record.model_copy(
            update={
                "machine_profile": self._machine(record.cell, record.machine_profile),
                "kernel": self._known(record.kernel),
                "artefacts": tuple(map(self._known, record.artefacts)),
                "command": tuple(map(self._known, record.command)),
                "bootable": bootable,
            }
        )

    def _known(self, value: object) -> object:
        try:
            return self._values.setdefault(value, value)
        except TypeError:  # what holds a dictionary has no hash, and stays as it is
            return value

    def _machine(self, cell: Cell, machine: Machine | None) -> Machine | None:
        """A machine holds dictionaries, and so has no hash."""
        known = self._machines.setdefault((cell.arch, cell.machine), machine)
        return known if known == machine else machine


def read_value(path: Path, kind: type[M]) -> M:
    """Read a file with one value.

    Raises DamagedRun if it is of another type, or damaged; OtherFormat if another version wrote it; UnreadableRun if it
    cannot be read.
    """
    try:
        with open_plain(path, MAX_RUN_BYTES) as file:
            data = file.read()
        return _parse(path, data, kind)
    except OSError as error:
        raise _unreadable(path, error) from error


def _parse(path: Path, data: bytes, kind: type[M], hint: str = HINT) -> M:
    if kind is Run:
        _check_format(path, data)
    try:
        return kind.model_validate_json(_without_removed(data) if REMOVED_KEY.encode() in data else data)
    except ValidationError as error:
        faults = error.errors()
        if all(fault["type"] == "extra_forbidden" for fault in faults):
            raise _of_a_later_version(path, sorted({str(fault["loc"][-1]) for fault in faults})) from error
        raise DamagedRun(f"{path}: damaged: {first_fault(error)}", hint) from error


def _of_a_later_version(path: Path, names: Sequence[str]) -> OtherFormat:
    """Return the error on later versions' fields, which may be reservations."""
    listed = ", ".join(map(repr, names[:3]))
    return OtherFormat(
        f"{path}: has fields that bootmatrix {__version__} does not know: {listed[:200]}",
        "A later version wrote it, or somebody edited it: use the version that wrote it.",
    )


def _without_removed(data: bytes) -> bytes:
    """Drop keys of older versions from records; other JSON stays as it is."""
    try:
        value = json.loads(data)
        records = [value, *value.get("records", ())]
        removed = [
            record["machine_profile"].pop(REMOVED_KEY, None) for record in records if record.get("machine_profile")
        ]
    except (ValueError, RecursionError, AttributeError, TypeError):
        return data  # the model says what is wrong
    return json.dumps(value).encode() if removed else data


def _check_format(path: Path, data: bytes) -> None:
    with suppress(ValueError, RecursionError):
        value = json.loads(data)
        version = value.get("format", FORMAT) if isinstance(value, dict) else FORMAT
        if version not in READ_FORMATS:
            raise OtherFormat(
                f"{path}: format {version}, but bootmatrix {__version__} reads {' and '.join(map(str, READ_FORMATS))}",
                "Use the version of bootmatrix that wrote it.",
            )


DIALECT = "https://json-schema.org/draft/2020-12/schema"


def run_schema() -> dict[str, Any]:
    """Return the schema of the current run format."""
    schema = Run.model_json_schema(mode="serialization")
    schema["properties"]["format"] = {"const": FORMAT, "title": "Format", "description": "The version of this layout."}
    return {"$schema": DIALECT, **schema, "title": f"run.json of bootmatrix, format {FORMAT}"}
