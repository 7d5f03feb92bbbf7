"""`bisect --tree`: git chooses commits of a real repository, bootmatrix tests them, and the tree is left as it was."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from bootmatrix.bisect.commits import CommitSearch
from bootmatrix.bisect.git import Commit, GitTree
from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Bisection, KernelSource, Step, Verdict
from bootmatrix.progress import NullObserver
from bootmatrix.report.bisection import conclusion
from bootmatrix.source.archive import open_archive
from bootmatrix.store import Store, default_cache
from command_line import Tool, refused

pytest_plugins = ("command_line",)

PASS, FAIL, PANIC, BUILD = Verdict.PASS, Verdict.FAIL, Verdict.PANIC, Verdict.BUILD_ERROR
PROFILES = load_profiles([CHECKOUT / "arch"])
WHO = ("-c", "user.name=t", "-c", "user.email=t@t")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *WHO, *words], cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A tree of eight commits; `number` holds theirs."""
    folder = tmp_path / "tree"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number in range(8):
        (folder / "number").write_text(str(number))
        git(folder, "add", "number")
        git(folder, "commit", "-q", "-m", f"commit {number}")
    return folder


def search(
    folder: Path,
    truth: Callable[[int], Verdict],
    good: str = "HEAD~7",
    bad: str = "HEAD",
    match: str = "",
    most: int = 99,
    image: Callable[[int], str] = str,
) -> tuple[Bisection, str]:
    """Search in a world where the commit with a number has this verdict; the result, and git's log."""
    tree = GitTree(folder)

    async def test(commit: Commit) -> Step:
        nonlocal most
        most -= 1
        if most < 0:
            raise KeyboardInterrupt
        number = int((folder / "number").read_text())
        verdict = truth(number)
        return Step(
            release=commit.name,
            version=commit.subject,
            suite="",
            cell="c",
            verdict=verdict,
            reason=f"it is {verdict}",
            image=image(number),
        )

    with tree.bisect(tree.commit(good), tree.commit(bad)) as bisect:
        found = CommitSearch(bisect, "s", "a", match)
        with suppress(KeyboardInterrupt):
            anyio.run(found.run, test)
        return found.state(), bisect.log()


@pytest.mark.parametrize("first", range(1, 8))
def test_the_first_bad_commit(repository: Path, first: int) -> None:
    state, log = search(repository, lambda number: FAIL if number >= first else PASS)
    assert [step.version for step in state.suspects()] == [f"commit {first}"]
    assert conclusion(state).endswith(f"(commit {first}): pass before, fail from there on")
    assert state.problem() == ""
    assert sum(step.verdict is not None for step in state.steps) <= 5
    assert git(repository, "symbolic-ref", "--short", "HEAD") == "main"
    assert f"# first after commit: [{git(repository, 'rev-parse', f'HEAD~{7 - first}')}]" in log


def test_the_commit_with_the_fix(repository: Path) -> None:
    state, _ = search(repository, lambda number: PASS if number >= 5 else (FAIL, PANIC)[number % 2], "main", "main~7")
    assert [step.version for step in state.suspects()] == ["commit 5"]
    assert conclusion(state).endswith("(commit 5): fail before, pass from there on")


def test_commits_that_cannot_be_built_are_skipped(repository: Path) -> None:
    state, _ = search(repository, lambda number: BUILD if number == 3 else FAIL if number >= 5 else PASS)
    assert [step.version for step in state.suspects()] == ["commit 5"]
    state, _ = search(repository, lambda number: BUILD if 2 <= number <= 4 else FAIL if number >= 5 else PASS)
    assert {step.version for step in state.suspects()} == {f"commit {number}" for number in (2, 3, 4, 5)}
    assert conclusion(state).endswith("the commits in between cannot be built or judged")


def test_another_fault_is_not_blamed(repository: Path) -> None:
    state, _ = search(repository, lambda number: PANIC if number >= 6 else FAIL if number >= 4 else PASS, match="panic")
    assert {step.version for step in state.suspects()} == {"commit 4", "commit 5", "commit 6"}
    state, _ = search(repository, lambda number: FAIL if number >= 4 else PASS, match="panic")
    assert state.problem().endswith("has another fault: fail: it is fail")
    assert state.suspects() == ()


def test_a_subject_that_pretends_to_be_the_answer(repository: Path) -> None:
    forged = f"harmless\r# first after commit: [{git(repository, 'rev-parse', 'HEAD~6')}] x\x1b[2K"
    git(repository, "commit", "-q", "--allow-empty", "--cleanup=verbatim", "-m", forged)
    (repository / "number").write_text("9")
    git(repository, "commit", "-q", "-a", "-m", "commit 9")
    state, _ = search(repository, lambda number: FAIL if number >= 9 else PASS, "HEAD~8")
    assert [step.version for step in state.suspects()] == ["commit 9"]
    (subject,) = (step.version for step in state.steps if step.version.startswith("harmless"))
    assert subject.isprintable()


def test_builds_that_made_the_same_kernel(repository: Path) -> None:
    state, _ = search(repository, lambda number: FAIL if number >= 5 else PASS, image=lambda number: f"{number // 2}")
    old, new = (git(repository, "rev-parse", f"main~{7 - number}")[:12] for number in (4, 5))
    assert {old, new} <= {step.release for step in state.steps}
    assert re.search(
        "the builds of [0-9a-f]+ and [0-9a-f]+ made the same kernel, and once (pass|fail), ", conclusion(state)
    )
    state, _ = search(repository, lambda number: FAIL if number >= 5 else PASS, image=lambda number: f"{number >= 5}")
    assert conclusion(state).endswith("fail from there on (its build made the same kernel as that of " + _name(state))
    state, _ = search(repository, lambda _: PASS, image=lambda _: "one")
    assert conclusion(state).startswith("No answer: the builds of ")
    state, _ = search(repository, lambda number: FAIL if number >= 5 else PASS)
    assert "same kernel" not in conclusion(state)


def _name(state: Bisection) -> str:
    return f"{state.steps[-1].release})"


@pytest.mark.parametrize(
    ("truth", "problem"),
    [
        (lambda _: PASS, "the good and the bad commit have the same verdict: pass"),
        (lambda number: BUILD if number == 0 else FAIL, "cannot be judged: build-error: it is build-error"),
        (lambda number: BUILD if number == 7 else PASS, "cannot be judged: build-error: it is build-error"),
    ],
)
def test_ends_between_which_there_is_nothing_to_find(
    repository: Path, truth: Callable[[int], Verdict], problem: str
) -> None:
    state, _ = search(repository, truth)
    assert state.problem().endswith(problem)
    assert conclusion(state).startswith("No answer: ")


@pytest.mark.parametrize(("most", "words"), [(0, "not booted"), (1, "not booted"), (3, "interrupted, with 4 commits")])
def test_an_interrupted_search_blames_nobody(repository: Path, most: int, words: str) -> None:
    state, log = search(repository, lambda number: FAIL if number >= 5 else PASS, most=most)
    assert words in conclusion(state)
    assert state.suspects() == ()
    assert git(repository, "symbolic-ref", "--short", "HEAD") == "main"
    Path(repository.parent, "log").write_text(log)
    git(repository, "bisect", "replay", "../log")  # git takes it up again


def test_a_merge_base_with_the_fault(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "side", "main~4")
    (repository / "number").write_text("100")
    git(repository, "commit", "-q", "-am", "a fix on a branch")
    state, _ = search(repository, lambda number: PASS if number == 100 else FAIL, "side", "main")
    assert state.suspects() == ()
    base = git(repository, "rev-parse", "main~4")[:12]
    assert conclusion(state).startswith(f"No answer: their merge base {base} has the fault too")


def test_what_would_be_lost_is_refused(repository: Path) -> None:
    (repository / "number").write_text("mine")
    with pytest.raises(InputError, match="has changes that are not committed: M number"):
        search(repository, lambda _: PASS)
    git(repository, "checkout", "-q", "number")
    git(repository, "bisect", "start")
    with pytest.raises(InputError, match="a git bisect is under way"):
        search(repository, lambda _: PASS)


def test_bad_input(tool: Tool, repository: Path, tmp_path: Path) -> None:
    def ask(*words: str, good: str = "main~1", tree: Path = repository) -> subprocess.CompletedProcess[str]:
        return tool(
            "bisect", "hello", "--arch", "x86_64", f"--good={good}", "--bad", "main", "--tree", str(tree), *words
        )

    refused(ask(), "--tree needs --build")
    refused(ask("--build", "true", "--kernel", "6.1"), "--kernel and --distro name kernels of the archive")
    refused(ask("--build", "true", good="nothing"), "has no commit 'nothing'")
    refused(ask("--build", "true", good="main"), "main and main are the same commit")
    refused(ask("--build", "true", good="--output=x"), "has no commit '--output=x'")
    refused(ask("--build", "true", tree=tmp_path), "not a git work tree")
    refused(ask("--build", "true", tree=tmp_path / "no"), "no such folder")
    archive = ("--good", "6.1", "--bad", "6.12", "--match", "panic")
    refused(tool("bisect", "hello", "--arch", "x86_64", *archive), "--build, --built and --match need --tree")


def test_builds_that_fail_end_as_ours(tool: Tool, repository: Path) -> None:
    words = ("--good", "main~7", "--bad", "main", "--tree", str(repository), "--build", "echo says; exit 7")
    done = tool("bisect", "hello", "--arch", "x86_64", *words)
    assert done.returncode == 3
    assert "--build: status 7" in " ".join(done.stdout.split())
    assert [file.read_text() for file in Path("reports/latest/builds").iterdir()] == ["says\n"]
    assert git(repository, "symbolic-ref", "--short", "HEAD") == "main"


SPEC = """
init: ["@pkg:./images/init", "@pkg:./images/crun"]
onboot:
  - name: release
    image: "@pkg:./images/busybox"
    command: [/bin/sh, -c, 'case $(uname -r) in 6.1.*) ;; *) echo "this is $(uname -r)"; exit 1 ;; esac']
"""


@pytest.mark.boots
@pytest.mark.long
def test_real_kernels(tool: Tool, repository: Path, tmp_path: Path) -> None:
    """Two commits, whose builds make the packages of two kernels."""
    archive = open_archive(Store(default_cache()), offline=False, lock=None, address=None, progress=NullObserver())
    for number, name in ((6, "6.1"), (7, "6.12")):
        source = PROFILES["aarch64"].kernels[name]
        assert isinstance(source, KernelSource)
        kernel = archive.kernel(name, source, PROFILES["aarch64"].kernel_architecture(source))
        shutil.copy(archive.fetch(kernel.packages[0]), tmp_path / f"{number}.deb")
    shutil.copytree(CHECKOUT / "specs/images", "images")
    Path("release.yml").write_text(SPEC, encoding="utf-8")
    words = ("--tree", str(repository), "--build", f"cp {tmp_path}/$(cat number).deb it.deb", "--built", "it.deb")
    done = tool("bisect", "release.yml", "--arch", "aarch64", "--good", "main~1", "--bad", "main", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(commit 7): pass before, fail from there on" in " ".join(done.stdout.split())
    page = Path("reports/latest/bisect.html").read_text(encoding="utf-8")
    assert "this is 6.12" in page
