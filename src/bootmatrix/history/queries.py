"""Queries of the index, whose schema is index.sql.

Repeated texts, such as inputs and sub-results, are stored once by digest in `texts`.
"""

import hashlib
import json
import re
import sqlite3
from collections.abc import Sequence
from sys import intern
from typing import Any

from bootmatrix.history.values import (
    LAST,
    CellKey,
    CellResult,
    Input,
    PastVerdict,
    RunLine,
    RunResults,
    RunState,
    Standing,
    UnusableRun,
    WeekCount,
)

NAME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d-\d\d-\d\d)Z-(.+)", re.ASCII)
"""Name of a run's folder, as run_store makes it."""
STANDINGS = {standing.value: standing for standing in Standing}
RUN_FIELDS = (
    *("name", "title", "started_at", "ended_at", "wall_s", "interrupted", "interruption", "tool_version"),
    *("host", "baseline", "unexpected", "counts", "fault", "state", "accepted", "missing", "branch"),
)
"""Fields of a RunLine, which are columns."""
RUN_COLUMNS = ", ".join(RUN_FIELDS)
PAST_COLUMNS = "name, r.started_at, verdict, standing, seconds, flaky, inputs, host"
RESULT_COLUMNS = "r.shown, spec, arch, machine, kernel, mode, verdict, standing, seconds, flaky, i.text, s.text, w.text"


class Rows:
    """Queries on one connection to the index."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._texts: dict[str, int] = {}

    def stamps(self) -> dict[str, str]:
        """Return the stamp of each indexed run."""
        return dict(self._db.execute("SELECT name, stamp FROM runs"))

    def usual_s(self) -> dict[str, float]:
        """Return the mean seconds of each cell's passes, by id."""
        query = "SELECT shown, AVG(seconds) FROM results WHERE verdict = 'pass' AND seconds > 0 GROUP BY shown"
        return dict(self._db.execute(query))

    def forget(self, name: str) -> None:
        """Delete a run. Unreferenced texts stay until the index is rebuilt."""
        self._db.execute("DELETE FROM runs WHERE name = ?", (name,))

    def remember(self, name: str, stamp: str, results: RunResults | UnusableRun) -> None:
        """Insert or replace a run, or the reason why it cannot be read."""
        self.forget(name)
        if isinstance(results, UnusableRun):
            started_at, title = of_name(name)
            line = RunLine(name, title=title, started_at=started_at, fault=results.fault, state=results.state)
            results = RunResults(line, ())
        line = results.line
        values = {field: getattr(line, field) for field in RUN_FIELDS}
        values |= {"name": name, "counts": json.dumps(dict(line.counts))}
        marks = ", ".join("?" * (1 + len(values)))
        query = f"INSERT INTO runs(stamp, {RUN_COLUMNS}) VALUES ({marks})"  # noqa: S608
        run = self._db.execute(query, tuple(map(_plain, (stamp, *values.values())))).lastrowid
        for cell in results.cells:
            self._remember_cell(run, line.started_at, cell)

    def _remember_cell(self, run: int | None, started_at: str, cell: CellResult) -> None:
        inputs = [[entry.kind, entry.name, entry.digest, entry.version] for entry in cell.inputs]
        values = (
            *(self._cell(cell), started_at, run, cell.id, cell.verdict, cell.standing.value, cell.seconds, cell.flaky),
            *(self._text(inputs), self._text(cell.subresults), self._text([cell.reason, cell.expect, cell.accepted])),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", tuple(map(_plain, values))
        )

    def _cell(self, cell: CellResult) -> int:
        key = cell.key
        row = self._db.execute(
            "INSERT INTO cells VALUES (NULL, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET shown = excluded.shown RETURNING id",
            (key.spec, key.arch, key.machine, key.kernel, key.mode, cell.id),
        ).fetchone()
        return int(row[0])

    def _text(self, value: Sequence[object]) -> int:
        """Return the id of a list's text; 0 for an empty list."""
        if not value:
            return 0
        text = json.dumps(value)
        if text not in self._texts:
            self._texts[text] = self._stored(text)
        return self._texts[text]

    def _stored(self, text: str) -> int:
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        row = self._db.execute("SELECT id FROM texts WHERE sha256 = ?", (sha256,)).fetchone()
        if row:
            return int(row[0])
        return int(self._db.execute("INSERT INTO texts VALUES (NULL, ?, ?)", (sha256, text)).lastrowid or 0)

    def runs(self, title: str = "", limit: int = -1, until: str = "") -> list[RunLine]:
        """List runs, newest first, optionally of one title, or not dated after a time."""
        rows = self._db.execute(
            f"SELECT {RUN_COLUMNS} FROM runs WHERE ? IN ('', title) AND (? = '' OR started_at <= ?) "  # noqa: S608
            "ORDER BY started_at DESC, name DESC LIMIT ?",
            (_plain(title), until, until, limit),
        )
        return [_line(row) for row in rows]

    def run(self, name: str) -> RunLine | None:
        """Return a run by the name of its folder."""
        row = self._db.execute(f"SELECT {RUN_COLUMNS} FROM runs WHERE name = ?", (_plain(name),)).fetchone()  # noqa: S608
        return _line(row) if row else None

    def results(self, name: str) -> RunResults | None:
        """Return a run and its cells."""
        line = self.run(name)
        if line is None:
            return None
        rows = self._db.execute(
            f"SELECT {RESULT_COLUMNS} FROM results r JOIN runs ON runs.id = r.run "  # noqa: S608
            "JOIN cells ON cells.id = r.cell JOIN texts i ON i.id = r.inputs JOIN texts s ON s.id = r.subresults "
            "JOIN texts w ON w.id = r.said WHERE name = ?",
            (_plain(name),),
        )
        return RunResults(line, tuple(_result(row) for row in rows))

    def cells(self) -> dict[str, list[CellKey]]:
        """Return the keys by id, which may have several machines or modes."""
        keys: dict[str, list[CellKey]] = {}
        rows = self._db.execute("SELECT shown, spec, arch, machine, kernel, mode FROM cells ORDER BY shown")
        for cell_id, *key in rows:
            keys.setdefault(cell_id, []).append(CellKey(*key))
        return keys

    def past(self, key: CellKey, until: RunLine | None = None, limit: int = LAST) -> list[PastVerdict]:
        """Return a cell's last verdicts, oldest first, optionally up to a run."""
        rows = self._db.execute(
            f"SELECT {PAST_COLUMNS} FROM results r JOIN runs ON runs.id = r.run "  # noqa: S608
            "WHERE cell = (SELECT id FROM cells WHERE (spec, arch, machine, kernel, mode) = (?, ?, ?, ?, ?)) "
            "AND standing != 'skip' AND (? IS NULL OR r.started_at < ? OR (r.started_at = ? AND name <= ?)) "
            "ORDER BY r.started_at DESC, name DESC LIMIT ?",
            (*(key.spec, key.arch, key.machine, key.kernel, key.mode), *_until(until), limit),
        )
        return [_past(row) for row in rows][::-1]

    def weeks(self, title: str, count: int, until: str) -> list[WeekCount]:
        """Count a title's last weeks by architecture, oldest first.

        Cells without a verdict on the guest do not count.
        """
        rows = self._db.execute(
            "SELECT date(r.started_at, 'weekday 0', '-6 days') AS monday, arch, COUNT(*), SUM(verdict = 'pass'), "
            "SUM(flaky), COALESCE(AVG(CASE WHEN verdict = 'pass' AND seconds > 0 THEN seconds END), 0.0) "
            "FROM results r JOIN runs ON runs.id = r.run JOIN cells ON cells.id = r.cell "
            "WHERE title = ? AND standing NOT IN ('skip', 'fault') AND monday IS NOT NULL AND monday > "
            "(SELECT date(MAX(started_at), 'weekday 0', '-6 days', ?) FROM runs WHERE title = ? AND started_at <= ?) "
            "AND r.started_at <= ? "
            "GROUP BY monday, arch ORDER BY monday, arch",
            (_plain(title), f"-{7 * count} days", _plain(title), until, until),
        )
        return [WeekCount(*row) for row in rows]

    def inputs(self, entry: PastVerdict) -> tuple[Input, ...]:
        """Return the inputs of a boot in a cell's history."""
        row = self._db.execute("SELECT text FROM texts WHERE id = ?", (entry.inputs or 0,)).fetchone()
        return tuple(Input(*values) for values in json.loads(row[0])) if row else ()

    def last_inputs(self, key: CellKey) -> tuple[Input, ...]:
        """Return the inputs of a cell's last boot."""
        row = self._db.execute(
            "SELECT t.text FROM results r JOIN texts t ON t.id = r.inputs WHERE inputs != 0 AND cell = "
            "(SELECT id FROM cells WHERE (spec, arch, machine, kernel, mode) = (?, ?, ?, ?, ?)) "
            "ORDER BY r.started_at DESC LIMIT 1",
            (key.spec, key.arch, key.machine, key.kernel, key.mode),
        ).fetchone()
        return tuple(Input(*entry) for entry in json.loads(row[0])) if row else ()


def of_name(name: str) -> tuple[str, str]:
    """Return start and title by a name, `2026-11-24T01-40-05Z-title`."""
    match = NAME.fullmatch(name)
    return (f"{match[1]}T{match[2].replace('-', ':')}+00:00", match[3]) if match else ("", name)


def _until(line: RunLine | None) -> tuple[str | None, ...]:
    return (line.started_at, line.started_at, line.started_at, line.name) if line else (None,) * 4


def _plain(value: object) -> object:
    """Text as SQLite takes it, without lone surrogates."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _line(row: tuple[Any, ...]) -> RunLine:
    values = dict(zip(RUN_FIELDS, row, strict=True))
    made = {"interrupted": bool(values["interrupted"]), "counts": json.loads(values["counts"])}
    return RunLine(**{**values, **made, "state": RunState(values["state"])})


def _result(row: tuple[Any, ...]) -> CellResult:
    cell_id, spec, arch, machine, kernel, mode, verdict, standing, seconds, flaky, inputs, subresults, texts = row
    reason, expect, accepted = json.loads(texts)
    return CellResult(
        id=cell_id,
        key=CellKey(spec, arch, machine, kernel, mode),
        verdict=verdict,
        standing=STANDINGS[standing],
        seconds=seconds,
        flaky=bool(flaky),
        reason=reason,
        expect=expect,
        inputs=tuple(Input(*name) for name in json.loads(inputs)),
        subresults=tuple((name, verdict) for name, verdict in json.loads(subresults)),
        accepted=accepted,
    )


def _past(row: tuple[Any, ...]) -> PastVerdict:
    # Intern recurring words: thousands of cells share them.
    run, started_at, verdict, host = map(intern, (row[0], row[1], row[2], row[7]))
    standing, seconds, flaky, inputs = row[3:7]
    return PastVerdict(run, started_at, verdict, STANDINGS[standing], seconds, bool(flaky), str(inputs or ""), host)
