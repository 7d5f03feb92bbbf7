"""The files for CI systems: valid by their schemas, safe by an auditor, and each shell step run for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bootmatrix.runs.run_store import load_run
from forge_server import TOKEN, Forge, serve_forge
from stage import ROOT, Stage, set_up

ACTION = ROOT / "action.yml"
WORKFLOW = ROOT / ".github/workflows/matrix.yml"
OWN = ROOT / ".github/workflows/tests.yml"
MACOS = ROOT / ".github/workflows/macos.yml"
COMPONENT = ROOT / "templates/matrix/template.yml"
JENKINSFILE = ROOT / "ci/Jenkinsfile"
BIN = Path(sys.executable).parent


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / name, *arguments], capture_output=True, text=True, timeout=120, check=False)


def component(inputs: dict[str, str]) -> str:
    """The GitLab component as GitLab reads it: with its inputs put in."""
    _, text = COMPONENT.read_text(encoding="utf-8").split("\n---\n")
    return re.sub(r"\$\[\[ inputs\.([a-z-]+) \]\]", lambda match: inputs[match[1]], text)


INPUTS = {
    "repository": "https://example.org/b.git",
    "ref": "v1",
    "files": "all.matrix.yml",
    "arch": "",
    "kernel": "",
    "shards": "2",
    "merge-args": "",
    "announce": "status,issues",
}


def fits(schema: str, text: str, folder: Path) -> bool:
    file = folder / "file.yml"
    file.write_text(text, encoding="utf-8")
    transform = ("--data-transform", "gitlab-ci") if schema == "gitlab-ci" else ()
    return tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *transform, file).returncode == 0


@pytest.mark.parametrize(
    ("schema", "text", "mistake"),
    [
        ("github-actions", ACTION.read_text(), ("using: composite", "using: compost")),
        ("github-workflows", WORKFLOW.read_text(), ("runs-on:", "run-on:")),
        ("github-workflows", OWN.read_text(), ("runs-on:", "run-on:")),
        ("github-workflows", MACOS.read_text(), ("runs-on:", "run-on:")),
        ("gitlab-ci", component(INPUTS), ("parallel: 2", "parallel: many")),
    ],
    ids=["action", "workflow", "own-tests", "macos", "component"],
)
def test_files_fit_the_schemas_of_their_systems(
    schema: str, text: str, mistake: tuple[str, str], tmp_path: Path
) -> None:
    assert fits(schema, text, tmp_path)
    assert not fits(schema, text.replace(*mistake), tmp_path)


def test_the_documented_files_are_whole(tmp_path: Path) -> None:
    """As they are copied: by the schemas of their systems, and with inputs that there are."""
    text = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    action, workflow, component = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert fits("github-workflows", action, tmp_path) and fits("github-workflows", workflow, tmp_path)
    assert fits("gitlab-ci", component, tmp_path)
    (step,) = (step for step in yaml.safe_load(action)["jobs"]["boot"]["steps"] if "bootmatrix" in step["uses"])
    assert set(step["with"]) <= set(yaml.safe_load(ACTION.read_text(encoding="utf-8"))["inputs"])
    inputs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))[True]["workflow_call"]["inputs"]  # YAML 1.1's `on`
    given, needed = set(yaml.safe_load(workflow)["jobs"]["boot"]["with"]), {"repository", "ref", "files"}
    assert needed == {name for name, entry in inputs.items() if entry.get("required")} and needed <= given <= set(
        inputs
    )
    (include,) = yaml.safe_load(component)["include"]
    assert needed <= set(include["inputs"]) <= set(INPUTS)


def test_an_auditor_finds_nothing_in_the_github_files(tmp_path: Path) -> None:
    if not (BIN / "zizmor").exists():
        pytest.skip("zizmor has no wheel for this platform")
    audit = ("--offline", "--no-progress", "--no-config")
    done = tool("zizmor", *audit, ACTION, WORKFLOW, OWN, MACOS)
    assert done.returncode == 0, done.stdout + done.stderr
    bad = tmp_path / "action.yml"
    bad.write_text(ACTION.read_text().replace("'\"$ACTION_PATH/ci/run.sh\"'", "echo ${{ github.head_ref }}"))
    assert tool("zizmor", *audit, bad).returncode != 0


def test_the_component_declares_each_input_that_it_uses() -> None:
    head, text = COMPONENT.read_text(encoding="utf-8").split("\n---\n")
    used = set(re.findall(r"\$\[\[ inputs\.([a-z-]+) \]\]", text))
    assert used == set(yaml.safe_load(head)["spec"]["inputs"]) == set(INPUTS)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A project with a matrix of two cells, one of which fails, and a clean clone of bootmatrix beside its files."""
    made = set_up(tmp_path_factory.mktemp("project"), ("sound", "check_fails"))
    made.matrix("sound", "check_fails")
    clone = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(made.folder / "clone")]
    subprocess.run(clone, check=True, timeout=120)
    for name in ("ci", "action.yml", "templates", ".github"):  # as they are here, committed or not
        subprocess.run(["cp", "-r", ROOT / name, made.folder / "clone/"], check=True, timeout=60)
    yield made


def shell(stage: Stage, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step as a runner does."""
    env = {**stage.environment(), "BOOTMATRIX_HOME": str(BIN.parent), **variables}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
    return subprocess.run(command, cwd=stage.folder, env=env, capture_output=True, text=True, timeout=200, check=False)


def filled(text: str, known: dict[str, str]) -> str:
    """Put in the values of expressions, as a runner does."""
    return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: known[match[1]], text)


def applies(condition: str, known: dict[str, str]) -> bool:
    """Return whether a step runs when no earlier one failed: conditions are `always()` and names that are not empty."""
    parts = [part for part in condition.split(" && ") if part not in {"", "always()"}]
    return all(known.get(part.removesuffix(" != ''"), "") != "" for part in parts)


def outputs(stage: Stage) -> dict[str, str]:
    path = stage.folder / "output"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines)


def action_steps(stage: Stage, inputs: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield script and environment of each step; one that reads an output does so when it is asked for."""
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    known = {"github.action_path": str(stage.folder / "clone"), "github.token": TOKEN}
    values = {name: entry.get("default", "") for name, entry in action["inputs"].items()} | inputs
    known |= {f"inputs.{name}": filled(value, known) for name, value in values.items()}
    (stage.folder / "output").unlink(missing_ok=True)
    for step in action["runs"]["steps"]:
        known |= {f"steps.boot.outputs.{name}": value for name, value in outputs(stage).items()}
        if "run" in step and applies(step.get("if", ""), known):
            assert "${{" not in step["run"], "an expression in a script is a way in for others' text"
            yield step["run"], {name: filled(value, known) for name, value in step["env"].items()}


def workflow_runs(job: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"][job]["steps"]
    return [step for step in steps if "run" in step]


@pytest.fixture
def forge() -> Iterator[Forge]:
    with serve_forge() as server:
        yield server


def github_job(stage: Stage, forge: Forge) -> dict[str, str]:
    """The variables of a GitHub job for a push."""
    files = {"STEP_SUMMARY": "summary.md", "PATH": "path", "OUTPUT": "output"}
    job = {"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "me/project", "GITHUB_SHA": "a" * 40}
    job |= {"GITHUB_API_URL": forge.address, "GITHUB_RUN_ID": "12"}
    return job | {f"GITHUB_{name}": str(stage.folder / file) for name, file in files.items()}


def test_the_steps_of_the_action_and_of_the_workflow(stage: Stage, forge: Forge) -> None:
    github = github_job(stage, forge)
    for number in (1, 2):
        inputs = {"files": "all.matrix.yml", "shard": f"{number}/2", "announce": "status" if number == 2 else ""}
        shards = {"BOOTMATRIX_REPORTS": f"shards/{number}"}
        done = [shell(stage, text, **github, **env, **shards) for text, env in action_steps(stage, inputs)]
        assert done[0].returncode == 0 and done[0].stdout.startswith("bootmatrix "), done[0].stderr
        assert [one.stdout for one in done[2:]] == (["check run\n"] if number == 2 else [])
    assert len(forge.sent("POST", "/check-runs")) == 1
    assert sorted(path.name.split("-")[-2] for path in (stage.folder / "shards").glob("*/20*")) == ["1", "2"]
    (stage.folder / ".bootmatrix").symlink_to("clone")
    install, merge = workflow_runs("merge")
    assert shell(stage, install["run"].replace("x86_64", "fake"), **github).returncode == 0
    done_merge = shell(stage, merge["run"], **github, BOOTMATRIX_ARGS="--fail-on regression")
    assert done_merge.returncode == 1, done_merge.stderr
    annotations = [line for line in done_merge.stdout.splitlines() if line.startswith("::error ")]
    assert len(annotations) == 1
    place = re.match(r"::error file=(.*),line=(\d+),title=fail%3A fake/fake/check_fails/6.1::", annotations[0])
    assert place, annotations
    assert "annotations: {bootmatrix.check" in (stage.folder / "fake.yml").read_text().splitlines()[int(place[2]) - 1]
    assert (stage.folder / "summary.md").read_text().count("## ❌") >= 2
    assert (stage.folder / "path").read_text().startswith(str(BIN))
    (merged,) = (stage.folder / "reports").glob("20*-all-merged")
    assert outputs(stage)["run"] == merged.name
    known = {"inputs.announce": "status,issues", "needs.merge.outputs.run": merged.name, "github.token": TOKEN}
    _, announce = workflow_runs("announce")
    told = shell(
        stage, announce["run"], **github, **{name: filled(text, known) for name, text in announce["env"].items()}
    )
    assert (told.returncode, told.stdout) == (0, "check run\nissues: 1 opened, 0 updated, 0 closed\n"), told.stderr
    assert forge.sent("POST", "/check-runs")[-1]["conclusion"] == "failure"


def test_installing_takes_no_module_from_the_checkout(stage: Stage) -> None:
    checkout = stage.folder / "checkout"
    checkout.mkdir()
    for name in ("ensurepip.py", "venv.py", "re.py", "bootmatrix.py"):
        (checkout / name).write_text(f"open('owned-by-{name}', 'w').close()\n")
    done = shell(stage, f"cd checkout && {ROOT}/ci/install.sh {ROOT}/ci x86_64")
    assert done.returncode == 0, done.stderr
    assert not list(checkout.glob("owned-by-*"))


def test_a_job_without_a_run_of_its_own_tells_nothing(stage: Stage, forge: Forge) -> None:
    """The result of an earlier run, which a cache restores, is not that of this commit."""
    old = stage.folder / "reports" / "20260101T000000Z-all"
    old.mkdir(parents=True, exist_ok=True)
    (stage.folder / "reports" / "latest").unlink(missing_ok=True)
    (stage.folder / "reports" / "latest").symlink_to(old.name)
    inputs = {"files": "none.matrix.yml", "announce": "status"}
    done = [shell(stage, text, **github_job(stage, forge), **env) for text, env in action_steps(stage, inputs)]
    assert [one.returncode for one in done] == [0, 2] and "none.matrix.yml" in done[1].stderr
    told = shell(stage, "clone/ci/merge.sh none", **github_job(stage, forge), BOOTMATRIX_ANNOUNCE="status")
    assert told.returncode == 2 and not outputs(stage) and not forge.requests
    assert not (stage.folder / "reports" / "latest").is_symlink()  # its JUnit is not taken for this job's either


def test_the_scripts_of_the_component(stage: Stage, forge: Forge) -> None:
    jobs = yaml.safe_load(component({**INPUTS, "repository": str(stage.folder / "clone"), "ref": "main"}))
    variables = {name: str(value) for name, value in jobs[".bootmatrix"]["variables"].items()}
    skipped = {"BOOTMATRIX_CACHE", "BOOTMATRIX_HOME"}  # this machine's cache and program instead
    variables = {name: value for name, value in variables.items() if name not in skipped}
    (stage.folder / ".bootmatrix").unlink(missing_ok=True)
    subprocess.run(["rm", "-rf", stage.folder / "shards", stage.folder / "reports"], check=True, timeout=60)
    before = [
        line.replace("git clone", "cp -r clone .bootmatrix; : git clone")
        for line in jobs[".bootmatrix"]["before_script"]
    ]
    for number in (1, 2):
        script = "\n".join([*before, *jobs["bootmatrix-shard"]["script"]])
        done = shell(stage, script, **variables, CI_NODE_INDEX=str(number), CI_NODE_TOTAL="2")
        assert done.returncode in {0, 1}, done.stderr
    script = "\n".join([*before, *jobs["bootmatrix"]["script"]]).replace(" x86_64", " fake")
    variables |= {name: str(v) for name, v in jobs["bootmatrix"]["variables"].items()}
    gitlab = {"GITLAB_TOKEN": TOKEN, "CI_API_V4_URL": forge.address, "CI_PROJECT_ID": "3", "CI_COMMIT_SHA": "b" * 40}
    done = shell(stage, script, **variables, **gitlab)
    assert done.returncode == 1 and "fake/fake/check_fails/6.1" in done.stdout, done.stderr
    assert done.stdout.endswith("commit status\nissues: 1 opened, 0 updated, 0 closed\n")
    assert forge.sent("POST", "/statuses/" + "b" * 40)[0]["state"] == "failed"
    assert (stage.folder / jobs["bootmatrix"]["artifacts"]["reports"]["junit"]).is_file()


def test_a_project_brings_no_cache_to_the_component(tmp_path: Path) -> None:
    jobs = yaml.safe_load(component(INPUTS))
    (check,) = (line for line in jobs[".bootmatrix"]["before_script"] if ".cache" in line)
    (tmp_path / ".cache/bootmatrix-ci/bin").mkdir(parents=True)
    (tmp_path / ".cache/bootmatrix-ci/bin/bootmatrix").write_text("#!/bin/sh\n")
    git = ("git", "-C", str(tmp_path))
    subprocess.run((*git, "init", "--quiet"), check=True)
    command = ["sh", "-ec", check]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0, "restored by GitLab"
    subprocess.run((*git, "add", "--force", ".cache"), check=True)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "the project has files in .cache, which is for this job alone\n")


def test_the_steps_of_the_jenkinsfile(stage: Stage, forge: Forge) -> None:
    text = JENKINSFILE.read_text(encoding="utf-8")
    steps = re.findall(r"^\s+sh '(.*)'$", text, re.MULTILINE)
    assert len(steps) == 8 and text.count("{") == text.count("}")
    assert set(re.search(r"values (.*)", text)[1].replace("'", "").split(", ")) == {"1", "2", "3", "4"}  # type: ignore[index]
    subprocess.run(["rm", "-rf", stage.folder / "reports"], check=True, timeout=60)
    chat = forge.address.replace("http", "json") + f"/{TOKEN}"
    variables = {"BOOTMATRIX_FILES": "all.matrix.yml", "SHARD": "1", "BOOTMATRIX_NOTIFY": chat}
    first, rest = steps[:4], steps[4:]
    done = [shell(stage, _local(step), **variables) for step in first]
    statuses = [one.returncode for one in done]
    assert statuses[:3] == [0, 0, 0] and statuses[3] in {0, 1}
    assert not forge.requests, "a shard is told to nobody"
    subprocess.run(["mv", stage.folder / "shards", stage.folder / "stashed"], check=True, timeout=60)
    assert shell(stage, rest[0]).returncode == 0
    subprocess.run(["mv", stage.folder / "stashed", stage.folder / "shards"], check=True, timeout=60)
    variables |= {"BOOTMATRIX_ANNOUNCE": "status", "GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": forge.address}
    variables |= {"GITHUB_REPOSITORY": "o/r", "GIT_COMMIT": "b" * 40, "BUILD_URL": "https://jenkins.example/job/7/"}
    done = [shell(stage, _local(step), **variables) for step in ("rm -rf .bootmatrix", *rest[1:])]
    statuses = [one.returncode for one in done]
    assert statuses[:3] == [0, 0, 0] and statuses[3] in {1, 3}, "three of four shards are missing"
    assert "bootmatrix: not notified: json://…: refused or unreachable" in done[3].stderr
    chats = [content["title"] for _, path, content in forge.requests if path == f"/{TOKEN}"]
    assert chats == ["all: 1 of 2 cells as expected; 1 not finished"], "told once"
    order = [text.index(step) for step in ("'rm -rf .bootmatrix shards reports'", "copyArtifacts", "ci/merge.sh")]
    assert order == sorted(order)
    (check,) = forge.sent("POST", "/check-runs")
    assert (check["head_sha"], check["details_url"]) == ("b" * 40, "https://jenkins.example/job/7/")


def test_run_tells_its_verdict(stage: Stage, forge: Forge) -> None:
    chat = forge.address.replace("http", "json")
    done = stage.run("run", "fake.yml", "--arch", "fake/sound", "--notify", chat)
    assert done.returncode == 0, done.stderr
    ((_, _, post),) = forge.requests
    assert (post["title"], post["type"]) == ("fake.yml on fake/sound, kernel 6.1: pass", "success")
    assert stage.run("matrix", "all.matrix.yml", "--notify", "nosuch://x").returncode == 2


def _local(step: str) -> str:
    return step.replace("git clone", "cp -r clone .bootmatrix; : git clone").replace(" x86_64", " fake")


def test_a_files_name_is_no_option(tmp_path: Path) -> None:
    """A pattern of files may fit any name that somebody put into the project."""
    (tmp_path / "home/bin").mkdir(parents=True)
    (tmp_path / "home/bin/bootmatrix").symlink_to(BIN / "bootmatrix")
    for name in ("a.yml", "--nix.yml"):
        (tmp_path / name).write_text("onboot: [{name: a, image: x}]\n")
    done = run_script(tmp_path, {"FILES": "*.yml", "ARCHITECTURES": "x86_64", "ARGS": "--only nix"})
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "--only 'nix' matches no cell")


def run_script(folder: Path, settings: dict[str, str], limit_s: int = 60) -> subprocess.CompletedProcess[str]:
    """Run ci/run.sh in a folder that has `home/bin`."""
    env = {**os.environ, **{f"BOOTMATRIX_{name}": value for name, value in settings.items()}}
    env["BOOTMATRIX_HOME"] = str(folder / "home")
    command = [ROOT / "ci/run.sh"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=limit_s, check=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "nothing to run: set BOOTMATRIX_FILES or BOOTMATRIX_TRY"),
        ({"FILES": "a.yml", "TRY": "-- true"}, "what is tried has no files"),
        ({"TRY": "-- true", "SHARD": "1/2"}, "what is tried has no files of a matrix and no shards"),
        ({"TRY": "./none/tool -- true", "ARCHITECTURES": "x86_64"}, "./none/tool"),
        ({"TRY": "-- true", "ANNOUNCE": "status,isues"}, "unknown word 'isues'; known: status, comment, issues"),
    ],
)
def test_a_job_that_cannot_be_is_told(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    (tmp_path / "home/bin").mkdir(parents=True)
    (tmp_path / "home/bin/bootmatrix").symlink_to(BIN / "bootmatrix")
    done = run_script(tmp_path, settings)
    assert done.returncode == 2 and words in done.stderr.splitlines()[0], done.stderr
    assert not done.stdout and not (tmp_path / "reports").exists()


@pytest.mark.boots
def test_a_job_tries_something(tmp_path: Path) -> None:
    (tmp_path / "home/bin").mkdir(parents=True)
    (tmp_path / "home/bin/bootmatrix").symlink_to(BIN / "bootmatrix")
    settings = {"TRY": "-- busybox uname -m", "ARCHITECTURES": "x86_64", "KERNEL": "6.1", "ARGS": "--image busybox"}
    done = run_script(tmp_path, settings, 240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert load_run(tmp_path / "reports/latest").records[0].verdict == "pass"


@pytest.mark.long
@pytest.mark.skipif(not all(map(shutil.which, ("node", "npm", "java"))), reason="needs Node, npm and Java")
def test_linters_of_the_ci_files_find_faults(tmp_path: Path) -> None:
    for name in (".ci", ".github", "ci"):
        shutil.copytree(ROOT / name, tmp_path / name)
    lint = [tmp_path / ".ci/lint-ci.sh"]
    assert subprocess.run(lint, timeout=600, check=False).returncode == 0
    for file, old, new in ((WORKFLOW, "needs: shard", "needs: shards"), (JENKINSFILE, "agent none", "agent none {")):
        path = tmp_path / file.relative_to(ROOT)
        path.write_text(path.read_text().replace(old, new, 1))
    done = subprocess.run(lint, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1 and "shards" in done.stdout and "Jenkinsfile" in done.stdout
