"""A worker on a host: tool sent, ports forwarded both ways, held."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import asyncssh

from bootmatrix.cloud.ssh import HostFault, connected
from bootmatrix.errors import InfraError
from bootmatrix.execute.dask.bundle import LIMIT_BYTES
from bootmatrix.execute.dask.hosts.tool import PROBE, own_platform, own_versions, tool_archive
from bootmatrix.execute.dask.offers import programs_of
from bootmatrix.execute.dask.process import HeldWorker, Hello
from bootmatrix.execute.dask.security import LOOPBACK, RunKeys
from bootmatrix.model.cluster import ARCHIVE, Host
from bootmatrix.model.remote import ToWorker, WorkerSettings
from bootmatrix.model.run_config import RunConfig
from bootmatrix.store import Store

END_S = 9.0
MODULE = "bootmatrix.cli.worker_process"
COMMAND_S = 60.0
UNPACK = "import sys,tarfile;tarfile.open(sys.argv[1]).extractall(sys.argv[2])"
OLD_DAYS = 30
"""Tools of other versions that were not used for so long are removed."""


class SshPipe:
    """The standard streams of a remote process."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process

    async def readline(self) -> bytes:
        """Read a line of its standard output; empty when the connection is lost."""
        try:
            return await self._process.stdout.readline()
        except (asyncssh.Error, OSError):
            return b""

    def write(self, data: bytes) -> None:
        """Write to its standard input; the end of its output tells of a lost connection."""
        with suppress(OSError, asyncssh.Error):
            self._process.stdin.write(data)


@dataclass(frozen=True)
class HostSession:
    """A worker that runs on a host."""

    host: Host
    worker: HeldWorker
    hello: Hello
    sftp: asyncssh.SFTPClient

    async def put(self, sha256: str, path: Path) -> None:
        """Send an artefact into the worker's folder.

        Raises InfraError if it cannot be sent, or the disk there is full.
        """
        target = f"{self.hello.folder}/incoming/{sha256}"
        try:
            await self.sftp.put(str(path), target)
        except (asyncssh.Error, OSError) as error:
            with suppress(asyncssh.Error, OSError):
                await self.sftp.remove(target)
            raise InfraError(f"cannot write {path.stat().st_size >> 20} MiB there: {error}") from error

    async def get(self, bundle: str, target: Path) -> None:
        """Fetch a bundle and remove it there. Raises InfraError on failure."""
        name = PurePosixPath(bundle).name
        source = f"{self.hello.folder}/{name}"
        try:
            size_bytes = await self.sftp.getsize(source)
            if size_bytes is None or size_bytes > LIMIT_BYTES:
                raise InfraError(f"the bundle {name} is too large")
            await self.sftp.get(source, str(target))
            await self.sftp.remove(source)
        except (asyncssh.Error, OSError) as error:
            raise InfraError(f"cannot fetch the bundle {name}: {error}") from error


@dataclass(frozen=True)
class ClientAccess:
    """The client's end of hosts: scheduler's keys and port, store, QEMUs."""

    keys: RunKeys
    port: int
    store: Store
    programs: tuple[str, ...]

    @classmethod
    def of(cls, config: RunConfig, scheduler: str, keys: RunKeys) -> Self:
        """Make the client's end of a run with a scheduler."""
        return cls(keys, int(urlsplit(scheduler).port or 0), Store(config.sources.cache), programs_of(config))


@asynccontextmanager
async def host_session(host: Host, client: ClientAccess, instance: str) -> AsyncIterator[HostSession]:
    """Run a worker on a host within the context.

    Raises HostFault if it cannot be reached, or lacks something; HostError if the worker does not start.
    """
    async with connected(host) as connection, connection.start_sftp_client() as sftp:
        prefix = await _tool(host, connection, sftp, client.store)
        listener = await connection.forward_remote_port(LOOPBACK, 0, LOOPBACK, client.port)
        command = f"exec {prefix}{shlex.quote(host.python)} -m {MODULE}"
        async with _process(connection, command) as process:
            worker = HeldWorker(SshPipe(process))
            hello = await _start(worker, process, _settings(host, client, listener.get_port(), instance))
            forward = await connection.forward_local_port(LOOPBACK, 0, LOOPBACK, hello.port)
            worker.send(ToWorker(kind="contact", address=f"tls://{LOOPBACK}:{forward.get_port()}"))
            yield HostSession(host, worker, hello, sftp)


def _settings(host: Host, client: ClientAccess, port: int, instance: str) -> WorkerSettings:
    return WorkerSettings(
        scheduler=f"tls://{LOOPBACK}:{port}",
        certificate=client.keys.certificate,
        key=client.keys.key,
        host=host.name,
        instance=instance,
        cache=host.cache,
        exchange=host.exchange,
        from_archive=host.fetch == ARCHIVE,
        cores=host.slots,
        labels=host.labels,
        store_mib=host.store_mib,
        programs=client.programs,
    )


async def _start(worker: HeldWorker, process: asyncssh.SSHClientProcess[bytes], settings: WorkerSettings) -> Hello:
    try:
        return await worker.start(settings)
    except InfraError as error:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                words = await process.stderr.read(2000)
            last = words.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise HostFault(f"{error.message} {' '.join(last)[:300]}".strip()) from error
        raise


@asynccontextmanager
async def _process(
    connection: asyncssh.SSHClientConnection, command: str
) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
    """Run a command. Its input ends with the context, which ends a worker."""
    process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(command, encoding=None)
    try:
        yield process
    finally:
        with anyio.move_on_after(END_S, shield=True), suppress(OSError, asyncssh.Error):
            process.stdin.write_eof()
            await process.wait_closed()


async def _tool(host: Host, connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient, store: Store) -> str:
    """Find or send the tool; return what stands before Python."""
    version, platform, versions = await _probe(host, connection)
    if versions == own_versions():
        return ""
    if (version, platform) != own_platform():
        have = f"Python {'.'.join(map(str, version))} on {platform}"
        need = f"Python {'.'.join(map(str, own_platform()[0]))} on {own_platform()[1]}"
        hint = f"Install 'bootmatrix[dask]' {own_versions().split()[0]} there, and name its Python: 'python: …'."
        raise HostFault(f"{have} needs another tool than this {need}", hint, is_lasting=True)
    digest, path = await anyio.to_thread.run_sync(tool_archive, store)
    folder = f"{host.cache}/tool/{digest[:32]}"
    if not await sftp.isdir(folder):
        await _send_tool(host, connection, sftp, path, folder)
    return f"env PYTHONPATH={shlex.quote(folder)} "


async def _send_tool(
    host: Host, connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient, path: Path, folder: str
) -> None:
    part = f"{folder}.{asyncio.get_running_loop().time():.6f}"
    try:
        await sftp.makedirs(f"{host.cache}/tool", exist_ok=True)
        await sftp.put(str(path), f"{part}.tar.gz")
    except (asyncssh.Error, OSError) as error:
        with suppress(asyncssh.Error, OSError):
            await sftp.remove(f"{part}.tar.gz")
        raise HostFault(f"cannot send the tool to {host.cache}: {error}") from error
    words = [host.python, "-c", UNPACK, f"{part}.tar.gz", part]
    old = f"find {shlex.quote(f'{host.cache}/tool')} -mindepth 1 -maxdepth 1 -mtime +{OLD_DAYS} -exec rm -rf {{}} +"
    script = (
        f"{shlex.join(words)} && {{ mv -T {shlex.quote(part)} {shlex.quote(folder)} || rm -rf {shlex.quote(part)}; }}; "
        f"status=$?; rm -f {shlex.quote(f'{part}.tar.gz')}; {old}; exit $status"
    )
    await run_command(connection, f"sh -c {shlex.quote(script)}", "cannot unpack the tool")


async def _probe(host: Host, connection: asyncssh.SSHClientConnection) -> tuple[list[int], str, str]:
    command = f"{shlex.quote(host.python)} -c {shlex.quote(PROBE)}"
    text = await run_command(connection, command, f"{host.python} does not run")
    try:
        version, platform, versions = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise HostFault(f"{host.python} answered {text[:200]!r}", is_lasting=True) from error
    if tuple(version) < (3, 11):
        hint = "Install Python 3.11 or later there, and name it: 'python: …'."
        raise HostFault(f"{host.python} is {'.'.join(map(str, version))}", hint, is_lasting=True)
    return version, platform, versions


async def run_command(connection: asyncssh.SSHClientConnection, command: str, fault: str) -> str:
    """Run a command on a host; return its output.

    Raises HostFault if it fails. A connection that is lost has no exit status.
    """
    try:
        done = await connection.run(
            command, timeout=COMMAND_S, stdin=asyncssh.DEVNULL, encoding="utf-8", errors="replace"
        )
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise HostFault(f"{fault}: {error or type(error).__name__}") from error
    if done.exit_status is None:
        raise HostFault(f"{fault}: the connection was lost")
    if done.exit_status:
        words = str(done.stderr or done.stdout or "").strip().splitlines()[-1:]
        raise HostFault(f"{fault}: {' '.join(words)[:300]} (exit status {done.exit_status})", is_lasting=True)
    return str(done.stdout or "")
