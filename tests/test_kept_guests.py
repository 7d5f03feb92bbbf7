"""Commands in guests, and kept guests, that are interrupted or killed: nothing of them is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from bootmatrix.progress import LineObserver
from bootmatrix.store import Store, default_cache
from bootmatrix.workspace.kept_answer import Answer, read_reply
from kills import adopting

pytestmark = pytest.mark.boots
TOOL = Path(sys.executable).with_name("bootmatrix")
LIMIT_S = 300
GUEST = ("--arch", "x86_64", "--image", "busybox", "--memory", "512M")
KEPT = ("--keep-alive", "10m")
SHELL = ("/bin/sh", "-c")
ENDLESS = "trap : INT; echo begun; while :; do sleep 1; done"
"""A command that does not end by Ctrl-C."""


class Host:
    """Processes of bootmatrix, with folders of their own for kept guests and temporary files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder)}

    def start(self, *words: str, cwd: Path | None = None, stdin: str = os.devnull) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [str(TOOL), *words]
        with Path(stdin).open("rb") as file:
            place = cwd or self.folder
            return subprocess.Popen(command, env=self.env, text=True, cwd=place, stdin=file, stdout=pipe, stderr=pipe)

    def run(self, *words: str, cwd: Path | None = None, stdin: str = os.devnull) -> tuple[int, str, str]:
        process = self.start(*words, cwd=cwd or self.folder, stdin=stdin)
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err

    def sh(self, text: str, *options: str) -> tuple[int, str, str]:
        return self.run("exec", *GUEST, *options, "--no-tree", "--", "/bin/sh", "-c", text)

    def begin(self, text: str, *options: str) -> subprocess.Popen[str]:
        """Start a command that prints `begun`, and wait for that."""
        process = self.start("exec", *GUEST, *options, "--no-tree", "--", "/bin/sh", "-c", text)
        assert process.stdout
        assert process.stdout.readline() == "begun\n", process.communicate()
        return process

    def commands(self) -> str:
        """Return the command lines in the kept guest."""
        return self.sh("cat /proc/[0-9]*/cmdline")[1]

    def owners(self) -> list[int]:
        return [int(json.loads(file.read_bytes())["pid"]) for file in self.folder.glob("bootmatrix-*/*/guest.json")]

    def left(self) -> list[Path]:
        """Return what is still there, besides the folder in which guests are kept."""
        return [path for path in self.folder.rglob("*") if path != self.folder / f"bootmatrix-{os.getuid()}"]


@pytest.fixture(scope="module", autouse=True)
def _orphans() -> Iterator[None]:
    with adopting():
        yield


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a kept guest."""
    made = Host(tmp_path_factory.mktemp("host"))
    assert made.sh("exit 7", *KEPT)[0] == 7
    (owner,) = made.owners()
    yield made
    assert made.run("guests", "stop")[0] == 0
    assert until(lambda: owner not in processes())
    assert made.left() == []


def test_the_last_time_to_keep_a_guest_counts(host: Host) -> None:
    assert host.sh("true", "--keep-alive", "1h")[0] == 0
    assert "kept 1 h 00 min after its last use" in host.run("guests")[1]
    status, out, err = host.sh("echo ran", "--keep-alive", "5x")
    assert (status, out) == (125, "")
    assert err.startswith("bootmatrix: --keep-alive '5x' is not a duration"), err
    assert host.sh("true")[0] == 0
    assert "kept 1 h 00 min after its last use" in host.run("guests")[1]


def test_what_takes_time_is_told_until_the_guest_is_ready() -> None:
    reading, writing = os.pipe()
    answer, told = Answer(writing), list[str]()
    observer = LineObserver(answer.note)
    for done in (0, 5, 5):
        observer.download("linux 6.1", done, 5)
    observer.note("prepares\nit")
    answer.send("a fault\n  its hint")
    answer.note("too late")
    with os.fdopen(reading, "rb") as pipe:
        assert read_reply(pipe, told.append) == b"a fault\n  its hint"
    assert told == ["downloading linux 6.1", "prepares it"]


def until(is_so: Callable[[], bool], limit_s: float = 60) -> bool:
    end_s = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.05)
    return True


def processes() -> dict[int, str]:
    """Return the names of all processes below this one, also of orphans; not of those that have ended."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        state, parent = text.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            parents[int(path.parent.name)] = int(parent)
            names[int(path.parent.name)] = text[text.index("(") + 1 : text.rindex(")")]
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return {pid: names[pid] for pid in below - {os.getpid()}}


def test_the_first_interrupt_is_the_commands(host: Host) -> None:
    process = host.begin("trap 'echo so; exit 9' INT; echo begun; while :; do sleep 0.1; done")
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=LIMIT_S)
    assert (told[0], process.returncode) == ("so\n", 9), told


def test_a_fault_of_the_kernel_is_told_once_and_leaves_the_commands_status(tmp_path: Path) -> None:
    host = Host(tmp_path)
    fault = "mknod /log c 1 11; echo '<4>BUG: scheduling while atomic: sh/1/0x00000002' >/log; exit 3"
    status, _, told = host.sh(fault, *KEPT, "--privileged")
    assert status == 3
    assert "the guest's kernel reported a fault meanwhile: BUG: scheduling while atomic" in told
    assert host.sh("exit 4") == (4, "", "")
    assert host.run("guests", "stop")[0] == 0


@pytest.mark.parametrize("has_terminal", [True, False])
def test_a_start_that_takes_time_is_told_on_a_terminal(tmp_path: Path, has_terminal: bool) -> None:
    command = [str(TOOL), "exec", "--arch", "nowhere", "--", "true"]
    if has_terminal:
        command = ["script", "-qec", " ".join(command), "/dev/null"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert process.returncode == 125
    assert ("bootmatrix: starting a guest" in process.stdout + process.stderr) is has_terminal


def test_variables_of_here_are_passed_by_name(host: Host) -> None:
    host.env |= {"PASSED_A": "a b", "PASSED_B": "=", "OTHER": "x"}
    text = 'echo "$PASSED_A|$PASSED_B|$SET|${OTHER-}|${NONE-none}|${HOST-none}"'
    wanted = ("--env", "PASSED_*", "--env", "SET=", "--env", "NONE")
    assert host.sh(text, *wanted)[1] == "a b|=|||none|none\n"
    status, _, errors = host.sh(text, "--env", "=x")
    assert (status, "must be NAME=VALUE, or NAME" in errors) == (2, True), errors


def test_the_guest_is_described_in_a_file_that_replaces_a_link(host: Host, tmp_path: Path) -> None:
    (tmp_path / "kept.json").symlink_to("other")
    (tmp_path / "folder").mkdir()
    for name in ("kept.json", "own.json"):
        size = () if name == "kept.json" else ("--cpus", "1")
        words = ("exec", *GUEST, *size, "--no-tree", "--record", name, "--", *SHELL, "exit 5")
        assert host.run(*words, cwd=tmp_path) == (5, "", "")
        record = json.loads((tmp_path / name).read_bytes())
        assert "x86_64" in record["cell"]
        assert record["files"]["kernel"]
        assert record["packages"] == []
    assert not (tmp_path / "other").exists()
    words = ("exec", *GUEST, "--no-tree", "--record", "folder", "--", *SHELL, "true")
    assert host.run(*words, cwd=tmp_path) == (125, "", f"bootmatrix: --record {tmp_path}/folder: Is a directory\n")


def test_input_without_end(host: Host) -> None:
    assert host.run("exec", *GUEST, "--no-tree", "--", "/bin/sh", "-c", "exit 5", stdin="/dev/zero")[0] == 5
    assert host.sh("exit 4")[0] == 4


def test_a_program_by_a_relative_path_and_without_the_tree(host: Host, tmp_path: Path) -> None:
    (tmp_path / "program").write_text('#!/bin/sh\necho "$0 $#"\n')
    (tmp_path / "program").chmod(0o755)
    for words in (("--", "./program", "--name", ""), ("./program", "--a", "")):
        status, out, complaint = host.run("exec", *GUEST, "--no-tree", *words, cwd=tmp_path)
        assert (status, out) == (0, f"{tmp_path}/program 2\n"), complaint


def test_a_working_folder_that_is_not_there_is_not_the_commands_fault(host: Host) -> None:
    status, out, complaint = host.run("exec", *GUEST, "--no-tree", "--cwd", "/nowhere", "--", "/bin/true")
    assert (status, out) == (125, "")
    assert complaint == "bootmatrix: cannot change to the folder /nowhere in the guest: No such file or directory\n"


def test_a_port_that_is_taken(host: Host) -> None:
    (guest,) = (file.parent.name for file in host.folder.glob("bootmatrix-*/*/guest.json"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, complaint = host.run("forward", guest, f"{port}:80")
    assert (status, out) == (125, "")
    assert complaint.startswith(f"bootmatrix: port {port} of 127.0.0.1 cannot be used: Address already in use\n")


def test_files_without_room(host: Host, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(4 << 20))
    host.sh("dd if=/dev/zero of=/fill bs=1M")
    status, _, complaint = host.run("exec", *GUEST, "--", "/bin/sh", "-c", "exit 0", cwd=tmp_path)
    assert (status, "No space left" in complaint, "--memory" in complaint) == (125, True, True), complaint
    assert host.sh("rm /fill")[0] == 0
    assert host.run("exec", *GUEST, "--", "/bin/sh", "-c", "exit 8", cwd=tmp_path)[0] == 8


def test_an_interrupt_while_files_are_copied(host: Host, tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 150 << 20)
    process = host.start("exec", *GUEST, "--", "/bin/sh", "-c", "true", cwd=tmp_path)
    (owner,) = host.owners()
    assert until(lambda: str(tmp_path / "large") in opened_by(owner))
    end(process, [signal.SIGTERM])
    assert host.sh(f"read x < {tmp_path}/large; exit 6")[0] == 6


def opened_by(pid: int) -> list[str]:
    """Return the paths of the files that a process has open."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            links.append(str(descriptor.readlink()))
    return links


def end(process: subprocess.Popen[str], numbers: Sequence[signal.Signals]) -> None:
    """Send signals, and wait for the end."""
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.3)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == (-9 if numbers[0] is signal.SIGKILL else 130)


WAYS = pytest.mark.parametrize("numbers", [(signal.SIGINT,) * 2, (signal.SIGKILL,)], ids=["twice", "kill"])


@WAYS
def test_a_command_ends_with_its_process_here(host: Host, numbers: Sequence[signal.Signals]) -> None:
    process = host.begin(ENDLESS)
    assert "begun" in host.commands()
    end(process, numbers)
    assert until(lambda: "begun" not in host.commands())
    assert len(host.owners()) == 1


@WAYS
def test_a_guest_that_is_not_kept_ends_with_its_process(tmp_path: Path, numbers: Sequence[signal.Signals]) -> None:
    host, before = Host(tmp_path), processes()
    process = host.begin(ENDLESS)
    assert any(name.startswith("qemu") for pid, name in processes().items() if pid not in before)
    end(process, numbers)
    assert until(lambda: not processes().keys() - before.keys(), 5)
    assert host.left() == []


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "qemu"), (signal.SIGKILL, "qemu"), (signal.SIGKILL, "")])
def test_a_guest_that_is_being_started_ends_with_its_process(tmp_path: Path, number: signal.Signals, name: str) -> None:
    """It is not kept: nobody knows of it yet."""
    host, before = Host(tmp_path), processes()
    process = host.start("exec", *GUEST, *KEPT, "--no-tree", "--", "/bin/sh", "-c", "true")

    def has_begun() -> bool:
        new = {pid: text for pid, text in processes().items() if pid not in before and pid != process.pid}
        return any(text.startswith(name) for text in new.values())

    assert until(has_begun)
    end(process, [number])
    assert until(lambda: not processes().keys() - before.keys())
    assert host.left() == []


def test_an_owner_that_is_killed_takes_its_guest_along(tmp_path: Path) -> None:
    host, before = Host(tmp_path), processes()
    process = host.begin(ENDLESS, *KEPT)
    (owner,) = host.owners()
    assert host.commands().count("begun") == 1
    os.kill(owner, signal.SIGKILL)
    assert "the kept guest has ended" in process.communicate(timeout=LIMIT_S)[1]
    assert process.returncode == 125
    with suppress(ChildProcessError):
        os.waitpid(owner, 0)  # we adopted it; the portable way takes a process for alive until its parent has waited
    assert until(lambda: not processes().keys() - before.keys(), 5)
    assert "no guest is kept" in host.run("guests")[1]
    assert host.left() == []
    store = Store(default_cache())  # whoever opens it next removes what was left
    assert not [path for path in (store.folder / "temp").iterdir() if path.name.startswith(f"{owner}-")]


@pytest.mark.parametrize(
    ("key", "words"), [("c", "kernel panic: sysrq triggered crash"), ("o", "it turned itself off")]
)
def test_a_kept_guest_that_ends_under_a_command_says_why(tmp_path: Path, key: str, words: str) -> None:
    host = Host(tmp_path)
    status, _, errors = host.sh(f"echo {key} >/proc/sysrq-trigger; sleep 60", *KEPT, "--privileged")
    assert (status, f"has ended: {words}\n" in errors) == (125, True), errors
    assert until(lambda: "no guest is kept" in host.run("guests")[1], 5)


def test_what_is_gone_here_or_of_another_kind_is_so_in_the_guest(host: Host, tmp_path: Path) -> None:
    list_all = ("exec", *GUEST, "--", "/bin/sh", "-c", "find . -type f -o -type l | sort")
    (tmp_path / "folder/inner").mkdir(parents=True)
    for name in ("gone", "file", "folder/x", "folder/inner/y"):
        (tmp_path / name).touch()
    made = ("exec", *GUEST, "--", "/bin/sh", "-c", "touch made")
    assert host.run(*made, cwd=tmp_path)[0] == 0
    assert host.run(*list_all, cwd=tmp_path)[1].split() == [
        *("./file", "./folder/inner/y", "./folder/x", "./gone", "./made")
    ]
    for name in ("gone", "file", "folder/x", "folder/inner/y"):
        (tmp_path / name).unlink()
    (tmp_path / "folder/inner").rmdir()
    (tmp_path / "folder").rmdir()
    (tmp_path / "file").mkdir()
    (tmp_path / "folder").symlink_to("file")
    (tmp_path / "file/z").touch()
    status, out, complaint = host.run(*list_all, cwd=tmp_path)
    assert (status, out.split()) == (0, ["./file/z", "./folder", "./made"]), complaint


def test_what_a_command_made_in_the_way_of_a_file_is_told_with_the_remedy(host: Host, tmp_path: Path) -> None:
    assert host.run("exec", *GUEST, "--", "/bin/sh", "-c", "mkdir out", cwd=tmp_path)[0] == 0
    (tmp_path / "out").touch()
    status, _, complaint = host.run("exec", *GUEST, "--", *SHELL, "true", cwd=tmp_path)
    assert (status, "out: cannot write it: File exists\n" in complaint) == (125, True), complaint
    assert "bootmatrix guests stop" in complaint


def test_programs_that_are_gone_here_take_little_room_in_the_guest(host: Host, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()

    def run_and_remove(size: int) -> None:
        program = tmp_path / "program"
        program.write_bytes(b"#!/bin/sh\nexit\n".ljust(size, b"\n"))
        program.chmod(0o755)
        assert host.run("exec", *GUEST, "--", "../program", cwd=tmp_path / "work")[0] == 0
        program.unlink()

    def is_there() -> bool:
        words = ("exec", *GUEST, "--", "/bin/sh", "-c", "[ -e ../program ]")
        return host.run(*words, cwd=tmp_path / "work")[0] == 0

    run_and_remove(100)
    assert is_there(), "a small one is removed together with others"
    run_and_remove(33 << 20)
    assert not is_there()
    (tmp_path / "program").mkdir()
    (tmp_path / "program/inner").write_text("#!/bin/sh\n")
    (tmp_path / "program/inner").chmod(0o755)
    assert host.run("exec", *GUEST, "--", "../program/inner", cwd=tmp_path / "work")[0] == 0


def test_a_folder_that_is_reached_by_a_link_has_both_names(host: Host, tmp_path: Path) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "real/below/data").write_text("so\n")
    (tmp_path / "link").symlink_to("real")
    host.env["PWD"] = f"{tmp_path}/link/below"
    try:
        for text in (f"cat {tmp_path}/link/below/data", f"cat {tmp_path}/real/below/data"):
            assert host.run("exec", *GUEST, "--", *SHELL, text, cwd=tmp_path / "real/below")[:2] == (0, "so\n")
    finally:
        del host.env["PWD"]
    status, out, complaint = host.run("exec", *GUEST, "--", *SHELL, "cat link/below/data", cwd=tmp_path)
    assert (status, out) == (0, "so\n"), complaint
    host.env["PWD"] = "/nowhere"  # of a program that changed its folder
    try:
        assert host.run("exec", *GUEST, "--", *SHELL, "cat data", cwd=tmp_path / "real/below")[:2] == (0, "so\n")
    finally:
        del host.env["PWD"]


def test_output_that_cannot_be_written_is_told(host: Host) -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [TOOL, "exec", *GUEST, "--no-tree", "--", *SHELL, "echo x"],
            env=host.env,
            cwd=host.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    told = "bootmatrix: the command's standard output cannot be written: No space left on device\n"
    assert (process.returncode, process.stderr) == (125, told)


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("echo x\n", 126, "Exec format error. A script's first line names its interpreter, as in #!/bin/sh."),
        ("#!/bin/sh\r\necho x\r\n", 127, "The script's first line ends in a carriage return"),
        ("#! /no/sh\n", 127, "The image has no /no/sh, which the script names in its first line."),
        ("\0", 126, "Exec format error. Is it a program for this architecture?"),
    ],
)
def test_a_program_that_cannot_be_run_is_told_why(
    host: Host, tmp_path: Path, text: str, status: int, words: str
) -> None:
    (tmp_path / "x").write_text(text, newline="")
    (tmp_path / "x").chmod(0o755)
    done = host.run("exec", *GUEST, "--", "./x", cwd=tmp_path)
    assert (done[0], words in done[2]) == (status, True), done
