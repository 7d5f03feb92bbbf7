"""A QEMU that its guest has taken over can do little on the host, and none outlives us."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from bootmatrix.boot.guest import boot
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Machine, Timeouts
from bootmatrix.qemu import sandbox
from bootmatrix.qemu.cgroup import Bound
from bootmatrix.qemu.command import SEMIHOSTING_VALUE, Descriptors, for_cell, interactive
from bootmatrix.qemu.process import running
from bootmatrix.qemu.transport import console_pipes
from bootmatrix.qemu.version import find_qemu, qemu_fault
from bootmatrix.store import Store
from guests import QUICK, make_bootable, make_machine, set_up
from test_boot_guest import wait_until_gone
from test_boot_qemu import HALT, RESET, children, guest, pc

TESTS = Path(__file__).parent
PYTHON = Path(shutil.which("python3", path="/usr/bin:/bin") or sys.executable).resolve()
"""If there is one, a Python that all users can reach; ours may stand in root's home."""
PROFILES = load_profiles([CHECKOUT / "arch"]).values()
MACHINES = [machine for profile in PROFILES for machine in profile.machines.values()]
HERE = [machine for machine in MACHINES if qemu_fault(machine) is None]
"""Machines whose QEMU this host has: at least the first ones of what `make setup` sets up."""
ROOT = os.geteuid() == 0


def status(pid: int | str) -> dict[str, str]:
    """What the kernel says of a process: proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limits(pid: int | str) -> dict[str, str]:
    """Hard limits of a process, by their names in proc_pid_limits(5)."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): line[47:68].strip() for line in lines}


@asynccontextmanager
async def halted(folder: Path) -> AsyncIterator[int]:
    """The process id of a real QEMU whose guest halts."""
    machine, bootable = pc(), guest(folder, HALT)
    before = children()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(boot, machine, bootable, Timeouts(), folder)
        console = folder / "console.log"
        with anyio.fail_after(30):
            while not (console.exists() and b"hundred bytes" in console.read_bytes()):
                await anyio.sleep(0.02)
        (child,) = children() - before
        yield int(child)
        tasks.cancel_scope.cancel()


async def test_a_qemu_has_no_right_to_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN_OF_THE_CI_SYSTEM", "secret")
    async with halted(tmp_path) as pid:
        found = status(pid)
        assert found["NoNewPrivs"] == "1"
        assert found["Seccomp"] == "2"
        assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == int(found["CapAmb"], 16) == 0
        uids, gids = ({int(word) for word in found[name].split()} for name in ("Uid", "Gid"))
        if ROOT:
            assert len(uids) == len(gids) == 1
            assert uids == gids < set(sandbox.OWN_UIDS)
            assert found["Groups"] == ""
            assert int(found["CapBnd"], 16) == 0
        else:
            assert uids == {os.getuid()}
        assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


async def test_a_qemu_is_bounded(tmp_path: Path) -> None:
    async with halted(tmp_path) as pid:
        found = limits(pid)
    assert found["Max core file size"] == "0"
    assert found["Max file size"] == str(sandbox.MAX_FILE_BYTES)
    assert found["Max open files"] == str(sandbox.MAX_FILES)
    assert int(found["Max address space"]) < 4 << 30
    if ROOT:
        assert found["Max processes"] == str(sandbox.MAX_THREADS + 1)


async def test_a_qemu_holds_nothing_but_its_channels_and_what_it_boots(tmp_path: Path) -> None:
    async with halted(tmp_path) as pid:
        links = {file.name: str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
        files = [name for name, target in links.items() if target.startswith("/") and target != "/dev/null"]
        assert {Path(links[name]).name for name in files} <= {"kernel", "initrd"}
        for name in files:
            text = Path(f"/proc/{pid}/fdinfo/{name}").read_text()
            assert int(text.split("flags:")[1].split()[0], 8) & os.O_ACCMODE == os.O_RDONLY
        kinds = {target.split(":")[0] for target in links.values() if not target.startswith("/")}
        assert kinds <= {"socket", "pipe", "anon_inode"}
        internet = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6", "udp", "udp6", "raw")]
        inodes = {line.split()[9] for file in internet if file.exists() for line in file.read_text().splitlines()[1:]}
        assert not inodes & {target.strip("socket:[]") for target in links.values()}
        if sandbox._alone(changes_user=ROOT):
            assert [
                line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
            ] == ["lo"]


async def test_no_two_qemus_share_a_user() -> None:
    users = [sandbox.own_user(pc(), Path("/bin/sh")) for _ in range(100)]
    assert len(set(users)) == (100 if ROOT else 1)


# --- a program in the place of a QEMU that its guest has taken over

ATTEMPTS = """
import json, os, resource, socket, sys, threading
out, secret, port, parent = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
done = []
def attempt(name, action):
    try:
        action()
    except BaseException:
        return
    done.append(name)
def threads():
    for _ in range(200):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
def write():
    import signal, tempfile
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with tempfile.TemporaryFile() as file:
        file.write(bytes(2 << 20)); file.flush()
def memory():
    import mmap
    mmap.mmap(-1, 4 << 30)
attempt("read", lambda: open(secret).read())
attempt("read by the folder's descriptor", lambda: os.listdir(os.path.dirname(secret)))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", port), 5).close())
attempt("signal", lambda: os.kill(parent, 0))
attempt("look", lambda: open(f"/proc/{parent}/mem", "rb"))
attempt("root", lambda: os.setresuid(0, 0, 0))
attempt("raise", lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1)))
attempt("files", lambda: [os.dup(0) for _ in range(500)])
attempt("write", write)
attempt("memory", memory)
attempt("environment", lambda: os.environ["A_TOKEN_OF_THE_CI_SYSTEM"])
if os.getuid():
    attempt("threads", threads)
os.write(out, json.dumps(done).encode())
os._exit(0)
"""


@contextmanager
def something_to_take(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A file in a private folder, a server on this host, a variable; and the arguments that say where they are."""
    monkeypatch.setenv("A_TOKEN_OF_THE_CI_SYSTEM", "secret")
    (folder / "private").mkdir(mode=0o700)
    (folder / "private/secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield [str(folder / "private/secret"), str(server.getsockname()[1]), str(os.getpid())]


def answer(reader: int) -> set[str]:
    with os.fdopen(reader, "rb") as file:
        return set(json.loads(file.read()))


async def test_a_qemu_that_was_taken_over_reaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    machine = pc(memory_mib=128)
    with something_to_take(tmp_path, monkeypatch) as where, console_pipes() as console:
        command = [str(PYTHON), "-I", "-S", "-c", ATTEMPTS, str(writer), *where]
        async with running(command, [writer], machine, Bound(0, ()), console) as process:
            os.close(writer)
            await process.wait()
    left = set()
    if sandbox.own_user(machine, PYTHON) is None:  # not root, or a Python that only root can reach
        left |= {"read", "read by the folder's descriptor", "signal", "look", "threads"}
        left |= {"root", "raise"} if ROOT else set()
    if not sandbox._alone(changes_user=ROOT):
        left |= {"connect"}
    assert answer(reader) <= left


async def test_the_attempts_succeed_where_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with something_to_take(tmp_path, monkeypatch) as where:
        command = [str(PYTHON), "-I", "-S", "-c", ATTEMPTS, str(writer), *where]
        subprocess.run(command, pass_fds=[writer], check=True, timeout=60)
    os.close(writer)
    expected = {"read", "read by the folder's descriptor", "connect", "signal", "files", "write", "memory"}
    expected |= {"environment"} | ({"root", "look"} if ROOT else set())
    assert expected <= answer(reader)


# --- who is whom

PARENT = """
import sys, anyio
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from guests import QUICK
from test_boot_qemu import HALT, guest, pc
from bootmatrix.boot.guest import boot
from bootmatrix.model import Timeouts
folder = Path(sys.argv[1])
anyio.run(boot, pc(), guest(folder, HALT), Timeouts(), folder)
"""


def test_a_qemu_of_another_user_does_not_outlive_us_either(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, tmp_path, TESTS])
    console = tmp_path / "console.log"
    try:
        deadline = time.monotonic() + 30
        while not (console.exists() and b"hundred bytes" in console.read_bytes()):
            assert time.monotonic() < deadline
            assert parent.poll() is None
            time.sleep(0.02)
        (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert "qemu-system" in Path(f"/proc/{child}/comm").read_text()
        if ROOT:
            assert int(status(child)["Uid"].split()[0]) in sandbox.OWN_UIDS
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(60)
    assert wait_until_gone(int(child), 5)


def test_a_qemu_stays_ours_where_only_we_can_reach_it(tmp_path: Path) -> None:
    program = tmp_path / "private/qemu"
    program.parent.mkdir(mode=0o700)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert sandbox.own_user(pc(), program) is None
    assert sandbox.own_user(pc(), tmp_path / "none") is None
    assert (sandbox.own_user(pc(), Path("/bin/sh")) is not None) == ROOT


def test_a_root_without_the_right_to_be_another_stays_who_it_is() -> None:
    """As in a container whose capabilities were taken away."""
    code = (
        "from pathlib import Path; from bootmatrix.qemu.sandbox import *; from test_boot_qemu import pc;"
        "print(own_user(pc(), Path('/bin/sh')))"
    )
    fewer = ["setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid", "--"] if ROOT else []
    done = subprocess.run(
        [*fewer, sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=TESTS, timeout=60
    )
    assert done.stdout == "None\n", done.stderr


def test_a_root_without_a_network_namespace_starts_qemu_as_another_user() -> None:
    """As in a container: its root may change its user, but make namespaces of networks in a user namespace only."""
    code = (
        "import subprocess; from pathlib import Path; from bootmatrix.qemu.sandbox import *;"
        "from test_boot_qemu import pc;"
        "subprocess.run([*confined(pc(), Path('/bin/sh')), 'id', '-u'], check=True)"
    )
    fewer = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"] if ROOT else []
    done = subprocess.run(
        [*fewer, sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=TESTS, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not ROOT or int(done.stdout) in sandbox.OWN_UIDS


@pytest.mark.parametrize(
    ("text", "mapped"),
    [
        ("         0          0 4294967295\n", True),
        ("0 100000 65536\n", True),
        ("0 1000 1\n", False),
        ("0 1000 1\n1 100000 65536\n", True),
        ("0 1000 1\n1 100000 60000\n", False),
        ("", False),
    ],
)
def test_users_that_a_container_does_not_have_are_not_taken(text: str, mapped: bool) -> None:
    assert sandbox._is_mapped(text) is mapped


@pytest.mark.parametrize(
    ("mode", "groups"), [(0o666, "--clear-groups"), (0o660, f"--groups={os.getegid()}"), (0o600, None)]
)
def test_kvm_takes_the_group_of_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, groups: str | None
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    device.chmod(mode)
    monkeypatch.setattr(sandbox, "KVM", device)
    assert sandbox._kvm_groups(pc(accelerators=("kvm", "tcg"))) == groups
    assert sandbox._kvm_groups(pc()) == "--clear-groups"


# --- files


async def test_files_that_only_we_can_read_are_booted(tmp_path: Path) -> None:
    machine, bootable = pc(), guest(tmp_path, RESET)
    for artefact in filter(None, (bootable.kernel, bootable.initrd)):
        Path(artefact.path).chmod(0o600)
    outcome = await boot(machine, bootable, QUICK, tmp_path)
    assert outcome.ended_by == "guest"
    assert b"hundred bytes" in (tmp_path / "console.log").read_bytes()


def test_files_are_opened_for_reading_and_closed(tmp_path: Path) -> None:
    (tmp_path / "a,b").write_bytes(b"kernel")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with sandbox.opened(["qemu", "-kernel", str(tmp_path / "a,b"), "-initrd", "/none", "-append", "-bios"]) as files:
        (descriptor,) = files.descriptors
        assert files.arguments == ("qemu", "-kernel", f"/dev/fd/{descriptor}", "-initrd", "/none", "-append", "-bios")
        assert Path(f"/dev/fd/{descriptor}").read_bytes() == b"kernel"
        with pytest.raises(OSError, match="Bad file"):
            os.write(descriptor, b"x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_temporary_files_are_ours_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    with store.writer():
        (file,) = (tmp_path / "cache/temp").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


# --- what QEMU is told

ALLOWED = {
    *(
        "-S",
        "-M",
        "-accel",
        "-action",
        "-append",
        "-bios",
        "-chardev",
        "-cpu",
        "-device",
        "-display",
        "-dtb",
        "-initrd",
    ),
    *(
        "-kernel",
        "-m",
        "-mon",
        "-netdev",
        "-no-user-config",
        "-nodefaults",
        "-sandbox",
        "-semihosting-config",
        "-serial",
        "-smp",
    ),
}


SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def options(arguments: Sequence[str], machine: Machine) -> list[str]:
    """QEMU's options, but for those of the profile."""
    rest = [word for word in arguments if word not in machine.arguments]
    values = {after for before, after in itertools.pairwise(rest) if before in {"-append", "-M", "-cpu"}}
    return [word for word in rest if word.startswith("-") and word not in values]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.description)
@pytest.mark.parametrize("network", [True, False])
def test_qemu_gets_no_device_that_reaches_out(machine: Machine, network: bool) -> None:
    bootable = make_bootable(network=network)
    arguments = for_cell(machine, bootable, Descriptors(3, 4)).arguments
    assert set(options(arguments, machine)) <= ALLOWED
    assert {"-no-user-config", "-nodefaults"} <= set(arguments)
    pairs = list(itertools.pairwise(arguments))
    devices = [value for name, value in pairs if name == "-chardev"]
    wires = ("socket,id=monitor,fd=", "socket,id=result,fd=", "stdio,id=console,", "null,id=semihosting")
    assert all(value.startswith(wires) for value in devices)
    assert all(value == SEMIHOSTING_VALUE for name, value in pairs if name == "-semihosting-config")
    nets = [value for name, value in pairs if name == "-netdev"]
    assert nets == (["user,id=net0,restrict=on"] if network and machine.network else [])
    assert [value for name, value in pairs if name == "-sandbox"] == [SANDBOX]
    assert "-netdev" not in interactive(machine, make_bootable(network=False)).arguments


def test_an_option_that_reaches_out_would_be_seen() -> None:
    machine = make_machine()
    assert not set(options(["qemu", "-virtfs", "local,path=/"], machine)) <= ALLOWED


def test_machines_that_are_set_up_are_here() -> None:
    assert all(profile.machines[profile.default_machine()] in HERE for profile in PROFILES if profile.setup)


@pytest.mark.parametrize("machine", HERE, ids=lambda machine: machine.description)
async def test_no_machine_has_a_default_device(machine: Machine) -> None:
    """Of the character devices that QEMU has by itself, there are none: asked of each QEMU."""
    program = find_qemu(machine)
    command = [str(program), "-S", "-no-user-config", "-nodefaults", "-display", "none", "-M", machine.machine]
    command += ["-m", str(machine.memory_mib), "-qmp", "stdio", *machine.arguments]
    said = b'{"execute": "qmp_capabilities"}{"execute": "query-chardev"}{"execute": "query-block"}{"execute": "quit"}'
    done = set_up(command, said)
    assert done.returncode == 0, done.stderr
    replies: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    lists = [reply["return"] for reply in replies if isinstance(reply.get("return"), list)]
    # Ports that lead nowhere, as no console is given here, and the lamps of a Malta, which are on no screen.
    sanitize = {one["label"] for one in lists[0] if one["label"].startswith("discarding-")} | {"fpga"}
    assert {one["label"] for one in lists[0]} - sanitize == {"compat_monitor0"}
    assert [one for one in lists[1] if one.get("inserted")] == []


# --- the price


def test_locking_in_costs_little() -> None:
    """CPU time of starting `true` so, against starting it as it is."""
    machine = pc()
    command = ["true"]
    locked = [*sandbox.confined(machine, Path("/bin/true")), *command]

    def cpu_s(words: list[str]) -> float:
        before = os.times()
        for _ in range(10):
            subprocess.run(words, check=True)
        after = os.times()
        return (after.children_user + after.children_system - before.children_user - before.children_system) / 10

    assert cpu_s(locked) - cpu_s(command) < 0.1
