"""The guest's agent as a program of the host, with sanitizers, and a client that talks to it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio

from bootmatrix.guest.client import AgentClient
from bootmatrix.guest.wire import SocketWire
from guest_program import FLAGS, SOURCES

MAIN = """
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "agent.h"
#include "agent_console.h"
#include "agent_keeper.h"
static void derive(const char *nonce, const char *label, uint8_t key[SHA256_BYTES])
{
	struct hmac_sha256 mac;
	hmac_sha256_init(&mac, nonce, strlen(nonce));
	hmac_sha256_update(&mac, label, strlen(label));
	hmac_sha256_final(&mac, key);
}
static int serve_console(int console, const char *nonce, uint8_t *token)
{
	uint8_t key[SHA256_BYTES];
	int ends[2];
	derive(nonce, "agent 1", key);
	socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(console);
		close(ends[0]);
		_exit(agent_serve(ends[1], ends[1], 8 << 10, token));
	}
	close(ends[1]);
	fcntl(console, F_SETFL, O_NONBLOCK);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	console_relay(console, ends[0], key, 100);
	return 0;
}
int main(int argc, char **argv)
{
	uint8_t token[SHA256_BYTES];
	if (strcmp(argv[0], KEEPER_NAME) == 0)
		return keeper_main(argc, argv);
	derive(argv[2], "agent", token);
	if (argc > 3)
		return serve_console(atoi(argv[1]), argv[2], token);
	return agent_serve(atoi(argv[1]), atoi(argv[1]), 1 << 18, token);
}
"""
NONCE = "0123456789abcdef0123456789abcdef"
PARTS = ("agent.c", "agent_[!s]*.c", "agent_serve.c", "agent_spawn.c", "base64.c", "frames.c", "sha256.c", "util.c")
LIMIT_S = 60
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=0", "UBSAN_OPTIONS": "abort_on_error=1"}


def compile_agent(folder: Path) -> Path:
    """Compile the agent."""
    (folder / "main.c").write_text(MAIN, encoding="ascii")
    files = [str(path) for part in PARTS for path in sorted(SOURCES.glob(part))]
    program = folder / "agent"
    command = ["gcc", *FLAGS, "-I", str(SOURCES), str(folder / "main.c"), *files, "-o", str(program)]
    subprocess.run(command, check=True, timeout=LIMIT_S * 5)
    return program


@contextmanager
def started(program: Path, *more: str) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """Start the agent, in namespaces of a user without rights if this user has none; the host's end of its channel."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    as_root = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    command = [*as_root, str(program), str(theirs.fileno()), NONCE, *more]
    process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), env=ENVIRONMENT, stderr=subprocess.PIPE)
    theirs.close()
    try:
        yield ours, process
    finally:
        ours.close()
        process.kill()
        process.wait(LIMIT_S)
        assert process.stderr
        complaint = process.stderr.read().decode()
        process.stderr.close()
    assert "Sanitizer" not in complaint, complaint


@asynccontextmanager
async def running(program: Path) -> AsyncIterator[tuple[AgentClient, subprocess.Popen[bytes]]]:
    """Run the agent with a client."""
    with started(program) as (ours, process):
        client = AgentClient(SocketWire(ours), NONCE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            yield client, process
            tasks.cancel_scope.cancel()


def with_agent(program: Path, work: Callable[[AgentClient], Awaitable[None]]) -> None:
    """Do work with a client of a running agent."""

    async def run() -> None:
        with anyio.fail_after(LIMIT_S):
            async with running(program) as (client, _):
                await work(client)

    try:
        anyio.run(run)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None
