"""Runs that were killed: no process outlives them, no record is lost, and they are taken up where they were."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.input_digests import digests
from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.merge import load_spec
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Plan, RunRequest
from bootmatrix.model.run_config import SourceConfig
from bootmatrix.progress import NullObserver
from bootmatrix.runs.run_store import LOCK_FILE, RUN_FILE, STARTED_FILE, load_run
from bootmatrix.source.archive import open_archive
from bootmatrix.store import Store
from bootmatrix.workspace.finished import RunOptions
from bootmatrix.workspace.planned_run import check_machines, check_sources
from kills import Setting, adopting, moments, try_kill, verdicts, wait_for_children
from packages import Deb, entry
from samples import green_records, make_cell, write_run
from stage import BOOTMATRIX, Stage, set_up
from test_boot_guest import wait_until_gone

MACHINES = ("sound", "check_fails", "lingers.1", "lingers.2")
RECORDS = "cells/*/*/*/*/record.json"
KILLS = 3
"""`python -m benchmarks.trials kills` tries fifty, with real guests."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return set_up(tmp_path_factory.mktemp("resume"), MACHINES)


@pytest.fixture
def killed(stage: Stage) -> Iterator[Path]:
    """A run that was killed when it had one record or more, and a guest under way."""
    shutil.rmtree(stage.reports, ignore_errors=True)
    stage.go.unlink(missing_ok=True)
    process = stage.start("matrix", stage.matrix(*MACHINES, more="retries: 0\n"), "--jobs", "3")
    deadline = time.monotonic() + 60
    while not list(stage.latest.glob(RECORDS)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait(60)
    stage.go.touch()
    assert all(wait_until_gone(pid, 5) for pid, _ in stage.starts())
    yield stage.latest.resolve()


def test_what_is_missing_is_run_and_nothing_else(stage: Stage, killed: Path) -> None:
    before, started = load_run(killed), len(stage.starts())
    missing = set(MACHINES) - {record.cell.machine for record in before.records}
    assert missing and before.records
    assert (before.interrupted, before.ended_at) == (True, "")
    done = stage.run("matrix", "--resume", "reports/latest", "--jobs", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    run = load_run(killed)
    assert sorted(name for _, name in stage.starts()[started:]) == sorted(name.split(".")[0] for name in missing)
    assert [record for record in run.records if record in before.records] == list(before.records)
    assert {record.cell.machine: record.verdict.value for record in run.records} == {
        "sound": "pass",
        "check_fails": "fail",
        "lingers.1": "pass",
        "lingers.2": "pass",
    }
    assert (run.interrupted, run.unfinished, len(run.resumed)) == (False, (), 1)
    assert "3 pass" in done.stdout and (killed / "report.html").is_file() and (killed / "junit.xml").is_file()


def test_a_finished_run_is_no_new_result(stage: Stage, killed: Path) -> None:
    stage.run("matrix", "--resume", "reports/latest")
    started, before = len(stage.starts()), load_run(killed)
    done = stage.run("matrix", "--resume", "reports/latest")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"this run finished at {before.ended_at} already, and nothing was booted now" in done.stderr
    assert (len(stage.starts()), load_run(killed)) == (started, before)


def test_a_run_goes_on_where_it_began_or_is_refused(stage: Stage, killed: Path) -> None:
    """On its machines, unless others are named; those of its file are named, not used unasked."""
    started = json.loads((killed / STARTED_FILE).read_text())
    started["order"] |= {"executor": "dask", "cluster": "its hosts.yml"}
    (killed / STARTED_FILE).write_text(json.dumps(started))
    for words in ((), ("--executor", "dask")):
        done = stage.run("matrix", "--resume", "reports/latest", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"bootmatrix matrix --resume {killed} --executor dask --cluster 'its hosts.yml'" in done.stderr
    done = stage.run("matrix", "--resume", "reports/latest", "--executor", "local")
    assert done.returncode == 1 and not load_run(killed).missing, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("began", "now", "is_refused"),
    [
        (("local", ""), ("", ""), False),
        (("local", "boards.yml"), ("", ""), True),
        (("local", "boards.yml"), ("local", "boards.yml"), False),
        (("dask", ""), ("", ""), True),
        (("dask", ""), ("dask", "more.yml"), False),
        (("dask", "hosts.yml"), ("", "hosts.yml"), True),
        (("dask", "hosts.yml"), ("mine", ""), False),
    ],
)
def test_which_machines_go_on(began: tuple[str, str], now: tuple[str, str], is_refused: bool) -> None:
    order = RunRequest(plan=Plan(cells=()), executor=began[0], cluster=began[1])
    refusal = pytest.raises(InputError, match="was given without") if is_refused else nullcontext()
    with refusal:
        check_machines(Path("r"), order, RunOptions(executor=now[0], cluster=now[1]))


def test_a_run_goes_on_with_its_sources_or_is_refused(stage: Stage, killed: Path) -> None:
    """The address of a saved run is named, not used unasked."""
    started = json.loads((killed / STARTED_FILE).read_text())
    started["order"] |= {"archive": "http://mirror.invalid/debian", "offline": True}
    (killed / STARTED_FILE).write_text(json.dumps(started))
    options = "--archive http://mirror.invalid/debian --offline"
    for words in ((), ("--offline",), ("--archive", "http://other.invalid/debian")):
        done = stage.run("matrix", "--resume", "reports/latest", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--resume was given without" in done.stderr
        assert f"bootmatrix matrix --resume {killed} {options}\n" in done.stderr
    done = stage.run("matrix", "--resume", "reports/latest", *options.split())
    assert done.returncode == 1 and not load_run(killed).missing, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("began", "now", "lacking"),
    [
        ({}, {}, ""),
        ({}, {"archive": "http://a.invalid", "offline": True}, ""),
        ({"archive": "http://a.invalid"}, {"archive": "http://user:word@a.invalid"}, ""),
        ({"archive": "http://a.invalid"}, {}, "--archive http://a.invalid"),
        ({"allow_older_release": True, "offline": True}, {"offline": True}, "--allow-older-release"),
    ],
)
def test_which_sources_go_on(began: dict[str, Any], now: dict[str, Any], lacking: str) -> None:
    order = RunRequest(plan=Plan(cells=()), **began)
    refusal = pytest.raises(InputError, match=f"began with {lacking}, and") if lacking else nullcontext()
    with refusal:
        check_sources(Path("r"), order, SourceConfig(cache=Path("c"), **now))


def test_a_changed_spec_is_refused(stage: Stage, killed: Path) -> None:
    spec = stage.folder / "fake.yml"
    text = spec.read_text()
    spec.write_text(text + "\n# changed\n")
    try:
        done = stage.run("matrix", "--resume", "reports/latest")
    finally:
        spec.write_text(text)
    assert done.returncode == 2
    assert "cannot be resumed: changed since it began: fake.yml" in done.stderr.replace(f"{stage.folder}/", "")
    assert not (killed / RUN_FILE).exists()


def inputs(file: Path, cache: Path, arch: str = "x86_64") -> dict[str, str]:
    """Digests of the inputs of a spec's cell."""
    profiles, spec = load_profiles([CHECKOUT / "arch"]), load_spec(file)
    kernel = {"kernel": "own"} if spec.own else {}
    machine = profiles[arch].default_machine()
    cell = make_cell(arch).model_copy(update={"spec": spec.path, "machine": machine, **kernel})
    store = Store(cache)
    archive = open_archive(store, offline=True, lock=None, address=None, progress=NullObserver())
    return digests([cell], {spec.path: spec}, profiles, Builder(store, archive))


def changes(file: Path, cache: Path) -> Callable[[], set[str]]:
    """Return a function that lists the inputs that changed since this call."""
    before = inputs(file, cache)
    return lambda: {name for name, digest in inputs(file, cache).items() if digest != before.get(name)}


def test_files_of_a_guest_of_ones_own_count_as_its_spec(tmp_path: Path) -> None:
    for name in ("kernel", "initrd"):
        (tmp_path / name).write_text(name)
    guest = tmp_path / "mine.guest.yml"
    guest.write_text("kernel: kernel\ninitrd: initrd\nconsole: {text: fine}\n")
    changed = changes(guest, tmp_path / "store")
    assert changed() == set()
    (tmp_path / "initrd").write_text("another")
    assert changed() == {f"{guest} for x86_64"}


def test_a_changed_file_beside_a_dockerfile_counts(tmp_path: Path) -> None:
    package = tmp_path / "pkg/more"
    package.mkdir(parents=True)
    (tmp_path / "pkg/Dockerfile").write_text("FROM scratch\nCOPY more /more\n")
    (package / "file").write_text("one")
    (package / "link").symlink_to("file")
    path = tmp_path / "s.yml"
    path.write_text("init: ['@pkg:./pkg']\n")
    changed = changes(path, tmp_path / "store")
    assert changed() == set()
    (package / "file").write_text("two")
    assert changed() == {f"{path}: @pkg:./pkg"}


def test_inputs_of_two_architectures_differ_only_in_what_was_changed(tmp_path: Path) -> None:
    """Shards of different architectures are merged: a note on a change must mean one."""
    image = tmp_path / "images/mine"
    image.mkdir(parents=True)
    (image / "build.yml").write_text(
        "files: [{path: a, source: common}, {path: b, source: '{arch}/own'}]\ndebs: ['d_{debian_arch}.deb', all.deb]\n"
    )
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    for arch, debian in names.items():
        (image / arch).mkdir()
        (image / arch / "own").write_text(arch)
        (image / f"d_{debian}.deb").write_bytes(Deb("d", arch=debian).of(entry("usr/a", b"")))
    spec = tmp_path / "s.yml"
    spec.write_text("init: ['@pkg:./images/mine']\n")

    def taken() -> dict[str, dict[str, str]]:
        (image / "common").write_text(text)
        (image / "all.deb").write_bytes(Deb("all", text, "all").of(entry("usr/b", b"")))
        return {arch: inputs(spec, tmp_path / "store", arch) for arch in names}

    text = "1"
    first = taken()
    shared = first["x86_64"].keys() & first["aarch64"].keys()
    assert shared == {str(path) for path in (spec, image / "build.yml", image / "common", image / "all.deb")}
    assert all(first["x86_64"][name] == first["aarch64"][name] for name in shared)
    assert str(image / "x86_64/own") in first["x86_64"] and str(image / "d_arm64.deb") in first["aarch64"]
    text = "2"
    second = taken()
    changed = {name for name in shared if first["x86_64"][name] != second["aarch64"][name]}
    assert changed == {str(image / "common"), str(image / "all.deb")}
    (image / "aarch64/own").unlink()
    assert taken()["aarch64"].keys() - second["aarch64"].keys() == {f"{image / 'build.yml'} for aarch64"}


def test_a_changed_profile_is_refused(stage: Stage, killed: Path) -> None:
    profile = stage.folder / "arch/fake.yml"
    text = profile.read_text()
    profile.write_text(text.replace("memory_mib: 128", "memory_mib: 129"))
    try:
        done = stage.run("matrix", "--resume", "reports/latest")
    finally:
        profile.write_text(text)
    assert (done.returncode, "changed since it began: profile fake" in done.stderr) == (2, True), done.stderr


def test_kernels_are_those_that_the_run_began_with(stage: Stage, killed: Path) -> None:
    """A lock that names another kernel than today's: the cells that are missing boot it."""
    before = {record.cell.machine for record in load_run(killed).records}
    lock = json.loads((killed / LOCK_FILE).read_text())
    (kernel,) = lock["kernels"].values()
    kernel["packages"][0]["sha256"] = "0" * 64
    kernel["packages"][0]["filename"] = "pool/main/l/linux/there-is-none.deb"
    (killed / LOCK_FILE).write_text(json.dumps(lock))
    done = stage.run("matrix", "--resume", "reports/latest", "--offline")
    assert done.returncode in {1, 3}, done.stdout + done.stderr
    for record in load_run(killed).records:
        assert (record.verdict.value == "infra-error") is (record.cell.machine not in before), record.judgement


def test_a_run_under_way_is_left_alone(stage: Stage) -> None:
    shutil.rmtree(stage.reports, ignore_errors=True)
    stage.go.unlink(missing_ok=True)
    process = stage.start("matrix", stage.matrix("lingers.1", more=""), "--jobs", "1")
    try:
        deadline = time.monotonic() + 60
        while not (stage.latest / STARTED_FILE).exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        done = stage.run("matrix", "--resume", "reports/latest")
        assert process.poll() is None, "the test came too late"
    finally:
        process.kill()
        process.wait(60)
    assert (done.returncode, "still under way" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("more", [("all.matrix.yml",), ("--arch", "fake"), ("--flaky", "1"), ("--qemu-args=-usb",)])
def test_what_a_run_keeps_from_its_beginning_is_not_to_be_given_again(stage: Stage, more: tuple[str, ...]) -> None:
    done = stage.run("matrix", *more, "--resume", "reports/latest")
    assert (done.returncode, "--resume cannot be combined with" in done.stderr) == (2, True), done.stderr


def test_a_run_that_does_not_say_what_it_was_asked_for(stage: Stage, tmp_path: Path) -> None:
    _, folder = write_run(tmp_path, green_records())
    done = stage.run("matrix", "--resume", str(folder))
    assert (done.returncode, "cannot be resumed: it has no request" in done.stderr) == (2, True), done.stderr


def test_neither_a_matrix_nor_a_run(stage: Stage) -> None:
    done = stage.run("matrix")
    assert (done.returncode, "name a matrix, or specs" in done.stderr) == (2, True), done.stderr


def test_a_run_with_links_makes_nothing_outside_of_it(stage: Stage, killed: Path, tmp_path: Path) -> None:
    """Wherever the link stands: for all cells, a spec's, an architecture's, a machine's, or for one cell."""
    missing = set(MACHINES) - {record.cell.machine for record in load_run(killed).records}
    parts = ("cells", "fake", "fake", missing.pop(), "6.1")
    for depth in range(len(parts)):
        with linked(killed.joinpath(*parts[: depth + 1]), tmp_path / "elsewhere"):
            before = sorted(tmp_path.rglob("*"))
            for command in (("matrix", "--resume"), ("report",)):
                done = stage.run(*command, "reports/latest")
                assert (done.returncode, "found a link" in done.stderr) == (2, True), (depth, done.stderr)
                assert sorted(tmp_path.rglob("*")) == before, depth


@contextmanager
def linked(path: Path, elsewhere: Path) -> Iterator[None]:
    """A link in a folder's place, for as long as the context lasts. The folder is where it leads to."""
    is_there = path.exists()
    if is_there:
        path.rename(elsewhere)
    else:
        elsewhere.mkdir()
    path.symlink_to(elsewhere)
    (elsewhere / "precious").write_text("x")
    yield
    (elsewhere / "precious").unlink()
    path.unlink()
    if is_there:
        elsewhere.rename(path)
    else:
        elsewhere.rmdir()


def test_kills_at_random_moments(stage: Stage, tmp_path: Path) -> None:
    setting = Setting(BOOTMATRIX, stage.folder, stage.environment())
    stage.go.touch()
    matrix = [stage.matrix(*MACHINES), "--jobs", "2"]
    start = time.monotonic()
    setting.run("matrix", *matrix, "--reports", str(tmp_path / "whole"))
    whole_s = time.monotonic() - start
    expected = verdicts(load_run(tmp_path / "whole/latest"))
    assert len(expected) == len(MACHINES)
    for number, moment_s in enumerate(moments(KILLS, whole_s, seed=4)):
        trial = try_kill(setting, matrix, tmp_path / f"{number}", expected, moment_s)
        assert trial.ok, trial


def test_an_orphan_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    monkeypatch.setattr("kills.ORPHAN_S", 0.2)
    with adopting():
        subprocess.run(["sh", "-c", "sleep 60 & exit"], check=True)
        _, orphans = wait_for_children()
    assert [name.split()[:2] for name in orphans] == [["sleep", "60"]]
