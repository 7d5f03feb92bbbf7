"""Parts of the guest's init, compiled for the host with sanitizers (tests/guest/parts.c)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for path in sorted((ROOT / "src/guest").glob("*.c")) if path.name != "main.c"]
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LIMIT_S = 60


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts as one program."""
    path = tmp_path_factory.mktemp("guest") / "parts"
    main = ROOT / "tests/guest/parts.c"
    command = ["gcc", *FLAGS, f"-I{ROOT / 'src/guest'}", "-o", str(path), str(main), *map(str, SOURCES)]
    subprocess.run(command, check=True)
    return path


def run(program: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a part; a finding of a sanitizer is an error."""
    done = subprocess.run([program, *words], input=stdin, capture_output=True, timeout=LIMIT_S, check=False)
    assert b"Sanitizer" not in done.stderr, done.stderr.decode()
    assert done.returncode in {0, 1}, done.stderr.decode()
    return done


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A container's root with hostile links."""
    root = tmp_path / "rootfs"
    for folder in ("out/folder", "var", "run"):
        (root / folder).mkdir(parents=True)
    (tmp_path / "passwd").write_text("the host's")
    (root / "out/plain").write_text("plain")
    (root / "run/x").write_text("x")
    os.mkfifo(root / "out/fifo")
    links = {
        "var/run": "/run",
        "out/absolute": "/out/plain",
        "out/relative": "folder/../plain",
        "out/loop": "loop",
        "out/up": "../../passwd",
        "out/far_up": "/../../../../../../../../etc/passwd",
        "out/zero": "/dev/zero",
        "out/memory": "/proc/1/mem",
        "out/top": "/",
    }
    for name, to in links.items():
        (root / name).symlink_to(to)
    return root


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/out/plain", "out/plain"),
        ("/out/absolute", "out/plain"),
        ("/out/relative", "out/plain"),
        ("/var/run/x", "run/x"),
        ("/out/top/out/top/var/run/x", "run/x"),
        ("/out/top/../../../passwd", ""),
        ("/out/none", ""),
        ("/out/*", ""),
        ("/out/folder", ""),
        ("/out/fifo", ""),
        ("/out/loop", ""),
        ("/out/up", ""),
        ("/out/far_up", ""),
        ("/out/zero", ""),
        ("/out/memory", ""),
    ],
)
def test_a_result_is_what_its_container_would_find_there_and_never_outside_of_its_root(
    program: Path, root: Path, path: str, file: str
) -> None:
    expected = (root / file).read_bytes() if file else b""
    assert run(program, "walk", str(root), path).stdout == expected


RECORDS = r"""
6,0,0,-;Linux version 6.1.0
3,1,10,-;an error\x0aof two lines\n SUBSYSTEM=acpi
4,2,20,-;a warning
6,3,30,-;    not ok 1 example
6,3,30,-;1..2\x0aok 1\x0a    not ok 2 example
6,3,30,-;1..2\x0anot okay
14,4,40,-;read up to here: MARK
15,5,50,-;behind it
"""
STRANGE = (
    "09,1,2,-;x",
    "4",
    ",",
    "4,y,2,-;x",
    f"{'9' * 30},1,2,-;x",
    "4+4,1,2,-;x",
    "-4,1,2,-;x",
)
WHOLE = (
    r"3,1,10,-;an\x20error\x0aof\x20two\x20lines 4,2,20,-;a\x20warning "
    r"6,3,30,-;\x20\x20\x20\x20not\x20ok\x201\x20example "
    r"6,3,30,-;1..2\x0aok\x201\x0a\x20\x20\x20\x20not\x20ok\x202\x20example"
)


def account(program: Path, log: str, most_bytes: int = 9999) -> str:
    """Return the words about the kernel's log that init sends."""
    return run(program, "kernel-log", "MARK", str(most_bytes), stdin=log.lstrip("\n").encode()).stdout.decode().strip()


def test_the_kernels_log_is_read_up_to_the_mark(program: Path) -> None:
    assert account(program, RECORDS) == f"1 0 0 {WHOLE}"


def test_a_log_without_the_mark_is_no_account(program: Path) -> None:
    assert account(program, RECORDS.replace("MARK", "another")) == ""


@pytest.mark.parametrize("line", STRANGE)
def test_a_line_of_the_kernels_log_that_is_not_a_record_is_counted_as_left_out(program: Path, line: str) -> None:
    lines = RECORDS.splitlines()
    assert account(program, "\n".join([*lines[:3], line, *lines[3:]]) + "\n") == f"1 0 1 {WHOLE}"


def test_records_beyond_the_limit_are_counted_and_long_ones_cut(program: Path) -> None:
    log = "\n".join([f"3,7,1,-;{'x ' * 900}", *(f"4,{number},2,-;warning" for number in range(8, 99)), "6,99,3,-;MARK"])
    errors, lost, left, first, *rest = account(program, f"{log}\n", 1000).split(" ")
    assert (errors, lost, len(first)) == ("1", "7", 400)
    assert len(rest) + int(left) == 91
    assert 0 < len(rest) < 91


@pytest.mark.parametrize("word", ["", "x", "1.5", "-1", "0", "1+1", "08", "$((1))", "1" * 19])
def test_a_scale_that_is_not_a_number_is_ignored(program: Path, word: str) -> None:
    assert run(program, "scale", stdin=f"quiet bootmatrix.scale={word}\n".encode()).stdout == b"1\n"


def test_a_scale_is_read(program: Path) -> None:
    assert run(program, "scale", stdin=b"bootmatrix.channel=console bootmatrix.scale=20 quiet\n").stdout == b"20\n"


TAP = (
    b"TAP version 14",
    b"1..3",
    b"ok",
    b"ok 1 - a",
    b"  ---",
    b"  ...",
    b"\x1b[32mnot ok\x1b[0m 2",
    b"# not ok 3",
    b"\t\rok\r",
    b"Bail out!",
    b"KTAP version 1",
    b"\xef\xbb\xbfnot ok 4",
    b"\x1b[Knot ok 5",
    b"50%\r\x1b[Knot ok 9",
    b"building\r\r  not ok 10\r",
    b"not \x1b[1mok 11",
    b"\x1b[3zok",
    b"\x1b[?25l\x1b(B\x1b[mnot ok 6",
    b"\x1b]0;title\anot ok 7",
    b"\x1b]0;title\x1b\\not ok 8",
    b"\x1bcok",
    b"\0ok",
    b"\0n\0o\0t\0 \0o\0k",
    b"building\b\b\bnot ok 12",
    b"\fok",
    b"\xc2\xa0not\xc2\xa0ok 13",
    b" \xef\xbb\xbfnot ok 14",
    b"n\x1b[1mot o\x1b[mk 15",
    b"50%\x1b[1Gnot ok 16",
    b"\x1bPq#0\x1b\\not ok 17",
    b"not  ok: 18",
    b"bail out! \x1b[1mno disk",
    b"1\x1b[m..2",
    b"tap Version 13",
)
NOT_TAP = (
    b"",
    b"okay",
    b"not okay",
    b"1.. 3",
    b"#ok",
    b"x ok",
    b"  --- x",
    b"\x1b[3",
    b"\r" * 4000 + b"50%\rnot yet",
    b"\x1b[",
    b"\x1b]not ok",
    b"\x1b(",
    b"not ",
    b"ok: 1",
    b"OK 1",
    b"\x1b[31mnot okay\x1b[m",
    b"\xe2\x9c\x93 takes a token",
)


def test_lines_of_tap_are_kept(program: Path) -> None:
    assert run(program, "tap", stdin=b"\n".join((*TAP, b""))).stdout.split(b"\n") == [*TAP, b""]


def test_other_lines_are_not(program: Path) -> None:
    assert not run(program, "tap", stdin=b"\n".join((b"---", *NOT_TAP, b""))).stdout


def test_too_many_lines_of_tap_end_in_a_bail_out(program: Path) -> None:
    kept = run(program, "tap", stdin=b"ok\n" * 20_100).stdout.splitlines()
    assert (len(kept), kept[-1]) == (20_001, b"Bail out! more lines than the 20000 that are kept")


def test_requests_are_whole_short_lines(program: Path) -> None:
    noise = b"restart\nrestart a b\nrestart /x\nstop a\n" + b"x" * 300_000 + b" restart b\n" + b"restart " + b"c" * 200
    text = b"restart a.b\n \n" + noise + b"\n\0\nrestart  d-e_f+1 \nrestart cut"
    assert run(program, "requests", stdin=text).stdout.split(b"\n") == [b"a.b", b"d-e_f+1", b"some ignored", b""]
    assert run(program, "requests", stdin=b"\nrestart a\n\n").stdout == b"a\nnone ignored\n"


FILLS_THE_PIPE = """
import fcntl, os, subprocess
fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_NONBLOCK)
os.write(1, b"1..1\\n")
if os.environ.get("LEAVES"):
    subprocess.Popen(["sh", "-c", "sleep 1; while :; do echo ok; done"], stderr=subprocess.DEVNULL)
try:
    while True:
        os.write(1, b"x" * 4095 + b"\\n")
except BlockingIOError:
    pass
try:
    for _ in range(4096):
        os.write(1, b"e")
except BlockingIOError:
    pass
"""


@pytest.mark.parametrize("leaves", ["", "1"])
def test_output_is_read_up_to_the_end_of_its_process(
    program: Path, monkeypatch: pytest.MonkeyPatch, leaves: str
) -> None:
    """The pipe is full, does not block, and a process left behind prints on."""
    monkeypatch.setenv("LEAVES", leaves)
    done = run(program, "output", sys.executable, "-c", FILLS_THE_PIPE)
    assert done.stderr == b"drained 1\n"
    lines = done.stdout.splitlines()
    assert lines[0] == b"name| 1..1"
    assert len(lines) >= 15
    assert set(lines[1:-1]) == {b"name| " + b"x" * 4095}


@pytest.mark.parametrize("size", [1, 30_000, 60_000, 200_000])
def test_no_output_waits_for_another_event(program: Path, size: int) -> None:
    """Its console takes everything at once."""
    lines = f"[os.write(1, (b'x' * 200 + b'\\n') * 300) for _ in range({size // 60_000})]"
    write = f"import os; {lines}; os.write(1, b'y' * {size % 60_000})"
    done = run(program, "pump", sys.executable, "-I", "-S", "-c", write)
    assert done.returncode == 0
    assert done.stdout.count(b"x" * 200) == size // 60_000 * 300
    assert done.stdout.count(b"y") == size % 60_000


def test_a_line_without_an_end_is_printed_and_kept(program: Path) -> None:
    done = run(program, "output", "sh", "-c", "echo; printf 'not ok - last'")
    assert (done.stdout, done.stderr) == (b"name| \nname| not ok - last\n", b"drained 1\n")


def test_a_long_line_is_printed_in_parts(program: Path) -> None:
    done = run(program, "output", "sh", "-c", "head -c 50000 /dev/zero | tr '\\0' x")
    assert [len(line) for line in done.stdout.splitlines()] == [6 + (32 << 10), 6 + 50_000 - (32 << 10)]


def test_a_tree_is_copied_over_another(program: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    for path in (source / "folder", target / "folder"):
        path.mkdir(parents=True)
    (source / "folder/.new").write_bytes(b"new")
    (source / "folder/.new").chmod(0o640)
    os.utime(source / "folder/.new", (1, 2))
    (target / "folder/kept").write_text("kept")
    (source / "folder/changed").write_text("2")
    (target / "folder/changed").write_text("1")
    (source / "link").symlink_to("/none")
    assert run(program, "copy", str(source), str(target)).returncode == 0
    status = (target / "folder/.new").stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (0o640, 2)
    assert [(target / "folder" / name).read_text() for name in ("kept", "changed")] == ["kept", "2"]
    assert str((target / "link").readlink()) == "/none"
    assert run(program, "copy", str(source / "none"), str(target)).returncode == 1
