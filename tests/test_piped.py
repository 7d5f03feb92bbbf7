"""Specs that come by a pipe or on the standard input are read as files in the current folder."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from bootmatrix.fsio import write_named
from stage import Stage, set_up


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return set_up(tmp_path_factory.mktemp("piped"), ("sound",))


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        ("validate", "", "- <fake.yml"),
        ("plan", "--arch fake", "/dev/stdin <fake.yml"),
        ("plan", "--arch fake", "<(cat fake.yml)"),
        ("plan", "--arch fake", "/dev/fd/5 5< <(cat fake.yml)"),
        ("matrix", "--arch fake", "- < <(cat fake.yml)"),
        ("run", "--arch fake", "- <fake.yml"),
        ("build", "--arch fake -o x", "- <fake.yml"),
        ("cost", "--hour 1", "- <fake.yml"),
    ],
)
def test_a_spec_comes_by_a_pipe(stage: Stage, command: str, more: str, words: str) -> None:
    line = f"{shlex.join(stage.command(command))} {words.partition(' ')[0] if words[0] != '<' else words} {more}"
    line += f" {words.partition(' ')[2]}" if words[0] != "<" else ""
    done = stage.run_program("bash", "-c", line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(Path(stage.folder).glob("stdin*")), "nothing is left"


def test_what_is_wrong_in_it_is_said_with_its_line(stage: Stage) -> None:
    done = stage.run("validate", "-", text="init: []\nservcies: []\n")
    assert done.returncode == 2
    assert "stdin.yml:2: unknown key 'servcies'" in done.stderr


def test_a_named_pipe_is_read_once(stage: Stage) -> None:
    os.mkfifo(stage.folder / "pipe")
    line = f"cat fake.yml >pipe & timeout 60 {shlex.join(stage.command('plan'))} pipe --arch fake"
    done = stage.run_program("bash", "-c", line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "input-pipe/fake" in done.stdout


def test_a_matrix_comes_by_a_pipe(stage: Stage) -> None:
    text = "# mine\nspecs: [fake.yml]\narch: [fake]\nkernel: ['6.1']\n"
    done = stage.run("plan", "-", text=text)
    assert (done.returncode, done.stdout.split("\n")[0]) == (0, "fake/fake/6.1"), done.stderr
    done = stage.run("validate", "/dev/stdin", text=text + "kernle: []\n")
    assert "stdin.matrix.yml:5: unknown key 'kernle'" in done.stderr


def test_an_output_below_a_file(stage: Stage) -> None:
    done = stage.run("build", "fake.yml", "--arch", "fake", "-o", "fake.yml/x")
    assert (done.returncode, "fake.yml is not a folder" in done.stderr) == (2, True), done.stderr


def test_a_part_of_a_merged_spec_comes_by_a_pipe(stage: Stage) -> None:
    done = stage.run("plan", "fake.yml+-", "--arch", "fake", text="onshutdown: []\n")
    assert done.returncode == 0, done.stderr
    assert "fake+stdin/fake" in done.stdout


def test_output_goes_where_it_is_wanted(tmp_path: Path) -> None:
    """Nothing but a regular file is ever replaced: as root, that would take away a device."""
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        write_named(tmp_path / "pipe", b"words")
        assert reader.communicate(timeout=60)[0] == b"words"
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    write_named(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    with (tmp_path / "open").open("wb") as file:
        file.write(b"first ")
        file.flush()
        write_named(Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"), b"second")
    assert (tmp_path / "open").read_bytes() == b"first second"
    with pytest.raises(OSError, match=r"Is a directory: '.*'"):
        write_named(tmp_path, b"words")
    with pytest.raises(OSError, match=r"No such file or directory: '[^.]*/no/file'"):
        write_named(tmp_path / "no/file", b"words")


@pytest.mark.parametrize("words", ["report latest --format csv -o -", "report latest --format csv -o >(cat)"])
def test_a_form_goes_to_the_standard_output(stage: Stage, words: str) -> None:
    if not stage.reports.exists():
        assert stage.run("matrix", "fake.yml", "--arch", "fake").returncode == 0
    command, _, more = words.partition(" ")
    done = stage.run_program("bash", "-c", f"{shlex.join(stage.command(command))} {more}; wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ",fake,sound,6.1,cold,pass," in done.stdout
    assert not (stage.folder / "-").exists()


def test_no_file_is_made_beside_a_device(stage: Stage) -> None:
    done = stage.run("build", "fake.yml", "--arch", "fake", "-o", "/dev/stdout")
    assert done.returncode == 2
    assert "'-o -' writes to the standard output" in done.stderr
