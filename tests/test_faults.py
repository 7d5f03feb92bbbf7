"""What happens to us, and not to the guest: each has its verdict, nothing is lost. All are in docs/reliability.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.boot.guest import boot
from bootmatrix.console.log import KEEP_BYTES
from bootmatrix.judge import judge
from bootmatrix.model import Verdict
from bootmatrix.runs.run_store import STARTED_FILE, load_run
from fake_qemu import FLOOD_BYTES
from guests import QUICK
from samples import green_records, write_run
from stage import Stage, set_up
from test_boot_qemu import HALT, guest, pc

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs/reliability.md"
MACHINES = ("sound", "stopped", "killed", "floods_its_console")
SILENCE = "timeouts: {silence: 15s}\nretries: 0\n"
"""Long enough for guests to begin to speak on a busy host."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return set_up(tmp_path_factory.mktemp("faults"), MACHINES)


@pytest.fixture(scope="module")
def run(stage: Stage) -> Stage:
    """A run in which several things happen to QEMU."""
    done = stage.run("matrix", stage.matrix("sound", "stopped", "killed", more=SILENCE))
    assert done.returncode == 3, done.stdout + done.stderr
    return stage


def test_a_qemu_that_is_stopped_is_not_its_guests_fault(run: Stage) -> None:
    assert run.verdict("stopped") == ("infra-error", "QEMU was stopped by a signal (SIGSTOP), not by its guest")
    outcome = run.record("stopped")["outcome"]
    assert 15 <= outcome["suspended_s"] < 30, "no answer is awaited from it once its time is over"


def test_a_qemu_that_is_killed_is_not_its_guests_fault(run: Stage) -> None:
    verdict, reason = run.verdict("killed")
    assert (verdict, "was killed by SIGKILL" in reason) == ("infra-error", True), reason
    assert run.verdict("sound")[0] == "pass", "no other cell suffers from it"


def test_a_flooded_console_is_kept_in_bounds_and_spoils_nothing(stage: Stage) -> None:
    more = "timeouts: {boot: 300s, onboot: 300s, services: 300s, shutdown: 300s}\nretries: 0\n"
    done = stage.run("matrix", stage.matrix("floods_its_console", more=more), limit_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = stage.record("floods_its_console")["outcome"]
    assert outcome["console_bytes"] > FLOOD_BYTES
    console = stage.latest / "cells/fake/fake/floods_its_console/6.1/console.log"
    assert 2 * KEEP_BYTES < console.stat().st_size < 2 * KEEP_BYTES + 100
    assert (stage.latest / "report.html").stat().st_size < 4 << 20


async def test_a_machine_that_qemu_does_not_have(tmp_path: Path) -> None:
    machine, bootable = pc(machine="none-such"), guest(tmp_path, HALT)
    outcome = await boot(machine, bootable, QUICK, tmp_path)
    judgement = judge(outcome, machine, bootable, b"")
    assert judgement.verdict is Verdict.INFRA_ERROR
    assert "unsupported machine type" in judgement.reason


NO_MEMORY = """
import sys, anyio
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from bootmatrix.boot.guest import boot
from bootmatrix.judge import judge
from guests import QUICK
from test_boot_qemu import HALT, guest, pc
folder = Path(sys.argv[1])
machine, bootable = pc(memory_mib=4096), guest(folder, HALT)
outcome = anyio.run(boot, machine, bootable, QUICK, folder)
print(judge(outcome, machine, bootable, b"").verdict, outcome.host_error)
"""


def test_a_host_without_memory_for_the_guest(tmp_path: Path) -> None:
    command = ["prlimit", f"--as={3 << 30}", sys.executable, "-c", NO_MEMORY, str(tmp_path), str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("infra-error qemu-system-x86_64 exited with status 1"), done.stdout
    assert "memory" in done.stdout


def on_disk(stage: Stage, options: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """bootmatrix in a mount namespace that has a file system with these options at `stage.folder`/disk."""
    disk = stage.folder / "disk"
    disk.mkdir(exist_ok=True)
    as_root = [] if stage.folder.stat().st_uid == 0 else ["--user", "--map-root-user"]
    script = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    return stage.run_program("unshare", *as_root, "--mount", "sh", "-c", script, str(disk), *stage.command(*arguments))


def test_a_reports_folder_that_may_not_be_written(stage: Stage) -> None:
    done = on_disk(stage, "ro", "matrix", stage.matrix("sound"), "--reports", "disk/reports")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    assert "Read-only file system" in done.stderr
    assert "disk/reports" in done.stderr


def test_a_reports_folder_that_is_full(stage: Stage) -> None:
    started = len(stage.starts())
    done = on_disk(stage, "size=48k", "matrix", stage.matrix("sound"), "--reports", "disk/reports")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stdout + done.stderr
    assert "No space left on device" in done.stdout + done.stderr
    assert len(stage.starts()) - started <= 1


def test_two_runs_at_once_share_a_cache(stage: Stage, tmp_path: Path) -> None:
    matrix = stage.matrix("sound")
    runs = [stage.start("matrix", matrix, "--reports", str(tmp_path / name)) for name in ("one", "other")]
    assert [process.wait(120) for process in runs] == [0, 0]
    first, second = (load_run(tmp_path / name / "latest").records[0] for name in ("one", "other"))
    assert (first.bootable, first.verdict) == (second.bootable, second.verdict)


def test_a_clock_that_is_set_back_during_a_run_breaks_nothing(tmp_path: Path) -> None:
    _, folder = write_run(tmp_path, green_records())
    (folder / "run.json").unlink()
    started = json.loads((folder / STARTED_FILE).read_text())
    (folder / STARTED_FILE).write_text(json.dumps({**started, "started_at": "2031-01-01T00:00:00+00:00"}))
    run = load_run(folder)
    assert (len(run.records), run.wall_s) == (8, 0.0)


def test_limits_do_not_depend_on_the_wall_clock() -> None:
    source = TESTS.parent / "src/bootmatrix"
    sources = [file for package in ("boot", "cell", "execute") for file in (source / package).rglob("*.py")]
    assert len(sources) > 10
    users = {file.name for file in sources if re.search(r"\btime\.time\(", file.read_text())}
    # Memos and caches outlive the process, and hosts compare their clocks; none of it limits a guest.
    assert users <= {"acceleration.py", "artefacts.py", "process.py", "worker.py"}


def test_every_fault_in_the_table_has_its_test() -> None:
    """The table names tests as `module::test`."""
    named = re.findall(r"`(test_\w+)::(test_\w+)`", TABLE.read_text(encoding="utf-8"))
    assert len(named) >= 20
    sources = {module: (TESTS / f"{module}.py").read_text(encoding="utf-8") for module, _ in named}
    missing = [f"{module}::{name}" for module, name in named if f"def {name}(" not in sources[module]]
    assert missing == []
