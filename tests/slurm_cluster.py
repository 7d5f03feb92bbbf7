"""A real Slurm of one node: munged, slurmctld and slurmd of Debian, for tests. It needs root."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from free_ports import free_port

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=5
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=3000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE
"""


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Run Slurm; yields the environment in which its commands find it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    conf = folder / "slurm.conf"
    ctld, slurmd = free_port(), free_port()
    conf.write_text(
        CONF.format(host=socket.gethostname(), folder=folder, cores=os.cpu_count(), ctld=ctld, slurmd=slurmd)
    )
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    munge = ["munged", "-F", "-f", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munge += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    commands = (
        munge,
        ["slurmctld", "-D", "-i", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    )
    programs = []
    try:
        for command in commands:
            file = (folder / f"{command[0]}.out").open("wb")
            leashed = ["setpriv", "--pdeathsig", "TERM", *command]
            programs.append(
                subprocess.Popen(leashed, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            )
            time.sleep(0.5)
        _wait_idle(environment, folder)
        yield environment
    finally:
        for program in reversed(programs):
            program.terminate()
        for program in reversed(programs):
            try:
                program.wait(10)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()


def jobs(environment: dict[str, str]) -> list[str]:
    """Jobs that wait or run."""
    done = subprocess.run(["squeue", "-h", "-o", "%i"], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def _wait_idle(environment: dict[str, str], folder: Path) -> None:
    for _ in range(300):
        done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False)
        if done.stdout.strip() == "idle":
            return
        time.sleep(0.2)
    logs = "\n".join(
        path.read_text(errors="replace")[-1500:] for path in (*folder.glob("*.log"), *folder.glob("*.out"))
    )
    raise AssertionError(f"Slurm does not start: {done.stdout} {done.stderr}\n{logs}")
