"""SSH connections, with the faults of SSH in plain words."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bootmatrix.errors import HostError
from bootmatrix.model.cluster import Host, SshTarget

try:
    import asyncssh
except ImportError as missing:
    raise HostError("SSH needs asyncssh", "pip install 'bootmatrix[dask]'") from missing

CONNECT_S = 15.0
KEEPALIVE_S, KEEPALIVES = 3, 3
"""A link that was cut is noticed after 9 to 12 s."""


class HostFault(HostError):
    """An unusable host; `is_lasting`: another attempt would fail alike."""

    def __init__(self, message: str, hint: str = "", *, is_lasting: bool = False) -> None:
        super().__init__(message, hint)
        self.is_lasting = is_lasting


@asynccontextmanager
async def connected(host: Host) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect to a host, through its jump hosts.

    Raises HostFault if it cannot be reached, or one side does not trust the other.
    """
    async with AsyncExitStack() as stack:
        tunnel: asyncssh.SSHClientConnection | None = None
        for target in (*host.jump, host):
            tunnel = await stack.enter_async_context(await _connect(target, tunnel))
        assert tunnel
        yield tunnel


def _is_known(target: SshTarget, file: str) -> bool:
    """Return whether a file of known hosts has any key of a server."""
    try:
        keys, authorities, *_ = asyncssh.read_known_hosts(str(Path(file).expanduser())).match(
            target.address, "", target.port
        )
    except (OSError, ValueError, UnicodeError):
        return False
    return bool(keys or authorities)


async def _connect(target: SshTarget, tunnel: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
    place = f"{target.address}:{target.port}"
    options = {
        "port": target.port,
        "connect_timeout": CONNECT_S,
        "login_timeout": CONNECT_S,
        "keepalive_interval": KEEPALIVE_S,
        "keepalive_count_max": KEEPALIVES,
        "preferred_auth": "publickey",
        **({"username": target.user} if target.user else {}),
        **({"client_keys": [target.key], "agent_path": None} if target.key else {}),
        **({"known_hosts": target.known_hosts} if target.known_hosts else {}),
        **({"tunnel": tunnel} if tunnel else {}),
    }
    try:
        return await asyncssh.connect(target.address, **options)
    except asyncssh.HostKeyNotVerifiable as error:
        file = target.known_hosts or "~/.ssh/known_hosts"
        if not _is_known(target, file):
            hint = f"Log in once by ssh, or add its key to {file}: ssh-keyscan -p {target.port} {target.address}"
            raise HostFault(f"{place}: its host key is not known yet", hint, is_lasting=True) from error
        hint = f"If the host is new or was reinstalled, renew its entry in {file}; else somebody is in between."
        raise HostFault(f"{place}: its host key is not the known one", hint, is_lasting=True) from error
    except asyncssh.PermissionDenied as error:
        user = target.user or "you"
        hint = f"Put the public key into authorized_keys of {user} there, or name another 'key' or 'user'."
        raise HostFault(f"{place}: permission denied for {user}", hint, is_lasting=True) from error
    except asyncssh.KeyImportError as error:
        raise HostFault(f"{Path(target.key)}: not a private key: {error}", is_lasting=True) from error
    except (OSError, TimeoutError, asyncssh.Error) as error:
        raise HostFault(f"{place}: cannot connect: {error or type(error).__name__}") from error
