"""Files that `bootmatrix new` and `completion` write, and the defaults of a project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from bootmatrix.cli.project_defaults import find_table
from bootmatrix.errors import InputError
from bootmatrix.load.recipe import find_recipe
from bootmatrix.scaffold.examples import write_example
from bootmatrix.scaffold.thing import find_thing
from stage import ROOT

PROGRAM = Path(sys.executable).with_name("bootmatrix")


def tool(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_an_example_is_valid_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = tool(tmp_path, "new", "mine")
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "mine"
    files = [folder / name for name in ("mine.yml", "mine.matrix.yml", "images/mine/build.yml")]
    for file, kind in zip(files, ("spec", "matrix", "image"), strict=True):
        line = file.read_text(encoding="utf-8").splitlines()[0]
        schema = (file.parent / line.partition("$schema=")[2]).resolve()
        assert schema == folder / f"{kind}.schema.json"
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert not list(Draft202012Validator(yaml.safe_load(schema.read_text(encoding="utf-8"))).iter_errors(data))
    done = tool(tmp_path, "validate", *map(str, files))
    assert (done.returncode, done.stderr) == (0, "")
    done = tool(tmp_path, "plan", "mine/mine.matrix.yml")
    assert "mine/x86_64/6.1" in done.stdout
    workflow = yaml.safe_load((folder / "ci/github.yml").read_text(encoding="utf-8"))
    action = workflow["jobs"]["boot"]["steps"][1]["with"]
    (component,) = yaml.safe_load((folder / "ci/gitlab.yml").read_text(encoding="utf-8"))["include"]
    for inputs in (action, component["inputs"]):
        done = tool(tmp_path, "plan", inputs["files"], "--arch", inputs["arch"])
        assert "mine/x86_64/6.1" in done.stdout
    assert action.keys() <= yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"].keys()
    head = next(yaml.safe_load_all((ROOT / "templates/matrix/template.yml").read_text(encoding="utf-8")))
    assert component["inputs"].keys() <= head["spec"]["inputs"].keys()


@pytest.mark.boots
def test_an_example_passes_without_a_note(tmp_path: Path) -> None:
    tool(tmp_path, "new", "mine")
    done = tool(tmp_path, "matrix", "mine/mine.matrix.yml", "--arch", "x86_64")
    assert (done.returncode, "note:" in done.stdout + done.stderr) == (0, False), done


def test_an_example_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/x").write_text("x", encoding="utf-8")
    done = tool(tmp_path, "new", "mine")
    assert (done.returncode, done.stdout) == (2, "")
    assert "exists, and is not an empty folder" in done.stderr
    with pytest.raises(InputError, match="cannot be the name of a spec"):
        write_example(tmp_path / "a b", ["s390x"])


def test_an_example_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("/proc/mine", "file/mine"):
        done = tool(tmp_path, "new", folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{folder}: cannot be written: ")


def test_the_next_commands_can_be_pasted(tmp_path: Path) -> None:
    done = tool(tmp_path, "new", "a folder/x")
    assert done.stdout.endswith("bootmatrix matrix 'a folder/x/x.matrix.yml'\n"), done
    words = ("--save", "an other", "--arch", "x86_64", "--image", "busybox", "--offline", "--cache", "none")
    done = tool(tmp_path, "try", *words, "--", "x")
    assert done.stdout.startswith(
        "Saved: an other/try.matrix.yml. To run it: bootmatrix matrix 'an other/try.matrix.yml'\n"
    )
    with pytest.raises(InputError) as caught:
        find_thing([str(tmp_path / "a folder/x/x.yml")])
    assert caught.value.hint == f"To boot a spec or a matrix: bootmatrix matrix '{tmp_path}/a folder/x/x.yml'"


def test_shipped_images_have_a_name_everywhere(tmp_path: Path) -> None:
    assert find_recipe("bootmatrix/init", tmp_path / "x.yml").parent.name == "init"
    with pytest.raises(InputError, match="Did you mean 'bootmatrix/busybox'"):
        find_recipe("bootmatrix/busibox", tmp_path / "x.yml")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(tmp_path: Path, shell: str) -> None:
    done = tool(tmp_path, "completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--page-size" in done.stdout or "page-size" in done.stdout
    if shell == "bash":
        script = tmp_path / "script"
        script.write_text(done.stdout, encoding="utf-8")
        ask = f'. {script}; COMP_WORDS=(bootmatrix tr); COMP_CWORD=1; COMP_LINE="bootmatrix tr"; '
        ask += (
            'command="$(complete -p bootmatrix | sed "s/.*-F \\([^ ]*\\).*/\\1/")"; $command bootmatrix tr bootmatrix; '
        )
        found = subprocess.run(
            ["bash", "-c", f'{ask} echo "${{COMPREPLY[@]}}"'], capture_output=True, text=True, check=False, timeout=20
        )
        assert found.stdout.split() == ["try"]


@pytest.mark.parametrize(
    "words",
    [
        *(("validate",), ("matrix",), ("run",), ("try",), ("exec", "--arch", "x", "--"), ("serve", "--reports")),
        *(("run", "x", "--locked"), ("cp",), ("report",), ("matrix", "--arch", "x")),
    ],
    ids=" ".join,
)
def test_completion_finds_files(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "mine").mkdir()
    assert completed(tmp_path, *words, "mi") == ["mine"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("try", ".", "--arch", "s39"), ["s390x", "s390x/ccw-virtio"]),
        (("exec", "--arch", "aarch64/raspi3"), ["aarch64/raspi3b"]),
        (("matrix", "x", "--arch", "x86_64,s390x/"), ["x86_64,s390x/ccw-virtio"]),
        (("matrix", "x", "--kernel", "6.1,7.2-6"), ["6.1,7.2-64k"]),
        (("run", "x", "--machine", "raspi3"), ["raspi3b"]),
    ],
)
def test_completion_finds_names(tmp_path: Path, words: tuple[str, ...], expected: list[str]) -> None:
    assert completed(tmp_path, *words) == expected


def completed(folder: Path, *words: str) -> list[str]:
    """Return the words that bash offers instead of the last one."""
    script = folder / "script"
    script.write_text(tool(folder, "completion", "bash").stdout, encoding="utf-8")
    ask = f". {script}; COMP_WORDS=(bootmatrix {' '.join(words)}); COMP_CWORD={len(words)}; _shtab_bootmatrix; "
    found = subprocess.run(
        ["bash", "-c", f'{ask} echo "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        timeout=20,
    )
    return found.stdout.split()


def test_a_project_has_defaults(tmp_path: Path) -> None:
    table = '[tool.bootmatrix]\narch = ["s390x", "aarch64"]\nkernel = "7.2"\nreports = "out/reports"\n'
    table += f'cache = "{tmp_path.parent}/cache"\n'
    (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
    (tmp_path / "sub").mkdir()
    done = tool(tmp_path / "sub", "plan", "hello")
    assert done.stdout.splitlines()[:2] == ["hello/s390x/7.2", "hello/aarch64/7.2"]
    done = tool(tmp_path, "plan", "hello", "--arch", "x86_64", "--kernel", "6.1")
    assert done.stdout.splitlines()[0] == "hello/x86_64/6.1"
    matrix = tmp_path / "my.matrix.yml"
    matrix.write_text('{specs: [hello], arch: [armv7], kernel: ["6.1"]}', encoding="utf-8")
    assert tool(tmp_path, "plan", "my.matrix.yml").stdout.splitlines()[0] == "hello/armv7/6.1"
    assert "no such run" in tool(tmp_path, "judge", "latest").stderr or not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ('arch = ["x87"]', (), "'arch' in [tool.bootmatrix]: unknown architecture 'x87'"),
        ('arch = ["x86_64/vax"]', (), "'arch' in [tool.bootmatrix]: x86_64 has no machine 'vax'"),
        ('kernel = ["1.0"]', ("--arch", "s390x"), "'kernel' in [tool.bootmatrix]: none of the selected architectures"),
        ('arch = ["x86_64"]', ("--arch", "x87"), ""),
    ],
)
@pytest.mark.parametrize("command", [("plan", "hello"), ("try", "redis:7")])
def test_an_unknown_name_of_the_table(
    tmp_path: Path, command: tuple[str, ...], table: str, options: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(f"[tool.bootmatrix]\n{table}\n", encoding="utf-8")
    done = tool(tmp_path, *command, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{file}: {message}" if message else "unknown architecture 'x87'"), done.stderr


@pytest.mark.parametrize(("owner", "mode", "counts"), [(1234, 0o777, False), (1234, 0o755, True), (0, 0o777, True)])
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_a_table_in_a_folder_of_everybody(tmp_path: Path, owner: int, mode: int, counts: bool) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool.bootmatrix]\narch = 'x86_64'\n", encoding="utf-8")
    (tmp_path / "mine").mkdir()
    os.chown(file, owner, owner)
    tmp_path.chmod(mode)
    _, table = find_table(tmp_path / "mine")
    assert bool(table) is counts
    assert find_table(tmp_path)[1], "the current folder is chosen by whoever starts us"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.bootmatrix]\narchs = []\n", "unknown key 'archs' in [tool.bootmatrix]"),
        ("[tool.bootmatrix]\narch = []\n", "'arch' in [tool.bootmatrix] must be a list of names"),
        ("[tool.bootmatrix]\nkernel = 6.1\n", 'such as kernel = ["6.1"]'),
        ("[tool.bootmatrix]\ncache = 3\n", "'cache' in [tool.bootmatrix] must be a folder"),
        ('[tool.bootmatrix]\ncache = ".cache"\n', "'cache' in [tool.bootmatrix] must be an absolute path outside"),
        ('[tool.bootmatrix]\ncache = "../cache"\n', "'cache' in [tool.bootmatrix] must be an absolute path outside"),
        ('[tool.bootmatrix]\ncache = "{here}/x"\n', "'cache' in [tool.bootmatrix] must be an absolute path outside"),
        ('[tool.bootmatrix]\ncache = "{here}/../home"\n', "home has files, and is not a cache"),
        ('[tool.bootmatrix]\nreports = "../x"\n', "'reports' in [tool.bootmatrix] must be in "),
        ('[tool.bootmatrix]\nreports = "~/x"\n', "'reports' in [tool.bootmatrix] must be in "),
        ("[tool]\nbootmatrix = 3\n", "[tool.bootmatrix] must be a table"),
        ("[tool.bootmatrix\n", "cannot be read"),
    ],
)
def test_a_table_that_is_invalid(tmp_path: Path, text: str, message: str) -> None:
    mine, here = tmp_path / "home/temp/thesis.txt", tmp_path / "project"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious", encoding="utf-8")
    here.mkdir()
    (here / "pyproject.toml").write_text(text.replace("{here}", str(here)), encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if name != "BOOTMATRIX_CACHE"}
    done = subprocess.run(
        [PROGRAM, "try", "--", "true"], cwd=here, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert mine.exists()
