CREATE TABLE runs(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, stamp TEXT NOT NULL, title TEXT NOT NULL,
    started_at TEXT NOT NULL, ended_at TEXT NOT NULL, wall_s REAL NOT NULL, interrupted INTEGER NOT NULL,
    interruption TEXT NOT NULL, tool_version TEXT NOT NULL,
    host TEXT NOT NULL, baseline TEXT NOT NULL, unexpected INTEGER NOT NULL, counts TEXT NOT NULL, fault TEXT NOT NULL,
    state TEXT NOT NULL, accepted INTEGER NOT NULL, missing INTEGER NOT NULL, branch TEXT NOT NULL);
CREATE TABLE cells(
    id INTEGER PRIMARY KEY, spec TEXT NOT NULL, arch TEXT NOT NULL, machine TEXT NOT NULL, kernel TEXT NOT NULL,
    mode TEXT NOT NULL, shown TEXT NOT NULL, UNIQUE(spec, arch, machine, kernel, mode));
CREATE INDEX by_shown ON cells(shown);
CREATE TABLE texts(id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, text TEXT NOT NULL);
INSERT INTO texts VALUES (0, '', '[]');
CREATE TABLE results(
    cell INTEGER NOT NULL, started_at TEXT NOT NULL, run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    shown TEXT NOT NULL, verdict TEXT NOT NULL, standing TEXT NOT NULL, seconds REAL NOT NULL, flaky INTEGER NOT NULL,
    inputs INTEGER NOT NULL REFERENCES texts, subresults INTEGER NOT NULL REFERENCES texts,
    said INTEGER NOT NULL REFERENCES texts, PRIMARY KEY(cell, started_at, run)) WITHOUT ROWID;
CREATE INDEX by_run ON results(run);
