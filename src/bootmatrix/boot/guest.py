"""One boot: make its channels, start QEMU, and follow the guest to its end."""

import secrets
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread

from bootmatrix.boot import diagnosis
from bootmatrix.boot.collect import CollectLimits
from bootmatrix.boot.deadlines import PhaseClock
from bootmatrix.boot.observation import Hold, Observation
from bootmatrix.boot.protocol import Conversation
from bootmatrix.console.log import ConsoleLog
from bootmatrix.fsio import create_plain
from bootmatrix.guest.client import AgentClient
from bootmatrix.model import Bootable, Machine, Outcome, Phase, Timeouts
from bootmatrix.qemu.cgroup import bounded
from bootmatrix.qemu.command import Descriptors, for_cell, for_fork
from bootmatrix.qemu.disk import WRITES_BYTES, private_copy, scratch_disk
from bootmatrix.qemu.outbound import outbound_network
from bootmatrix.qemu.process import running
from bootmatrix.qemu.transport import open_wires
from bootmatrix.qemu.version import find_qemu
from bootmatrix.runs.run_store import CONSOLE_FILE
from bootmatrix.snapshot.clone import COPY_BEGINS, copy_files, wake_up
from bootmatrix.snapshot.snapshot import Snapshot


def ignore(_: Phase) -> None:
    """Do nothing when a phase begins."""


async def boot(  # noqa: PLR0913
    machine: Machine,
    bootable: Bootable,
    timeouts: Timeouts,
    folder: Path,
    on_phase: Callable[[Phase], None] = ignore,
    *,
    snapshot: Snapshot | None = None,
    dump: bool = False,
    attach: Callable[[AgentClient], None] | None = None,
    limits: CollectLimits | None = None,
    hold: Hold | None = None,
) -> Outcome:
    """Boot a guest and follow it to its end; its console is `folder`/console.log.

    With a `snapshot` the guest is a copy that continues from there. `folder`/diagnosis has the diagnosis of a guest
    that hangs, panics or times out; with `dump` also its memory. `attach` gets the client of the guest's agent, if the
    bootable has one, before the boot. `limits` are of result files that the agent sends to `folder`/files. `hold` uses
    a guest with such an agent after its failure. No QEMU outlives this function, or this process.

    Raises HostError if QEMU cannot be started, InputError if the guest's disk has changed since it was digested,
    OSError if the console cannot be written.
    """
    nonce = secrets.token_hex(16)
    has_port = machine.result == "virtio-serial"
    has_agent_port = has_port and bool(bootable.agent)
    await anyio.to_thread.run_sync(partial(shutil.rmtree, folder / diagnosis.FOLDER, ignore_errors=True))
    program = str(find_qemu(machine))
    async with _network(bootable) as network:
        with ExitStack() as stack:
            file = stack.enter_context(create_plain(folder / CONSOLE_FILE, buffering=0))
            log = stack.enter_context(ConsoleLog(file, nonce.encode("ascii"), proof=bootable.proof))
            wires, theirs = stack.enter_context(open_wires(has_port, has_agent_port))
            count = sum(len(entry.paths) for entry in bootable.results)
            seen = Observation(machine, wires, log, Conversation(nonce, wires.result is None, count), folder)
            seen.dump, seen.proof = dump, bootable.proof
            seen.clock = PhaseClock(machine, bootable, timeouts, on_phase)
            _use_agent(seen, bootable.agent, nonce, attach, hold)
            if bootable.agent in {"collect", "hold"} and has_agent_port:
                seen.collect(nonce, folder, limits or CollectLimits())
            disk = stack.enter_context(private_copy(bootable.disk, folder)) if bootable.disk else ()
            scratch = await _scratch(machine, folder, stack)
            files = stack.enter_context(copy_files(snapshot, bootable)) if snapshot else None
            if snapshot and files:
                seen.resume(snapshot.console + COPY_BEGINS, files.state, wake_up())
                command = for_fork(machine, bootable, _descriptors(theirs, (), has_agent_port), files, program)
            else:
                descriptors = _descriptors(theirs, disk, has_agent_port, network, scratch)
                command = for_cell(machine, bootable, descriptors, program)
            ends = (*theirs, *disk, *network, *scratch)
            inherited = [*(end.fileno() for end in ends), *(files.numbers if files else ())]
            bound = stack.enter_context(bounded(machine))
            starting = running(
                command.arguments, inherited, machine, bound, wires.console, WRITES_BYTES if disk or scratch else 0
            )
            async with starting as process:
                for end in (*theirs, *network):
                    end.close()
                await seen.follow(process)
            seen.bound_fault = bound.fault()
    return _outcome(seen, folder)


async def _scratch(machine: Machine, folder: Path, stack: ExitStack) -> tuple[IO[bytes], ...]:
    """Make the guest's scratch disk, if it has one; the stack removes it."""
    if not machine.scratch_mib:
        return ()
    return await anyio.to_thread.run_sync(partial(stack.enter_context, scratch_disk(machine.scratch_mib, folder)))


def _use_agent(
    seen: Observation, purpose: str, nonce: str, attach: Callable[[AgentClient], None] | None, hold: Hold | None
) -> None:
    """Connect to the guest's agent if somebody uses it."""
    if purpose == "hold" and hold:
        seen.hold(nonce, hold)
    elif purpose == "serve" and attach:
        attach(seen.connect_agent(nonce))


def _outcome(seen: Observation, folder: Path) -> Outcome:
    if seen.broken:
        raise seen.broken
    if seen.is_stuck():
        seen.diagnostics = (diagnosis.keep_screen(folder), *seen.diagnostics)
    return seen.outcome()


@asynccontextmanager
async def _network(bootable: Bootable) -> AsyncIterator[tuple[socket.socket, ...]]:
    """Start an outbound guest's network; yield QEMU's end."""
    if not bootable.outbound:
        yield ()
        return
    async with outbound_network() as end:
        yield (end,)


def _descriptors(
    theirs: list[socket.socket],
    disk: Iterable[IO[bytes]],
    has_agent: bool,
    network: tuple[socket.socket, ...] = (),
    scratch: Iterable[IO[bytes]] = (),
) -> Descriptors:
    monitor, *ports = (end.fileno() for end in theirs)
    agent = ports.pop() if has_agent else None
    return Descriptors(
        monitor,
        ports[0] if ports else None,
        tuple(file.fileno() for file in disk),
        agent,
        network[0].fileno() if network else None,
        tuple(file.fileno() for file in scratch),
    )
