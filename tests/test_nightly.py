"""docs/nightly.md: its commands, its script over some nights, and its alert rules."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bootmatrix.cli.main import main
from bootmatrix.cli.parsers import ADDERS
from samples import green_records, write_dated
from stage import ROOT, SPEC, Stage, set_up

DOCS = ROOT / "docs"
PAGE = (DOCS / "nightly.md").read_text(encoding="utf-8")
NIGHTS = "sound-then-no_end-then-no_end-then-no_end-then-sound"
AGAIN = "sound-then-no_end-then-sound-then-no_end-then-no_end"
COMMANDS = re.findall(r"^    bootmatrix (.*)$", PAGE, re.MULTILINE)


def make_stage(folder: Path, *scenarios: str) -> Stage:
    """A stage with the night's script, and a matrix of the first scenario."""
    made = set_up(folder, scenarios)
    program = made.folder / "bin/bootmatrix"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bootmatrix.cli.main "$@"\n')
    program.chmod(0o755)
    shutil.copy(DOCS / "nightly/nightly.sh", made.folder)
    made.matrix(scenarios[0])
    return made


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return make_stage(tmp_path_factory.mktemp("nights"), NIGHTS, "lingers")


def night(stage: Stage) -> subprocess.CompletedProcess[str]:
    command = ["./nightly.sh", "all.matrix.yml"]
    return subprocess.run(
        command, cwd=stage.folder, env=stage.environment(), capture_output=True, text=True, timeout=200, check=False
    )


def test_nights_and_mornings(stage: Stage) -> None:
    """Green, a regression, the same one still, accepted; each night says so by status, words and metrics."""
    metrics = stage.folder / "bootmatrix.prom"
    first = night(stage)
    assert first.returncode == 0, first.stdout + first.stderr
    assert re.match(r"1 cell, 0 skipped: reports/", first.stdout)
    assert 'bootmatrix_run_good{title="all"} 1.0' in metrics.read_text()
    for number in (2, 3):
        red = night(stage)
        assert red.returncode == 1, red.stdout + red.stderr
        assert ("regressed 1 run ago" in red.stdout) is (number == 3)
        assert 'bootmatrix_run_regressions{title="all"} 1.0' in metrics.read_text()
    stage.run("accept", "fake/*", "--reason", "known", "--by", "Ann")
    accepted = night(stage)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    assert "accepted by Ann" in accepted.stdout
    assert night(stage).returncode == 0
    assert "last-good" not in stage.run("runs").stderr


def test_an_acceptance_ends_with_a_pass(tmp_path: Path) -> None:
    """Each night of another spec, so that the cell does not flap."""
    stage = make_stage(tmp_path, AGAIN)
    for number, status in enumerate((0, 1, 0, 1, 1)):
        (stage.folder / "fake.yml").write_text(SPEC.replace('"600"', f'"60{number}"'))
        done = night(stage)
        assert done.returncode == status, done.stdout + done.stderr
        if number == 1:
            assert stage.run("accept", "fake/*", "--reason", "known", "--by", "Ann").returncode == 0
    assert "regressed 1 run ago; was accepted by Ann until " in done.stdout
    assert ": known; it has passed since" in done.stdout
    assert " accepted" not in stage.run("runs", "-n", "1").stdout


def test_an_interrupted_night_is_finished(stage: Stage) -> None:
    """By the next night of the same matrix, whatever ran between; a changed matrix is started anew."""
    late = stage.folder / "late.matrix.yml"
    late.write_text('specs: [fake.yml]\narch: [fake/lingers]\nkernel: ["6.1"]\n')
    done = stage.run("matrix", "late.matrix.yml", "--deadline", "1s")
    assert done.returncode == 130, done.stdout + done.stderr
    assert "interrupted, deadline of 1.0 s: stopping all guests" in done.stdout
    assert "To finish it: bootmatrix matrix --resume " in done.stdout
    runs = stage.run("runs", "-n", "1").stdout
    assert ", 1 not tested, interrupted: deadline of 1.0 s" in runs
    stage.go.touch()
    before = len(list(stage.reports.glob("*Z-*")))
    other = night(stage)
    assert other.returncode == 0, other.stdout + other.stderr
    assert ", interrupted" in stage.run("runs", "--title", "late").stdout
    stage.go.unlink()
    assert stage.run("matrix", stage.matrix("lingers"), "--deadline", "1s").returncode == 130
    stage.go.touch()
    stage.run_program("./nightly.sh", "late.matrix.yml")
    assert "1 as expected" in stage.run("runs", "--title", "late").stdout
    assert len(list(stage.reports.glob("*Z-*"))) == before + 2
    stage.matrix("lingers", more="retries: 1\n")
    changed = night(stage)
    assert "have changed since it began" in changed.stdout
    assert len(list(stage.reports.glob("*Z-*"))) == before + 3
    metrics = (stage.folder / "bootmatrix-night.prom").read_text()
    assert re.search(r'^bootmatrix_night_start_time_seconds.matrix="all.matrix.yml". \d{10}$', metrics, re.MULTILINE)
    assert 'bootmatrix_night_exit_status{matrix="all.matrix.yml"} 0\n' in metrics


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith("serve ")])
def test_the_commands_are_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that look back are run over two nights; a matrix is started above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOOTMATRIX_CACHE", str(tmp_path / "cache"))
    write_dated(tmp_path / "reports", 1, green_records(), title="nightly")
    write_dated(tmp_path / "reports", 2, green_records(), title="nightly")
    words = shlex.split(command)
    assert words[0] in ADDERS
    status = main(words)
    said = "".join(capsys.readouterr())
    expected = 2 if words[0] == "matrix" else 0
    assert status == expected, said
    assert "usage:" not in said


def test_the_server_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    (command,) = (command for command in COMMANDS if command.startswith("serve "))
    write_dated(tmp_path / "reports", 1, green_records())
    words = [sys.executable, "-m", "bootmatrix.cli.main", *shlex.split(command), "--port", "0"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        line = server.stdout.readline()
        server.send_signal(signal.SIGINT)
        assert server.wait(60) in {0, 130}
    assert " at https://ci.example.org/bootmatrix/ " in line


def test_the_installation(tmp_path: Path) -> None:
    """Its commands below a folder, as root of that only; `pip install` is tests/test_wheel.py's."""
    root, checkout = tmp_path / "root", tmp_path / "checkout"
    for folder in (root / "srv", root / "etc/systemd/system", checkout / "docs"):
        folder.mkdir(parents=True)
    (checkout / "docs/nightly").symlink_to(DOCS / "nightly")
    (checkout / "specs").symlink_to(ROOT / "specs")
    (checkout / "nightly.matrix.yml").write_text("specs: [hello]\n")
    commands = re.findall(r"^    sudo (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 6
    below = [re.sub(r"(?<=\s)/(srv|etc)/", rf"{root}/\1/", command) for command in commands if "pip" not in command]
    below[0] = commands[0].replace("useradd", f"useradd --prefix {root}")
    below[-1] = below[-1].replace("systemctl enable --now", f"systemctl --root={root} enable")
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    script = "set -e\n" + "\n".join(below)
    done = subprocess.run(
        ["fakeroot", "sh", "-c", script], cwd=checkout, env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (root / "etc/systemd/system/timers.target.wants/bootmatrix-nightly.timer").is_symlink()
    units = sorted((root / "etc/systemd/system").glob("bootmatrix-*"))
    for unit in units:
        unit.write_text(unit.read_text().replace("/srv/", f"{root}/srv/"))
    (root / "srv/bootmatrix/venv/bin/python3").stat()
    words = ["systemd-analyze", "verify", "--man=no", *map(str, units)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    ours = [line for line in checked.stderr.splitlines() if "bootmatrix" in line]
    assert (checked.returncode, len(units), ours) == (0, 2, []), checked.stderr


def test_the_alert_rules(tmp_path: Path) -> None:
    """By Prometheus' own tool: each rule fires where it should, and nowhere else."""
    promtool = shutil.which("promtool")
    assert promtool, "Debian's package prometheus has it"
    rules = DOCS / "nightly/alerts.yml"
    subprocess.run([promtool, "check", "rules", str(rules)], check=True, capture_output=True)
    cases = {
        "BootmatrixRegression": [('bootmatrix_run_regressions{title="m"}', "2")],
        "BootmatrixUnusableRun": [('bootmatrix_run_state{title="m",state="damaged"}', "1")],
        "BootmatrixInterrupted": [('bootmatrix_run_state{title="m",state="interrupted"}', "1")],
        "BootmatrixNoNight": [('bootmatrix_night_start_time_seconds{matrix="m"}', "-100000")],
        "BootmatrixNightFailed": [('bootmatrix_night_exit_status{matrix="m"}', "3")],
        "BootmatrixNoRun": [('bootmatrix_run_start_time_seconds{title="m"}', "-200000")],
        "BootmatrixNotGood": [
            ('bootmatrix_run_good{title="m"}', "0"),
            ('bootmatrix_run_state{title="m",state="finished"}', "1"),
        ],
        "": [
            ('bootmatrix_run_good{title="m"}', "1"),
            ('bootmatrix_run_good{title="accepted"}', "0"),
            ('bootmatrix_run_state{title="accepted",state="finished"}', "1"),
            ('bootmatrix_run_unexpected_cells{title="accepted"}', "2"),
            ('bootmatrix_run_accepted_cells{title="accepted"}', "2"),
            ('bootmatrix_run_state{title="m",state="finished"}', "1"),
            ('bootmatrix_run_state{title="m",state="damaged"}', "0"),
            ('bootmatrix_run_regressions{title="m"}', "0"),
            ('bootmatrix_run_start_time_seconds{title="resumed"}', "-200000"),
            ('bootmatrix_run_end_time_seconds{title="resumed"}', "-100000"),
            ('bootmatrix_night_start_time_seconds{matrix="m"}', "-90000"),
            ('bootmatrix_night_exit_status{matrix="m"}', "1"),
            ('bootmatrix_night_exit_status{matrix="stopped"}', "130"),
        ],
    }
    names = [name for name in cases if name]
    assert sorted(names) == sorted(
        rule["alert"] for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]
    )
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": f"{value}+0x9"} for series, value in inputs],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}"}}) or vector(0)',
                    "eval_time": "5m",
                    "exp_samples": [{"labels": "{}", "value": int(name == firing)}],
                }
                for name in names
            ],
        }
        for firing, inputs in cases.items()
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
