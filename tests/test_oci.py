"""Containers' config.json, key by key, as LinuxKit makes it from its YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.assembly.initrd.runtime_config import DEFAULT_PATH, merged_settings, runtime_config
from bootmatrix.errors import BuildError
from bootmatrix.load.merge import load_spec
from bootmatrix.model import ImageConfig
from bootmatrix.model.image import LABEL
from bootmatrix.model.spec import CAPABILITIES

IDS = {"first": 100, "second": 101}
SETS = ("bounding", "effective", "inheritable", "permitted")


def config(yaml: str = "", label: Any = None, folder: Path | None = None, **image: Any) -> dict[str, Any]:
    """The config.json of a container with these lines of YAML, on an image with this label."""
    path = (folder or FOLDER[0]) / "spec.yml"
    lines = "".join(f"    {line}\n" for line in yaml.strip("\n").split("\n") if line)
    path.write_text(f"onboot:\n  - name: c\n    image: i\n{lines}")
    container = load_spec(path).onboot[0]
    labels = {LABEL: label if isinstance(label, str) else json.dumps(label)} if label is not None else {}
    described = ImageConfig(**{"cmd": ("/bin/run",), **image, "labels": labels})
    return runtime_config(container, merged_settings(container, described), described, IDS)


FOLDER: list[Path] = []


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path) -> None:
    FOLDER[:] = [tmp_path]


def mount(made: dict[str, Any], destination: str) -> dict[str, Any]:
    found = [one for one in made["mounts"] if one["destination"] == destination]
    assert len(found) == 1
    one: dict[str, Any] = found[0]
    return one


def namespaces(yaml: str) -> dict[str, str | None]:
    return {one["type"]: one.get("path") for one in config(yaml)["linux"]["namespaces"]}


def test_what_is_not_said_is_as_in_linuxkit_but_for_the_kernels_files() -> None:
    made = config()
    assert set(made) == {"ociVersion", "process", "root", "mounts", "linux"}
    assert made["root"] == {"path": "rootfs"}
    assert made["process"] == {
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/run"],
        "env": [DEFAULT_PATH],
        "cwd": "/",
        "capabilities": {},
    }
    closed = {name: made["linux"].pop(name) for name in ("maskedPaths", "readonlyPaths")}
    assert made["linux"] == {"resources": {}, "namespaces": [{"type": "pid"}, {"type": "mount"}]}
    assert {"/proc/kcore", "/sys/firmware"} <= set(closed["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(closed["readonlyPaths"])


def test_default_mounts() -> None:
    made = config()
    kinds = [(one["destination"], one["type"]) for one in made["mounts"]]
    assert kinds == [
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/sys/fs/cgroup", "cgroup"),
    ]
    assert {"mode=755", "size=65536k"} < set(mount(made, "/dev")["options"])
    assert "ro" in mount(made, "/sys/fs/cgroup")["options"]
    assert "ro" in mount(made, "/sys")["options"]
    assert "ro" not in mount(config("capabilities: [CAP_SYS_ADMIN]"), "/sys")["options"]


def test_readonly() -> None:
    made = config("readonly: true")
    assert made["root"]["readonly"] is True
    assert "ro" in mount(made, "/dev")["options"]
    assert "ro" in mount(made, "/sys")["options"]


@pytest.mark.parametrize(
    ("yaml", "label", "wanted"),
    [
        ("", None, []),
        ("capabilities: [none]", None, []),
        ("capabilities: [all]", None, list(CAPABILITIES)),
        ("capabilities: [CAP_KILL, CAP_CHOWN]", None, ["CAP_KILL", "CAP_CHOWN"]),
        ("", ["CAP_KILL"], ["CAP_KILL"]),
        ("capabilities: [CAP_CHOWN]", ["CAP_KILL"], ["CAP_CHOWN"]),
        ("capabilities: []", ["CAP_KILL"], []),
        ("capabilities: [none]", ["all"], []),
        ("capabilities.add: [CAP_CHOWN]", ["CAP_KILL"], ["CAP_KILL", "CAP_CHOWN"]),
        ("capabilities.add: [CAP_KILL]", ["CAP_KILL"], ["CAP_KILL"]),
        ("capabilities.add: [CAP_KILL]", ["none"], ["CAP_KILL"]),
        ("capabilities.add: [CAP_KILL]", ["all"], list(CAPABILITIES)),
    ],
)
def test_capabilities(yaml: str, label: list[str] | None, wanted: list[str]) -> None:
    made = config(yaml, {"capabilities": label} if label else None)["process"]["capabilities"]
    most = {name: sorted(wanted) for name in ("bounding", "inheritable", "permitted")}
    assert made == ({**most, "effective": wanted} if wanted else {})


def test_added_capabilities_and_binds_add_to_the_labels() -> None:
    label = {"capabilities": ["CAP_KILL"], "binds.add": ["/unused:/a"], "binds": ["/b:/b"]}
    made = config("capabilities.add: [CAP_CHOWN]\nbinds.add: ['/c:/c']", label)
    assert made["process"]["capabilities"]["effective"] == ["CAP_KILL", "CAP_CHOWN"]
    assert {one["destination"] for one in made["mounts"] if one["type"] == "bind"} == {"/b", "/c"}


def test_ambient_capabilities_are_bounding_too() -> None:
    made = config("ambient: [CAP_CHOWN]\ncapabilities: [CAP_KILL]")["process"]["capabilities"]
    assert made["ambient"] == ["CAP_CHOWN"]
    assert made["bounding"] == ["CAP_CHOWN", "CAP_KILL"]


@pytest.mark.parametrize("names", [["CAP_FLY"], ["KILL"], ["all", "CAP_KILL"], ["none", "all"]])
def test_unknown_capabilities_of_a_label(names: list[str]) -> None:
    with pytest.raises(BuildError, match="container c: unknown capability"):
        config(label={"capabilities": names})


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("no json", "JSON"),
        ('{"capabilites": []}', "capabilites"),
        ('{"readonly": "yes"}', "readonly"),
        ('{"name": "x"}', "name"),
        ("[]", "object"),
        ("null", "object"),
    ],
)
def test_faulty_labels_are_told(label: str, why: str) -> None:
    with pytest.raises(BuildError, match=rf"label {LABEL} of i is not valid: .*{why}"):
        config(label=label)


def test_the_spec_replaces_the_label_key_by_key() -> None:
    label = {"env": ["A=1"], "cwd": "/label", "binds": ["/a:/a"], "annotations": {"x": "1", "y": "2"}, "net": "new"}
    made = config("env: [B=2]\nannotations: {y: '3'}\nbinds: []", label)
    assert made["process"]["env"] == ["B=2"]
    assert made["process"]["cwd"] == "/label"
    assert made["annotations"] == {"y": "3"}
    assert not [one for one in made["mounts"] if one["type"] == "bind"]
    assert {"type": "network"} in made["linux"]["namespaces"]


def test_runtime_is_merged_by_its_keys(tmp_path: Path) -> None:
    (tmp_path / "spec.yml").write_text(
        "onboot: [{name: c, image: i, runtime: {mkdir: [/mine], bindNS: {net: /run/net}}}]"
    )
    container = load_spec(tmp_path / "spec.yml").onboot[0]
    label = {"runtime": {"mkdir": ["/label"], "cgroups": ["g"]}}
    settings = merged_settings(container, ImageConfig(labels={LABEL: json.dumps(label)}))
    assert settings.runtime is not None
    assert settings.runtime.mkdir == ("/mine",)
    assert settings.runtime.cgroups == ("g",)
    assert settings.runtime.bind_ns is not None
    assert settings.runtime.bind_ns.net == "/run/net"


@pytest.mark.parametrize(
    ("yaml", "image", "wanted"),
    [
        ("", {"entrypoint": ("/e", "1"), "cmd": ("2",)}, ["/e", "1", "2"]),
        ("command: [/c, '3']", {"entrypoint": ("/e",), "cmd": ("2",)}, ["/c", "3"]),
        ("", {"entrypoint": ("/e",), "cmd": ()}, ["/e"]),
    ],
)
def test_the_command_replaces_the_images(yaml: str, image: dict[str, Any], wanted: list[str]) -> None:
    assert config(yaml, **image)["process"]["args"] == wanted


@pytest.mark.parametrize("yaml", ["", "command: []"])
def test_a_container_without_a_command(yaml: str) -> None:
    with pytest.raises(BuildError, match="container c: neither the spec nor the image i has a command"):
        config(yaml, cmd=())


def test_environment_and_folder_are_the_images_unless_said() -> None:
    image: dict[str, Any] = {"env": ("A=1", "B=2"), "workdir": "/srv"}
    made = config(**image)["process"]
    assert (made["env"], made["cwd"]) == (["A=1", "B=2"], "/srv")
    made = config("env: [B=3]\ncwd: /opt", **image)["process"]
    assert (made["env"], made["cwd"]) == (["B=3"], "/opt"), "replaced, not merged"


@pytest.mark.parametrize(
    ("text", "source", "options"),
    [
        ("/a:/b", "/a", ["rw", "rbind", "rshared"]),
        ("/a:/b:ro", "/a", ["ro", "rbind"]),
        ("/a:/b:ro,rslave", "/a", ["ro", "rslave", "rbind"]),
        ("/a:/b:bind,ro", "/a", ["bind", "ro", "rbind"]),
    ],
)
def test_binds(text: str, source: str, options: list[str]) -> None:
    bind = mount(config(f"binds: ['{text}']"), "/b")
    assert bind == {"destination": "/b", "type": "bind", "source": source, "options": options}


@pytest.mark.parametrize("text", ["/a", "/a:", ":/b", "/a:/b:", "/a:/b:ro:x", "", "/a:b"])
def test_faulty_binds(text: str) -> None:
    with pytest.raises(BuildError, match="not of the form source:/destination"):
        config(f"binds: ['{text}']")


def test_mounts_replace_those_with_their_destination_and_all_are_in_order() -> None:
    made = config(
        "mounts:\n  - {type: tmpfs, source: mine, destination: /dev, options: [size=1m]}\n"
        "  - {type: mqueue, source: mqueue}\nbinds: ['/b:/sys', '/z:/a']\ntmpfs: ['/run:size=5m,mode=700', /tmp]"
    )
    assert mount(made, "/dev") == {"destination": "/dev", "type": "tmpfs", "source": "mine", "options": ["size=1m"]}
    assert mount(made, "/sys")["type"] == "bind"
    assert mount(made, "/dev/mqueue")["type"] == "mqueue"
    assert mount(made, "/run") == {
        "destination": "/run",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["size=5m", "mode=700"],
    }
    assert "options" not in mount(made, "/tmp")
    destinations = [one["destination"] for one in made["mounts"]]
    assert destinations == sorted(destinations)


@pytest.mark.parametrize("text", ["", ":size=1m", "tmp"])
def test_faulty_tmpfs(text: str) -> None:
    with pytest.raises(BuildError, match="not of the form /destination"):
        config(f"tmpfs: ['{text}']")


@pytest.mark.parametrize(
    ("yaml", "wanted"),
    [
        ("", {"pid": None, "mount": None}),
        ("pid: host", {"mount": None}),
        ("pid: new", {"pid": None, "mount": None}),
        ("pid: /run/pid", {"pid": "/run/pid", "mount": None}),
        ("net: host", {"pid": None, "mount": None}),
        ("net: root", {"pid": None, "mount": None}),
        ("net: none", {"pid": None, "mount": None, "network": None}),
        ("net: new\nipc: new\nuts: new", {"pid": None, "mount": None, "network": None, "ipc": None, "uts": None}),
        ("net: /run/netns/x", {"pid": None, "mount": None, "network": "/run/netns/x"}),
        ("userns: new\nipc: root\nuts: host", {"pid": None, "mount": None, "user": None}),
    ],
)
def test_namespaces(yaml: str, wanted: dict[str, str | None]) -> None:
    assert namespaces(yaml) == wanted


@pytest.mark.parametrize(
    ("yaml", "user", "wanted"),
    [
        ("", "", {"uid": 0, "gid": 0}),
        ("", "7:8", {"uid": 0, "gid": 0}),
        ("uid: 5", "7:8", {"uid": 5, "gid": 0}),
        ("uid: ''\ngid: root", "", {"uid": 0, "gid": 0}),
        ("uid: 0\ngid: 0", "7:8", {"uid": 0, "gid": 0}),
        ("uid: first\ngid: second", "", {"uid": 100, "gid": 101}),
        ("additionalGids: [second, 4, '5']", "", {"uid": 0, "gid": 0, "additionalGids": [101, 4, 5]}),
    ],
)
def test_users(yaml: str, user: str, wanted: dict[str, object]) -> None:
    """As in LinuxKit, the image's own user is not used."""
    assert config(yaml, user=user)["process"]["user"] == wanted


@pytest.mark.parametrize(
    "yaml",
    [
        *("uid: third", "gid: -1", "uid: 4294967296", "additionalGids: [nobody]", "uid: '٣x'"),
        *(f"uid: '{'9' * 5000}'", f"additionalGids: ['{'9' * 5000}']"),
    ],
)
def test_users_that_there_are_not(yaml: str) -> None:
    with pytest.raises(BuildError, match=r"container c: .* is neither the number of a user or group nor the name"):
        config(yaml)


def test_all_other_keys() -> None:
    made = config(
        """
hostname: box
maskedPaths: [/proc/kcore]
readonlyPaths: [/proc/sys]
noNewPrivileges: true
oomScoreAdj: -5
rootfsPropagation: shared
cgroupsPath: /pods/c
sysctl: {net.core.somaxconn: '99'}
rlimits: ['nofile,1024,2048', 'RLIMIT_CORE, 0', 'nproc,5,unlimited']
devices:
  - {path: /dev/x, type: c, major: 1, minor: 3, mode: '0660'}
  - {path: /dev/y, type: b, major: 8, minor: 0}
annotations: {who: me}
"""
    )
    process, linux = made["process"], made["linux"]
    assert made["hostname"] == "box"
    assert made["annotations"] == {"who": "me"}
    assert process["noNewPrivileges"] is True
    assert process["oomScoreAdj"] == -5
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 5, "hard": (1 << 64) - 1},
    ]
    assert linux["maskedPaths"] == ["/proc/kcore"]
    assert linux["readonlyPaths"] == ["/proc/sys"]
    assert linux["rootfsPropagation"] == "shared"
    assert linux["cgroupsPath"] == "/pods/c"
    assert linux["sysctl"] == {"net.core.somaxconn": "99"}
    assert linux["devices"] == [
        {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 0o660},
        {"path": "/dev/y", "type": "b", "major": 8, "minor": 0},
    ]
    json.dumps(made)


@pytest.mark.parametrize(
    ("yaml", "wanted"),
    [
        (
            "uidMappings: [{hostID: 1000, containerID: 0, size: 9}]",
            {"uidMappings": [{"hostID": 1000, "containerID": 0, "size": 9}]},
        ),
        (
            "resources: {hugepageLimits: [{pageSize: 2097152, limit: 5}]}",
            {"resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": 5}]}},
        ),
        (
            "resources: {memory: {kernelTCP: 5, disableOOMKiller: true}}",
            {"resources": {"memory": {"kernelTCP": 5, "disableOOMKiller": True}}},
        ),
        ("resources: {cpu: {realtimeRuntime: 7}}", {"resources": {"cpu": {"realtimeRuntime": 7}}}),
        ("resources: {network: {classID: 3}}", {"resources": {"network": {"classID": 3}}}),
        (
            "resources: {blockio: {leafWeight: 3, throttleReadBpsDevice: [{major: 8, minor: 0, rate: 1}]}}",
            {
                "resources": {
                    "blockIO": {"leafWeight": 3, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}
                }
            },
        ),
    ],
)
def test_keys_that_linuxkit_takes_and_loses(yaml: str, wanted: dict[str, object]) -> None:
    assert wanted.items() <= config(yaml)["linux"].items()


@pytest.mark.parametrize(
    "text",
    [
        *("nofile", "nofile,1,2,3", "fly,1,2", ",1", "nofile,-1", "nofile,many", "nofile,²"),
        *(f"nofile,{1 << 64}", f"nofile,{'9' * 5000}"),
    ],
)
def test_faulty_rlimits(text: str) -> None:
    with pytest.raises(BuildError, match=r"container c: .*rlimit"):
        config(f"rlimits: ['{text}']")


def test_a_faulty_device_mode() -> None:
    with pytest.raises(BuildError, match="'rw' of /dev/x is not octal"):
        config("devices: [{path: /dev/x, type: c, major: 1, minor: 3, mode: rw}]")
