"""A disk that is full at the end of a run: the table is shown, and what fits is written, small files first."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_disk import run_on_small_disk

CODE = """
import os, shlex, shutil, sys
from bootmatrix.cli.main import main

reports, spec, kept = sys.argv[1:4]
status = main(["matrix", spec, "--arch", "x86_64", "--reports", reports + "/r", "--cache", kept + "/cache"])
run = os.path.realpath(reports + "/r/latest")
shutil.copytree(run, kept + "/run")
print("status", status)
os.system(f"mount -o remount,size=8m {shlex.quote(reports)}")
sys.stdout.flush()
again = main(["report", reports + "/r/" + os.path.basename(run)])
print("then", again, os.path.exists(run + "/report.html"))
"""
GUEST = "kernel: '{arch}-kernel'\ninitrd: none\nconsole: fine\n"


@pytest.mark.parametrize(("size_kib", "is_report_there"), [(90, False), (4096, True)])
def test_the_results_outlive_a_disk_that_is_full_at_the_end(
    tmp_path: Path, size_kib: int, is_report_there: bool
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    (tmp_path / "gone.guest.yml").write_text(GUEST, encoding="utf-8")
    done = run_on_small_disk(disk, size_kib, CODE, str(tmp_path / "gone.guest.yml"), str(kept))
    printed = done.stdout + done.stderr
    assert "status 3" in done.stdout, printed
    assert "gone" in done.stdout
    assert "1 build-error" in done.stdout, printed
    run = kept / "run"
    assert "build-error" in (run / "junit.xml").read_text(encoding="utf-8")
    assert '"verdict":"build-error"' in (run / "run.json").read_text(encoding="utf-8").replace(" ", "")
    assert (run / "report.html").exists() == is_report_there
    assert ("cannot be written: " in done.stderr) == (not is_report_there), printed
    if not is_report_there:
        assert "No space left on device" in done.stderr
        assert f"Free some space on its disk, then: bootmatrix report {disk}/r/" in done.stderr
    assert "then 0 True" in done.stdout, printed
    assert not list(run.glob(".*"))


ROOM = """
import sys
from pathlib import Path
from bootmatrix.runs.host import SpareRoom

folder = Path(sys.argv[1])
room = SpareRoom(folder, 1)
try:
    with (folder / "others").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError as error:
    print(error.strerror)
room.release()
(folder / "junit.xml").write_bytes(bytes(150_000))
print([path.name for path in folder.iterdir() if path.name != "others"])
"""


def test_room_that_was_set_aside_is_there_on_a_disk_that_others_filled(tmp_path: Path) -> None:
    done = run_on_small_disk(tmp_path, 1000, ROOM)
    assert done.stdout.splitlines() == ["No space left on device", "['junit.xml']"], done.stderr


FROM_THE_START = """
import os, sys
from bootmatrix.cli.main import main
from bootmatrix.workspace import run

reports, spec, kept = sys.argv[1:4]
begin, others = run.begin, reports + "/others"

def begin_on_full_disk(*arguments):
    writer = begin(*arguments)
    with open(others, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return writer

run.begin = begin_on_full_disk
cells = [spec, "--arch", "x86_64"]
child = os.fork()  # a run is under way as long as its process lives
if not child:
    os._exit(main(["matrix", *cells, "--reports", reports + "/r", "--cache", kept]))
print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
main(["runs", "--reports", reports + "/r"])
os.remove(others)
run.begin = begin
print("then", main(["matrix", "--resume", reports + "/r/latest", "--cache", kept]))
main(["runs", "--reports", reports + "/r"])
print(sorted(os.listdir(reports + "/r/latest/")))
"""


def test_a_disk_that_was_full_from_the_start_is_no_kill(tmp_path: Path) -> None:
    """The run is listed as interrupted by a full disk, although run.json could not be written."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    (tmp_path / "gone.guest.yml").write_text(GUEST, encoding="utf-8")
    done = run_on_small_disk(disk, 4096, FROM_THE_START, str(tmp_path / "gone.guest.yml"), str(kept))
    full, _, resumed = done.stdout.partition("then ")
    assert "status 3" in full, done.stdout + done.stderr
    assert "1 not tested, interrupted: disk full" in full
    assert "1 without a verdict" in resumed, done.stdout + done.stderr
    assert "interrupted" not in resumed
    assert "'run.json'" in resumed
    assert "disk-full" not in resumed
