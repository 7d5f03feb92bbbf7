"""What is closed to a container by default, and what its spec gives up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bootmatrix.assembly.initrd.privileges import powers
from bootmatrix.assembly.initrd.runtime_config import runtime_config
from bootmatrix.judge import judge
from bootmatrix.model import Cell, Container, ContainerSettings, ImageConfig, Judgement, Record, Verdict
from bootmatrix.report.history_view import marks
from guests import make_bootable, make_machine, make_outcome

USUAL = ("/proc/sys", "/proc/sysrq-trigger", "/sys")
PROC = {"type": "proc", "source": "proc", "destination": "/p"}
BIND = {"type": "bind", "source": "/proc", "destination": "/run/p", "options": ["bind"]}


def settings(**keys: Any) -> ContainerSettings:
    return ContainerSettings.model_validate_json(json.dumps(keys))


def linux(**keys: Any) -> dict[str, Any]:
    image = ImageConfig(entrypoint=("/bin/run",))
    made: dict[str, Any] = runtime_config(Container(name="c", image="i"), settings(**keys), image, {})
    return {**made["linux"], "mounts": {one["destination"]: one for one in made["mounts"]}}


@pytest.mark.parametrize(
    ("keys", "paths"),
    [
        ({}, ["/proc/sys", "/proc/sysrq-trigger"]),
        ({"capabilities": ["CAP_NET_ADMIN"]}, ["/proc/sys/kernel", "/proc/sys/fs", "/proc/sysrq-trigger"]),
        ({"mounts": [{"type": "proc", "source": "p", "destination": "/p"}]}, ["/p/sys", "/p/sysrq-trigger"]),
        ({"mounts": [{"type": "sysfs", "source": "s", "destination": "/s"}]}, ["/s", "/s/fs/cgroup"]),
        ({"binds": ["/proc:/host/proc"]}, ["/host/proc/sys", "/host/proc/sysrq-trigger"]),
        ({"binds": ["//proc/:/host/proc"]}, ["/host/proc/sys"]),
        ({"binds": ["/proc/sys/kernel:/k"]}, ["/k"]),
        ({"binds": ["/dev/../proc/sys:/k"]}, ["/k"]),
        ({"binds": ["/sys:/host/sys"]}, ["/host/sys", "/host/sys/fs/cgroup"]),
        ({"binds": ["/sys/fs:/f"]}, ["/f", "/f/cgroup"]),
        ({"binds": ["/:/host"]}, ["/host/proc/sys", "/host/proc/sysrq-trigger", "/host/sys", "/host/sys/fs/cgroup"]),
        ({"binds": ["/proc/1/root:/r"]}, ["/r/proc/sys", "/r/sys"]),
        ({"binds": ["/proc/self/root/proc:/r"]}, ["/r/sys"]),
        ({"maskedPaths": []}, ["/proc/sys"]),
        # Of these a runtime passes "ro,sync" to the file system: it would be writable.
        ({"mounts": [{"type": "sysfs", "source": "s", "destination": "/sys", "options": ["ro,sync"]}]}, ["/sys"]),
        ({"mounts": [{**PROC, "options": ["hidepid=0,bind"]}]}, ["/p/sys", "/p/sysrq-trigger"]),
        ({"mounts": [{**BIND, "source": "/", "options": ["nosuid,rbind"]}]}, ["/run/p/proc/sys", "/run/p/sys"]),
    ],
)
def test_what_is_read_only(keys: dict[str, Any], paths: list[str]) -> None:
    assert set(paths) <= set(linux(**keys)["readonlyPaths"])


def test_the_network_is_configured_by_whoever_may() -> None:
    made = linux(capabilities=["CAP_NET_ADMIN"])
    assert not {"/proc/sys", "/proc/sys/net"} & set(made["readonlyPaths"])


@pytest.mark.parametrize("names", [["all"], ["CAP_SYS_ADMIN"]])
def test_nothing_is_closed_to_who_may_open_it(names: list[str]) -> None:
    made = linux(capabilities=names)
    assert not {"maskedPaths", "readonlyPaths"} & set(made)
    assert "ro" not in made["mounts"]["/sys"]["options"]


@pytest.mark.parametrize("name", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"])
def test_what_is_hidden(name: str) -> None:
    assert name in linux()["maskedPaths"]
    assert name not in linux(maskedPaths=[]).get("maskedPaths", [])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ()),
        ({"capabilities": ["CAP_NET_ADMIN", "CAP_CHOWN"], "pid": "host", "net": "host"}, ()),
        ({"capabilities": ["all"]}, ("all capabilities",)),
        ({"ambient": ["CAP_SYS_MODULE"]}, ("CAP_SYS_MODULE",)),
        ({"capabilities": ["CAP_SYS_PTRACE", "CAP_SYS_BOOT"]}, ("CAP_SYS_BOOT", "CAP_SYS_PTRACE")),
        ({"capabilities": ["CAP_MKNOD", "CAP_SYSLOG"]}, ("CAP_SYSLOG",)),
        ({"annotations": {"bootmatrix.pid1": "true"}}, ("process 1 of the guest",)),
        ({"readonlyPaths": []}, ("readonlyPaths of its own",)),
        ({"readonlyPaths": [*USUAL]}, ()),
        ({"readonlyPaths": ["/"]}, ("readonlyPaths of its own",)),
        ({"readonlyPaths": [*USUAL], "mounts": [PROC]}, ("readonlyPaths of its own",)),
        ({"readonlyPaths": [*USUAL], "binds": ["/proc:/p"]}, ("readonlyPaths of its own",)),
        ({"readonlyPaths": [*USUAL], "binds": ["/:/r", "/srv:/srv"]}, ("readonlyPaths of its own",)),
        ({"readonlyPaths": [*USUAL], "binds": ["/srv:/srv"]}, ()),
        ({"runtime": {"mounts": [{**PROC, "destination": "/run/p"}]}}, ("a runtime mount of type proc",)),
        ({"runtime": {"mounts": [{**PROC, "type": "cgroup"}]}}, ("a runtime mount of type cgroup",)),
        ({"runtime": {"mounts": [{**PROC, "type": "tmpfs"}]}}, ()),
        ({"runtime": {"mounts": [{**BIND, "destination": "p"}]}}, ("a runtime mount of /proc",)),
        ({"runtime": {"mounts": [BIND]}}, ()),
        ({"pid": "/proc/1/ns/pid"}, ("pid: /proc/1/ns/pid",)),
        ({"devices": [{"path": "all", "type": "b"}]}, ("all devices",)),
        ({"devices": [{"path": "/dev/m", "type": "c", "major": 1, "minor": 1}]}, ("the device /dev/m",)),
        ({"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]}, ()),
        ({"resources": {"devices": [{"allow": True}]}}, ("all devices",)),
        ({"resources": {"devices": [{"allow": False}]}}, ()),
        ({"resources": {"devices": [{"allow": True, "type": "c", "major": 1, "minor": 1}]}}, ("devices 1:1",)),
        ({"mounts": [{"type": "debugfs", "source": "d", "destination": "/d"}]}, ("a mount of type debugfs",)),
        ({"mounts": [{"type": "tmpfs", "source": "d", "destination": "/d"}]}, ()),
        ({"mounts": [{"type": "cgroup", "destination": "/c", "options": ["rw"]}]}, ("a mount of type cgroup",)),
        ({"mounts": [{"type": "debugfs", "source": "/x", "destination": "/d", "options": ["bind"]}]}, ()),
        (
            {"mounts": [{"type": "debugfs", "source": "d", "destination": "/d", "options": ["nosuid,bind"]}]},
            ("a mount of type debugfs",),
        ),
        ({"mounts": [{"type": "cgroup", "destination": "/c", "options": ["ro,sync"]}]}, ("a mount of type cgroup",)),
    ],
)
def test_what_a_spec_gives_up(keys: dict[str, Any], words: tuple[str, ...]) -> None:
    assert powers(settings(**keys)) == words


def test_no_source_has_parents_that_the_kernel_takes_otherwise() -> None:
    made = linux(binds=["/proc/net/../root:/r"], mounts=[{**BIND, "source": "/dev/fd/../root", "destination": "/d"}])
    assert made["mounts"]["/r"]["source"] == "/proc/root"
    assert made["mounts"]["/d"]["source"] == "/dev/root"


def test_a_pass_beside_privileged_containers_says_that_it_is_weaker() -> None:
    names = ("tester: CAP_SYS_ADMIN, all devices",)
    passed = judge(make_outcome(), make_machine(), make_bootable(privileged=names), b"")
    assert passed.verdict is Verdict.PASS
    assert passed.is_weak
    assert passed.privileged == names
    assert "privileged containers: weaker evidence: tester: CAP_SYS_ADMIN, all devices" in passed.reason
    assert [mark.kind for mark in marks(record_with(passed), None, None)] == ["privileged"]
    plain = judge(make_outcome(), make_machine(), make_bootable(), b"")
    assert not plain.is_weak
    assert "privileged" not in plain.reason


def record_with(judgement: Judgement) -> Record:
    cell = Cell(spec="s.yml", spec_name="s", arch="a", machine="m", machine_is_default=True, kernel="6.1")
    return Record(cell=cell, judgement=judgement, expected=True, started_at="2026-01-01T00:00:00+00:00", wall_s=1)
