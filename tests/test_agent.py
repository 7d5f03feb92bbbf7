"""The guest's agent and its client, as two processes of the host: streams, files, connections, and faults of both."""

from __future__ import annotations

import os
import random
import signal
import socket
import stat
import struct
import tempfile
import threading
import tracemalloc
import urllib.request
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from anyio.abc import SocketAttribute

from agent_program import NONCE, compile_agent, running, with_agent
from bootmatrix.errors import AgentError, GuestFileError, InputError
from bootmatrix.guest import commands, serve
from bootmatrix.guest.client import AgentClient
from bootmatrix.guest.commands import channel_of, connection, run_command
from bootmatrix.guest.forward import forwarded
from bootmatrix.guest.frames import EXIT, HELLO, VERSION, ExitKind, Frame, FrameType, StreamNumber, greeting_token
from bootmatrix.guest.outbound import Known, TreeLimits, check_tree, tree_records
from bootmatrix.guest.records import PARTIAL, RecordReader
from bootmatrix.guest.requests import GuestRequest, TerminalSize
from bootmatrix.guest.streams import Incoming
from bootmatrix.guest.wire import SocketWire
from bootmatrix.source.guest_repository import Response
from free_ports import free_port

PATH = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_agent(tmp_path_factory.mktemp("agent"))


def shell(text: str, **more: object) -> GuestRequest:
    return GuestRequest("exec", ["sh", "-c", text], env=PATH, **more)  # type: ignore[arg-type]


def test_small_pieces_take_no_memory_beyond_the_window() -> None:
    async def work() -> None:
        stream = Incoming(1 << 20)
        tracemalloc.start()
        for _ in range(200_000):
            stream.feed(b"")
            stream.feed(b"ab")
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
        tracemalloc.stop()
        stream.end()
        received = b""
        while data := await stream.take():
            received += data
        assert received == b"ab" * 200_000

    anyio.run(work)


def test_streams_are_apart_and_binary(program: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)

    async def work(client: AgentClient) -> None:
        output = await run_command(client, shell("cat; echo no >&2; exit 3"), data)
        assert output.end
        assert (bytes(output.out) == data, bytes(output.err), output.end.status) == (True, b"no\n", 3)

    with_agent(program, work)


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        (shell("exit 255"), 255, ExitKind.STATUS),
        (shell("kill -TERM $$"), 143, ExitKind.SIGNAL),
        (GuestRequest("exec", ["/nowhere/x"], env=PATH), 127, ExitKind.FAULT),
        (GuestRequest("exec", ["/etc/passwd"], env=PATH), 126, ExitKind.FAULT),
        (GuestRequest("exec", ["true"], cwd="/nowhere", env=PATH), 127, ExitKind.FAULT),
        (GuestRequest("exec", ["true"], root="/nowhere", env=PATH), 127, ExitKind.FAULT),
        (shell("[ $(id -u):$(id -g) = 7:8 ]", uid=7, gid=8), 0, ExitKind.STATUS),
        (GuestRequest("exec", ["sh", "-c", '[ "$X" = "a\nb" ]'], env={**PATH, "X": "a\nb"}), 0, ExitKind.STATUS),
    ],
)
def test_ends(program: Path, request_: GuestRequest, status: int, kind: ExitKind) -> None:
    if request_.uid and os.geteuid():
        pytest.skip("only root can have several users")

    async def work(client: AgentClient) -> None:
        end = (await run_command(client, request_)).end
        assert end
        assert (end.status, end.kind) == (status, kind)

    with_agent(program, work)


def test_many_commands_one_after_the_other_and_at_once(program: Path) -> None:
    async def work(client: AgentClient) -> None:
        for number in range(200):
            output = await run_command(client, GuestRequest("exec", ["echo", f"{number}"], env=PATH))
            assert output.out == f"{number}\n".encode()
        texts: dict[int, bytes] = {}

        async def keep(number: int) -> None:
            texts[number] = bytes((await run_command(client, shell(f"cat; echo {number}"), b"x" * 70_000)).out)

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(keep, number)
        assert texts == {number: b"x" * 70_000 + f"{number}\n".encode() for number in range(40)}

    with_agent(program, work)


def test_more_commands_than_channels_are_refused(program: Path) -> None:
    async def work(client: AgentClient) -> None:
        channels = [await client.open(shell("exec sleep 100")) for _ in range(70)]
        ends = [await channel.wait() for channel in channels[64:]]
        assert {end.kind for end in ends} == {ExitKind.FAULT}
        for channel in channels:
            await channel.close()
        assert (await run_command(client, shell("exit 4"))).end

    with_agent(program, work)


def test_a_command_waits_for_a_slow_reader(program: Path) -> None:
    """Its output is neither lost nor kept in memory beyond the window."""

    async def work(client: AgentClient) -> None:
        async with channel_of(client, shell("head -c 4000000 /dev/zero; echo done >&2")) as channel:
            await anyio.sleep(0.3)
            assert await channel.receive(StreamNumber.OUT)
            with anyio.move_on_after(0.2):
                assert not await channel.receive(StreamNumber.ERR), "it should wait for its standard output"
            rest = 0
            while data := await channel.receive(StreamNumber.OUT):
                rest += len(data)
            assert rest > 3_000_000
            assert (await channel.wait()).status == 0

    with_agent(program, work)


def test_input_without_end_ends_with_the_command(program: Path) -> None:
    async def work(client: AgentClient) -> None:
        async with channel_of(client, shell("head -c 100000 >/dev/null; exit 9")) as channel:
            while await channel.send(b"y\n" * 5000):
                pass
            assert (await channel.wait()).status == 9

    with_agent(program, work)


def test_processes_left_behind_do_not_delay_an_end(program: Path) -> None:
    async def work(client: AgentClient) -> None:
        with anyio.fail_after(20):
            output = await run_command(client, shell("(while :; do echo more; sleep 0.01; done) & echo first; exit 5"))
        assert output.end
        assert output.end.status == 5
        assert output.out.startswith((b"first", b"more"))

    with_agent(program, work)


def test_a_terminal(program: Path) -> None:
    async def work(client: AgentClient) -> None:
        request = shell("trap 'stty size; exit 8' INT; tty; stty size; while :; do sleep 0.02; done")
        request = GuestRequest(request.verb, request.words, env=PATH, terminal=TerminalSize(33, 77))
        async with channel_of(client, request) as channel:
            text = b""
            while b"33 77" not in text:
                text += await channel.receive()
            await channel.resize(TerminalSize(11, 22))
            await channel.send(b"\x03")
            while data := await channel.receive():
                text += data
            assert b"11 22" in text
            assert (await channel.wait()).status == 8

    with_agent(program, work)


def test_a_signal(program: Path) -> None:
    async def work(client: AgentClient) -> None:
        async with channel_of(client, GuestRequest("exec", ["sleep", "100"], env=PATH)) as channel:
            await channel.signal(signal.SIGINT)
            assert (await channel.wait()).status == 130

    with_agent(program, work)


def test_commands_see_neither_the_agent_nor_its_files(program: Path) -> None:
    text = "cat /proc/[0-9]*/comm; ls -l /proc/1/fd /proc/self/fd; tr '\\0' ' ' </proc/1/environ"

    async def work(client: AgentClient) -> None:
        output = await run_command(client, shell(text))
        assert b"agent" not in output.out.replace(b"bootmatrix-kee", b"")
        assert b"socket:" not in output.out
        assert b"Permission denied" in output.err, "the keeper's descriptors and environment cannot be read"

    with_agent(program, work)


def make_tree(top: Path) -> None:
    (top / "a b" / "ü").mkdir(parents=True)
    (top / "a b" / "ü" / "data").write_bytes(random.Random(2).randbytes(700_000))
    (top / "empty").touch()
    (top / "run").write_text("#!/bin/sh\n", encoding="ascii")
    (top / "run").chmod(0o755)
    (top / "link").symlink_to("a b/ü/data")
    (top / "dangling").symlink_to("nothing")
    (top / "read-only").mkdir(mode=0o750)
    (top / "read-only" / "x").write_text("x", encoding="ascii")


def listed(top: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for path in sorted(top.rglob("*")):
        mode = stat.S_IFLNK if path.is_symlink() else path.lstat().st_mode
        data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(top))] = (mode, data)
    return found


def test_a_tree_goes_there_and_back(program: Path, tmp_path: Path) -> None:
    source, there, back = tmp_path / "source", tmp_path / "there", tmp_path / "back"
    source.mkdir()
    make_tree(source)

    async def work(client: AgentClient) -> None:
        limits = TreeLimits()
        os.mkfifo(source / "pipe")
        await commands.put(client, source, str(there), limits=limits)
        assert limits.skipped == [str(source / "pipe")]
        (source / "pipe").unlink()
        await commands.put(client, source, str(there))  # once more, over it
        assert await commands.get(client, str(there), back) == []
        await commands.put(client, source / "run", str(there), name="named")

    with_agent(program, work)
    assert listed(back) == listed(source)
    assert (there / "named").read_bytes() == (source / "run").read_bytes()
    assert (there / "run").stat().st_mtime == int((source / "run").stat().st_mtime)
    assert not list(tmp_path.glob(".bootmatrix-*"))


def test_files_that_cannot_be_fetched(program: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    os.mkfifo(there / "pipe")
    (there / "out").symlink_to("/etc/passwd")
    (there / "large").write_bytes(bytes(3 << 20))
    (tmp_path / f"{PARTIAL}of-a-process-that-was-killed").mkdir()

    async def work(client: AgentClient) -> None:
        with pytest.raises(GuestFileError, match="a pipe"):
            await commands.get(client, str(there / "pipe"), back)
        with pytest.raises(GuestFileError, match="No such file"):
            await commands.get(client, str(there / "missing"), tmp_path / "no/such/folder")
        with pytest.raises(GuestFileError, match="more than 2 MiB"):
            await commands.get(client, str(there), back, limit_bytes=2 << 20)
        notes = await commands.get(client, str(there), back)
        assert sorted(note.split(": ")[1] for note in notes) == [
            "a link out of the tree is left out",
            "a pipe is left out",
        ]

    with_agent(program, work)
    assert sorted(path.name for path in back.iterdir()) == ["large"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "there"]


def test_what_cannot_be_written_there(program: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="ascii")

    async def work(client: AgentClient) -> None:
        with pytest.raises(InputError, match=r"File exists|Not a directory"):
            await commands.put(client, tmp_path / "file", "/etc/passwd/below/it")
        with pytest.raises(InputError, match="more than 1 files"):
            await commands.put(client, tmp_path, str(tmp_path / "there"), limits=TreeLimits(files=1))
        with pytest.raises(InputError, match="more than 0 MiB"):
            await commands.put(client, tmp_path / "file", str(tmp_path / "there"), limits=TreeLimits(bytes=0))
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match="not a file or folder"):
            await commands.put(client, tmp_path / "pipe", str(tmp_path / "there"))

    with_agent(program, work)


def test_a_tree_that_is_too_large_is_told_with_its_largest_part(tmp_path: Path) -> None:
    for name, count, size in (("many", 5, 0), ("large", 2, 1 << 20), ("plain", 1, 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / str(number)).write_bytes(bytes(size))
    check_tree(tmp_path, TreeLimits())
    for limits, words in ((TreeLimits(files=10), "10 files"), (TreeLimits(bytes=1 << 20), "1 MiB")):
        with pytest.raises(InputError) as caught:
            check_tree(tmp_path, limits)
        part = "many" if "files" in words else "large"
        assert caught.value.message == f"{tmp_path}: more than {words} to copy into the guest, most of them in {part}"


def test_a_file_that_cannot_be_read_is_named_before_anything_is_sent() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "a").write_text("x", encoding="ascii")
        (Path(folder) / "secret").touch(mode=0)
        child = os.fork()
        if not child:
            if not os.geteuid():
                os.setuid(65534)
            try:
                next(tree_records(Path(folder), TreeLimits()))
            except InputError as error:
                os._exit(0 if error.message == f"{folder}/secret: Permission denied" else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0


def sent(folder: Path, known: Known) -> dict[str, tuple[int, bytes]]:
    """Return the time and content of each file that is sent into a guest."""
    found: dict[str, tuple[int, bytes]] = {}
    record = None
    for item in RecordReader().feed(b"".join(tree_records(folder, TreeLimits(), known))):
        if isinstance(item, bytes):
            assert record
            found[record.path] = record.mtime_s, item
        else:
            record = item
    return found


def test_a_file_is_sent_again_if_another_has_its_size_and_time(tmp_path: Path) -> None:
    known: Known = {}
    for content in (b"one", b"two"):  # as archives and `cp -p` write them
        (tmp_path / "program").write_bytes(content)
        os.utime(tmp_path / "program", (1000, 1000))
        assert sent(tmp_path, known) == {"program": (1000, content)}
        assert not sent(tmp_path, known)


def test_a_file_that_is_sent_later_is_newer_than_what_was_made_of_it(tmp_path: Path) -> None:
    known: Known = {}
    for name, time_s in (("first", 1000), ("later", 1001)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, ns=(0, 1000_600_000_000))
        assert sent(tmp_path, known) == {name: (time_s, b"x")}


@pytest.fixture
def echo() -> int:
    """The port of a server that sends back what it gets while it gets it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            while True:
                end, _ = listener.accept()
                threading.Thread(target=send_back, args=(end,), daemon=True).start()

    def send_back(end: socket.socket) -> None:
        with end, suppress(OSError):
            while data := end.recv(65536):
                end.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def test_a_port_is_forwarded_both_ways_at_once(program: Path, echo: int) -> None:
    data = random.Random(3).randbytes(2_000_000)

    async def work(client: AgentClient) -> None:
        async with forwarded(client, "tcp", f"{echo}") as address:
            assert address.host == "127.0.0.1"
            async with (
                await anyio.connect_tcp(address.host, address.port) as stream,
                anyio.create_task_group() as tasks,
            ):
                received = bytearray()

                async def receive() -> None:
                    async for part in stream:
                        received.extend(part)

                tasks.start_soon(receive)
                await stream.send(data)
                await stream.send_eof()
            assert bytes(received) == data

    with_agent(program, work)


def test_a_connection_that_is_broken_off_ends_no_others(program: Path, echo: int) -> None:
    async def work(client: AgentClient) -> None:
        async with forwarded(client, "tcp", f"{echo}") as address:
            for _ in range(2):
                stream = await anyio.connect_tcp(address.host, address.port)
                await stream.send(b"x" * 1_000_000)
                end = stream.extra(SocketAttribute.raw_socket)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets it
                await stream.aclose()
            async with await anyio.connect_tcp(address.host, address.port) as stream:
                await stream.send(b"still there")
                assert await stream.receive() == b"still there"

    with_agent(program, work)


def test_requests_are_answered_by_the_host(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr(serve, "PORT", port)
    asked: list[bytes] = []

    def answer(head: bytes) -> Response:
        asked.append(head)
        return Response("200 OK", b"x" * 300_000)

    def fetch() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/a", timeout=30) as reply:
            return len(reply.read())

    async def work(client: AgentClient) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve.serve_http, client, answer)
            with anyio.fail_after(30):
                while True:
                    try:
                        await (await anyio.connect_tcp("127.0.0.1", port)).aclose()  # a client that says nothing
                        break
                    except OSError:
                        await anyio.sleep(0.05)
            assert await anyio.to_thread.run_sync(fetch) == 300_000
            assert await anyio.to_thread.run_sync(fetch) == 300_000
            tasks.cancel_scope.cancel()
        assert len(asked) == 2
        assert asked[0].startswith(b"GET /a HTTP/1.1\r\n")

    with_agent(program, work)


def test_a_port_where_nobody_listens(program: Path) -> None:
    async def work(client: AgentClient) -> None:
        with pytest.raises(ConnectionRefusedError):
            async with connection(client, "tcp", "1"):
                pass
        with pytest.raises(ConnectionRefusedError):
            async with connection(client, "unix", "/nowhere"):
                pass

    with_agent(program, work)


def test_a_local_port_that_is_taken(program: Path, echo: int) -> None:
    async def work(client: AgentClient) -> None:
        with pytest.raises(InputError, match="cannot be used"):
            async with forwarded(client, "tcp", "1", local_port=echo):
                pass

    with_agent(program, work)


def test_what_is_no_agents_of_this_boot_answers_no_command() -> None:
    """Before the greeting, and what an agent that was killed left of a frame."""
    hello = greeting_token(NONCE) + Frame(FrameType.HELLO, 0, HELLO.pack(VERSION, 1 << 20, bytes(16))).encoded()
    half = Frame(FrameType.DATA, 7, bytes(60_000)).encoded()[:30_000]
    junk = Frame(FrameType.HELLO, 0, HELLO.pack(VERSION, 1 << 20, bytes(16))).encoded() + bytes(100_000) + b"\xff" * 99

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, anyio.fail_after(20):
            ours.setblocking(False)
            client = AgentClient(SocketWire(ours), NONCE)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.run)
                theirs.sendall(junk)
                await anyio.sleep(0.05)
                assert not client.greetings
                theirs.sendall(hello)
                channel = await client.open(shell("true"))
                theirs.sendall(half + hello)
                with pytest.raises(AgentError, match="started again"):
                    await channel.wait()
                channel = await client.open(shell("true"))
                answer = Frame(FrameType.EXIT, channel.number, EXIT.pack(ExitKind.STATUS, 3))
                theirs.sendall(answer.encoded())
                assert (await channel.wait()).status == 3
                tasks.cancel_scope.cancel()

    anyio.run(run)


def test_a_port_that_never_falls_silent_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.guest.wire.READ_BYTES", 1)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(bytes(1000))
            theirs.close()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(count)
                while await SocketWire(ours).receive():
                    pass
                tasks.cancel_scope.cancel()

    anyio.run(run)
    assert turns > 500


def test_a_sender_that_is_cancelled_leaves_no_half_of_a_frame(program: Path) -> None:
    """Its agent reads nothing meanwhile, so that the socket is full."""

    async def run() -> None:
        async with running(program) as (client, process):
            async with channel_of(client, shell("sleep 100")) as channel:
                await anyio.sleep(0.1)
                process.send_signal(signal.SIGSTOP)
                with anyio.move_on_after(0.3) as scope:
                    while await channel.send(bytes(60_000)):
                        pass
                process.send_signal(signal.SIGCONT)
            assert scope.cancelled_caught
            with anyio.fail_after(20):
                output = await run_command(client, shell("cat"), b"still there")
            assert output.out == b"still there"

    anyio.run(run)


def test_an_agent_that_is_killed(program: Path) -> None:
    async def run() -> None:
        async with running(program) as (client, process):
            channel = await client.open(shell("sleep 100"))
            await anyio.sleep(0.2)
            process.kill()
            with anyio.fail_after(20), pytest.raises(AgentError):
                await channel.wait()
            with pytest.raises(AgentError):
                await client.open(shell("true"))

    anyio.run(run)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(FrameType.EXIT, 1),
        Frame(FrameType.DATA, 0, b"\0x"),
        Frame(FrameType.DATA, 1, b""),
        Frame(FrameType.DATA, 1, b"\1x"),
        Frame(FrameType.CREDIT, 1, b"\1\xff\xff\xff\xff"),
        Frame(FrameType.RESIZE, 1, b"\0"),
        Frame(FrameType.END, 1, b""),
    ],
)
def test_an_agent_ends_at_a_frame_that_is_not_allowed(program: Path, frame: Frame) -> None:
    async def run() -> None:
        async with running(program) as (client, process):
            channel = await client.open(shell("sleep 100"))
            await client.send(frame.type, channel.number if frame.channel else 0, frame.payload)
            with anyio.fail_after(20), pytest.raises(AgentError):
                await channel.wait()
            assert process.wait(20) == 1

    anyio.run(run)


def test_more_input_than_the_window_ends_the_agent(program: Path) -> None:
    async def run() -> None:
        async with running(program) as (client, process):
            channel = await client.open(shell("echo; sleep 100"))
            await channel.receive()
            frame = Frame(FrameType.DATA, channel.number, b"\0" + bytes(60_000)).encoded()
            with suppress(OSError):
                await client._wire.send(frame * 30)  # by itself, a client sends no more than it may
            assert process.wait(20) == 1

    anyio.run(run)
