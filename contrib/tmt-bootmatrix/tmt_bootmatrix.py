"""tmt's guests as guests of bootmatrix, by the line protocol of autopkgtest-virt-bootmatrix."""

from __future__ import annotations

import functools
import shlex
import subprocess
from typing import Any, Optional, Union
from urllib.parse import quote, unquote

import tmt
import tmt.guest
import tmt.log
import tmt.steps
import tmt.steps.provision
import tmt.utils
from tmt.container import container, field
from tmt.guest import RebootMode, TransferOptions
from tmt.package_managers.apt import Apt, AptEngine
from tmt.utils import Command, Path, ProvisionError, ShellScript
from tmt.utils.environment import Environment


@container
class BootmatrixGuestData(tmt.guest.GuestData):
    """The options of `how: bootmatrix`."""

    arch: str = field(default="x86_64", option="--arch", metavar="A[/MACHINE]", help="Architecture and machine.")
    kernel: str = field(default="6.1", option="--kernel", metavar="K", help="Name of the kernel.")
    image: str = field(default="debian", option=("-i", "--image"), metavar="IMAGE", help="Root of the guest.")
    memory: str = field(default="2G", option="--memory", metavar="SIZE", help="Memory of the guest.")
    server: str = field(
        default="autopkgtest-virt-bootmatrix", option="--server", metavar="PROGRAM", help="bootmatrix's server."
    )


@container
class ProvisionBootmatrixData(BootmatrixGuestData, tmt.steps.provision.ProvisionStepData):
    """The options of the step."""


class _Server:
    """A server with its one open testbed. It ends with this process, and the guest with it."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()
        self.ask("open")
        self.prefix = [unquote(word) for word in self.ask("print-execute-command")[0].split(",")]

    @property
    def is_alive(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None

    def ask(self, *words: str) -> list[str]:
        """Send a command, and return the words of its answer."""
        assert self._process.stdin
        try:
            self._process.stdin.write(" ".join(map(quote, words)) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ProvisionError("bootmatrix's server has ended.") from error
        return self._answer()

    def copy(self, direction: str, source: str, target: str) -> None:
        """Copy a file, or a folder if both end in a slash: `copydown` into the guest, `copyup` out of it."""
        self.ask(direction, source, target)

    def close(self) -> None:
        """Stop the guest."""
        if self.is_alive:
            self.ask("quit")
        self._process.wait()

    def _answer(self) -> list[str]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line.startswith("ok"):
            raise ProvisionError(f"bootmatrix's server failed with status {self._process.wait()}; see its message.")
        return line.split()[1:]


class _InstalledFiles(AptEngine):
    """Finds the packages of paths among those that are installed: apt-file would need lists that are not served."""

    def _enable_apt_file(self) -> ShellScript:
        return ShellScript('apt-file() { dpkg --search "$3" | cut -d: -f1; }')


class _InstalledFilesApt(Apt):
    _engine_class = _InstalledFiles


class GuestBootmatrix(tmt.Guest):
    """A guest of a machine and kernel, which runs as long as tmt."""

    _data_class = BootmatrixGuestData

    arch: str
    kernel: str
    image: str
    memory: str
    server: str
    _server: Optional[_Server] = None

    @functools.cached_property
    def package_manager(self) -> Any:
        """The package manager; apt without apt-file."""
        found = super().package_manager
        return _InstalledFilesApt(guest=self, logger=self._logger) if isinstance(found, Apt) else found

    @property
    def is_ready(self) -> bool:
        """True while it runs."""
        return self._server is not None and self._server.is_alive

    def start(self) -> None:
        """Boot it."""
        if self.is_dry_run:
            return
        options = ["--arch", self.arch, "--kernel", self.kernel, "--root", self.image, "--memory", self.memory]
        self.primary_address = self.topology_address = f"{self.image}/{self.arch}/{self.kernel}"
        self.verbose("guest", self.primary_address, "green")
        try:
            self._server = _Server([self.server, *options])
        except OSError as error:
            raise ProvisionError(f"Cannot start '{self.server}': {error.strerror}. Is bootmatrix in PATH?") from error

    def execute(
        self,
        command: Union[Command, ShellScript],
        cwd: Optional[Path] = None,
        environment: Optional[Environment] = None,
        friendly_command: Optional[str] = None,
        test_session: bool = False,
        immediately: bool = True,
        tty: bool = False,
        silent: bool = False,
        log: Optional[tmt.log.VerboseLoggingFunction] = None,
        interactive: bool = False,
        sourced_files: Optional[list[Path]] = None,
        **kwargs: Any,
    ) -> tmt.utils.CommandOutput:
        """Run a command by bash."""
        if self.is_dry_run:
            return tmt.utils.CommandOutput(stdout=None, stderr=None)
        script = ShellScript.from_scripts(self._prepare_command_environment(environment).to_shell_exports())
        if cwd is not None:
            script += ShellScript(f"cd {shlex.quote(str(cwd))}")
        for file in sourced_files or []:
            script += ShellScript(f"source {shlex.quote(str(file))}")
        script += command.to_script() if isinstance(command, Command) else command
        return self._run_guest_command(
            Command(*self._running().prefix) + script.to_shell_command(),
            friendly_command=friendly_command or str(command),
            silent=silent,
            interactive=interactive,
            log=log,
            **kwargs,
        )

    def push(
        self,
        source: Optional[Path] = None,
        destination: Optional[Path] = None,
        options: Optional[TransferOptions] = None,
        superuser: bool = False,
    ) -> None:
        """Copy files into it; by default the plan's folder."""
        if not self.is_ready:
            return
        here = source or self.plan_workdir
        there = destination or here
        slash = "/" if here.is_dir() else ""
        self._running().copy("copydown", f"{here}{slash}", f"{there}{slash}")
        if options and options.chmod:
            self.execute(Command("chmod", f"{options.chmod:o}", there), silent=True)

    def pull(
        self,
        source: Optional[Path] = None,
        destination: Optional[Path] = None,
        options: Optional[TransferOptions] = None,
    ) -> None:
        """Copy files out of it; by default the plan's folder. Links that lead out of a folder are left out."""
        if not self.is_ready:
            return
        there = source or self.plan_workdir
        here = destination or there
        is_folder = source is None or self._is_folder(there)
        slash = "/" if is_folder else ""
        self._running().copy("copyup", f"{there}{slash}", f"{here}{slash}")

    def stop(self) -> None:
        """Stop it; nothing of it is kept."""
        if self._server:
            self._server.close()
            self._server = None

    def remove(self) -> None:
        """Stop it."""
        self.stop()

    def reboot(
        self,
        mode: RebootMode = RebootMode.SOFT,
        command: Optional[Union[Command, ShellScript]] = None,
        waiting: Optional[Any] = None,
    ) -> bool:
        """Refuse: its files are in its memory."""
        raise ProvisionError("Guests of bootmatrix do not keep their files over a reboot.")

    def _run_ansible(self, *args: Any, **kwargs: Any) -> tmt.utils.CommandOutput:
        raise ProvisionError("Ansible cannot reach guests of bootmatrix.")

    def _is_folder(self, path: Path) -> bool:
        return subprocess.run([*self._running().prefix, "test", "-d", str(path)], check=False).returncode == 0

    def _running(self) -> _Server:
        if self._server is None:
            raise ProvisionError("The guest does not run: guests of bootmatrix end with the tmt that started them.")
        return self._server


@tmt.steps.provides_method("bootmatrix")
class ProvisionBootmatrix(tmt.steps.provision.ProvisionPlugin[ProvisionBootmatrixData]):
    """
    Provision a guest of any architecture and kernel with bootmatrix, under emulation.

    .. code-block:: yaml

        provision:
            how: bootmatrix
            arch: s390x
            kernel: "7.2"
    """

    _data_class = ProvisionBootmatrixData
    _guest_class = GuestBootmatrix
    _guest = None

    def go(self, *, logger: Optional[tmt.log.Logger] = None) -> None:
        """Boot the guest."""
        super().go(logger=logger)
        data = BootmatrixGuestData.from_plugin(self)
        data.show(verbose=self.verbosity_level, logger=self._logger)
        if data.hardware and data.hardware.constraint:
            self.warn("The 'bootmatrix' provision plugin does not support hardware requirements.")
        self._guest = GuestBootmatrix(logger=self._logger, data=data, name=self.name, parent=self.step)
        self._guest.start()
        self._guest.setup()
