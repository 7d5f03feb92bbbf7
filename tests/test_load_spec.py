"""Specs: what is accepted, and what is said of what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootmatrix.errors import FileError, InputError
from bootmatrix.load import load_any
from bootmatrix.load.data_paths import arch_folders, specs_folder
from bootmatrix.load.merge import load_spec
from bootmatrix.load.profile import load_profiles
from bootmatrix.load.spec import find_spec, spec_name

Write = Callable[[str], Path]
PROFILES = load_profiles(arch_folders())

WHOLE = """\
kernel:
  image: linuxkit/kernel:6.6.13
  cmdline: quiet
init:
  - linuxkit/init:14df799bb3b9e0eb0491da9fda7f32a108a2e2a5
onboot:
  - name: twice
    image: busybox
    command: [yes, 22:22, "5"]
  - name: twice
    image: busybox
    net: none
    capabilities: [CAP_NET_ADMIN]
onshutdown:
  - name: bye
    image: busybox
services:
  - name: server
    image: "@pkg:./images/server"
    capabilities: [all]
    capabilities.add: [CAP_SYS_ADMIN]
    binds.add: ["/a:/b"]
    uid: 5
    gid: server
    net: /run/netns/x
    pid: host
    mounts: [{type: cgroup, options: [ro]}]
    runtime: {bindNS: {net: /run/netns/x}, interfaces: [{name: eth0, createInRoot: true}]}
  - name: check
    image: busybox
    annotations: {bootmatrix.check: "1m30s", bootmatrix.network: user}
files:
  - {path: etc/x, contents: "", mode: "00644"}
  - {path: /var/y, directory: true}
  - {path: etc/z, symlink: ../var/z}
  - {path: etc/s, source: /no/such, optional: true}
  - {path: etc/m, metadata: yaml}
trust:
  org: [linuxkit]
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes `s.yml` in a folder of its own, which becomes the current one."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        Path("s.yml").write_text(text, encoding="utf-8")
        return Path("s.yml")

    return write


def test_a_whole_spec(write: Write) -> None:
    spec = load_spec(write(WHOLE))
    assert spec.name == "s"
    assert [one.name for one in spec.onboot] == ["twice", "twice"]
    assert spec.onboot[0].command == ("yes", "22:22", "5")
    server, check = spec.services
    assert (server.uid, server.gid) == (5, "server")
    assert server.capabilities_add == ("CAP_SYS_ADMIN",)
    assert server.binds_add == ("/a:/b",)
    assert server.mounts is not None
    assert server.mounts[0].usual_destination == "/sys/fs/cgroup"
    assert server.runtime is not None
    assert server.runtime.bind_ns is not None
    assert server.runtime.bind_ns.net == "/run/netns/x"
    assert spec.checks == (check,)
    assert check.check == "1m30s"
    assert spec.files[0].mode == "00644"
    assert spec.notes == (
        "'trust' is not used: LinuxKit ignores it as well",
        "the kernel image linuxkit/kernel:6.6.13 is used only by cells whose kernel is 'spec'",
    )


def test_what_was_accepted_in_2017_still_is(write: Write) -> None:
    spec = load_spec(write("outputs:\n  - format: kernel+initrd\ninit: ['mobylinux/init:1', 'mobylinux/runc:1']\n"))
    assert spec.notes == (
        "'outputs' is not used: use `bootmatrix build --format`",
        "the image mobylinux/init:1 has been renamed to linuxkit/init",
    )


SERVICE = "services:\n  - name: a\n    image: b\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sevices: []\n", "s.yml:1: unknown key 'sevices'. Did you mean 'services'?"),
        ("arch: [x]\nspecs: [a]\n", "s.yml:2: 'specs' is of a matrix, whose file is to be named s.matrix.yml"),
        ("xyz: 1\n", "s.yml:1: unknown key 'xyz'. Known: files, init, kernel, onboot, onshutdown, services, volumes"),
        ("init: []\nname: x\n", "s.yml:2: unknown key 'name'."),
        (SERVICE + "    cosnole: x\n", "s.yml:4: unknown key 'cosnole'."),
        (SERVICE + "    comand: [x]\n", "s.yml:4: unknown key 'comand'. Did you mean 'command'?"),
        (SERVICE + "    capabilities_add: [all]\n", "s.yml:4: unknown key 'capabilities_add'."),
        (SERVICE + "    runtime:\n      bind_ns: {}\n", "s.yml:5: unknown key 'bind_ns'. Did you mean 'bindNS'?"),
        ("onboot:\n  - name: a\n", "s.yml:2: 'onboot[0]' has no 'image'"),
        ("onboot:\n  - name: a\n    image: ''\n", "s.yml:3: the container 'a' has no image"),
        ("init:\n  - ''\n", "s.yml:2: an image of 'init' is empty"),
        ("onboot:\n  - image: a\n", "s.yml:2: 'onboot[0]' has no 'name'"),
        ("services:\n", "s.yml:1: 'services' has no value. Set one, or remove it"),
        ("services: x\n", "s.yml:1: 'services' must be a list, not the text 'x'"),
        ("services:\n  a: {}\n", "s.yml:1: 'services' must be a list, not a mapping"),
        ('kernel: {cmdline: "a\\nb"}\n', "s.yml:1: 'cmdline' must be one line of printable text"),
        ("kernel: [a]\n", "s.yml:1: 'kernel' must be a mapping, not a list"),
        (SERVICE + "    command: sh\n", "s.yml:4: 'command' must be a list, not the text 'sh'. Write [sh]"),
        (
            SERVICE + "    readonly: yes\n",
            "s.yml:4: 'readonly' must be true or false, not the text 'yes'. Write true",
        ),
        (
            SERVICE + "    env:\n      - A=1\n      - 5\n",
            "s.yml:6: 'env[1]' must be text, not the number 5. Put it",
        ),
        (SERVICE + "    uid: [1]\n", "s.yml:4: 'uid' must be a whole number or text, not a list"),
        (SERVICE + "    uid: 1.5\n", "s.yml:4: 'uid' must be a whole number or text, not the number 1.5"),
        (
            SERVICE + "    sysctl: {a.b: 1}\n",
            "s.yml:4: 'a.b' must be text, not the number 1. Put it in quotes: \"1\"",
        ),
        (SERVICE + "    net: hots\n", "s.yml:4: 'net' must be one of root, host, new, none, or an absolute path"),
        (SERVICE + "    pid: none\n", "s.yml:4: 'pid' must be one of root, host, new, or an absolute path"),
        (
            SERVICE + "    capabilities: [all, CAP_KILL]\n",
            "s.yml:4: 'all' cannot be combined with others, found 2",
        ),
        (
            SERVICE + "    capabilities: [NET_ADMIN]\n",
            "s.yml:4: unknown capability 'NET_ADMIN'. Did you mean 'CAP_NET_ADMIN'?",
        ),
        (SERVICE + "    capabilities: [cap_kil]\n", "s.yml:4: unknown capability 'cap_kil'. Did you mean 'CAP_KILL'?"),
        (SERVICE + "    capabilities.add: [zzz]\n", "s.yml:4: unknown capability 'zzz'. capabilities(7) lists them"),
        (SERVICE + "    mounts:\n      - type: bind\n", "s.yml:5: this mount has no 'destination'"),
        (SERVICE + "    mounts:\n      - destination: /x\n", "s.yml:5: this mount has no 'type'"),
        (SERVICE + "    resources: {pids: {limits: 5}}\n", "s.yml:4: unknown key 'limits'. Did you mean 'limit'?"),
        (SERVICE + "    uidMappings: [{hostId: 5}]\n", "s.yml:4: unknown key 'hostId'. Did you mean 'hostID'?"),
        ("volumes:\n  - name: A\n", "s.yml:2: 'name' must be"),
        ("volumes:\n  - name: a\n    format: ext4\n", "s.yml:3: 'format' must be"),
        ("volumes:\n  - name: a\n    format: oci\n", "s.yml:3: a volume of format oci must have an image"),
        ("volumes:\n  - name: a\n  - name: a\n", "s.yml:3: two volumes are called 'a', the first one in line 2"),
        ("volumes: [{name: a}, {name: a}]\n", "s.yml:1: two volumes are called 'a', the first one in line 1"),
        ("services: [&a {name: a, image: x}, *a]\n", "s.yml:1: two services are called 'a', the first one in line 1"),
        ("trust: [a]\n", "s.yml:1: 'trust' must be a mapping"),
        (SERVICE + "  - name: a\n    image: c\n", "s.yml:4: two services are called 'a', the first one in line 2"),
        (
            "services:\n  - name: a/../b\n    image: c\n",
            "s.yml:2: 'name' must be a name: letters, digits and _ . + -",
        ),
        ("services:\n  - name: ..\n    image: c\n", "s.yml:2: 'name' must be a name"),
        (
            SERVICE + "    annotations:\n      bootmatrix.check: 60\n",
            "s.yml:5: 'bootmatrix.check' must be text, not the",
        ),
        (
            SERVICE + "    annotations:\n      bootmatrix.check: soon\n",
            "s.yml:5: the time of 'bootmatrix.check': 'soon' is not a duration",
        ),
        (
            SERVICE + "    annotations:\n      bootmatrix.stop: 0s\n",
            "s.yml:5: the time of 'bootmatrix.stop': '0s' is not a duration",
        ),
        (
            "onboot:\n  - name: a\n    image: b\n    annotations: {bootmatrix.stop: 60s}\n",
            "s.yml:4: 'bootmatrix.stop' must be under 'services'. Others end by themselves",
        ),
        (
            SERVICE + "    annotations: {bootmatrix.chek: 60s}\n",
            "s.yml:4: unknown annotation 'bootmatrix.chek'. Did you mean 'bootmatrix.check'?",
        ),
        (
            SERVICE + "    annotations: {bootmatrix.pid1: yes}\n",
            "s.yml:4: 'bootmatrix.pid1' must be true, of one service",
        ),
        (
            SERVICE + "    annotations: {bootmatrix.pid1: 'true', bootmatrix.check: 1s}\n",
            "s.yml:4: 'bootmatrix.pid1' must be true, of one service that is not a check",
        ),
        (SERVICE + "    annotations: {bootmatrix.network: tap}\n", "s.yml:4: 'bootmatrix.network' must be none, guest"),
        (SERVICE + '    annotations: {bootmatrix.console: ""}\n', "s.yml:4: 'bootmatrix.console' must be one line"),
        (SERVICE + '    annotations: {bootmatrix.console: "  "}\n', "s.yml:4: 'bootmatrix.console' must be one line"),
        (
            "onboot:\n  - name: a\n    image: b\n    annotations: {bootmatrix.check: 60s}\n",
            "s.yml:4: a check must be under 'services'.",
        ),
        (
            "files:\n  - path: x\n    mode: 0644\n",
            "s.yml:3: 'mode' must be text, not the number 0644. Put it in quotes: \"0644\"",
        ),
        (
            "files:\n  - path: x\n    mode: '0999'\n",
            "s.yml:3: 'mode' must be an octal mode such as \"0644\", not the text",
        ),
        ("files:\n  - path: x\n", "s.yml:2: the file 'x' has no content."),
        ("files:\n  - {path: x, contents: a, symlink: b}\n", "s.yml:2: the file 'x' has both symlink and contents."),
        ("files:\n  - {path: ../x, contents: a}\n", "s.yml:2: the path '../x' contains '..'"),
        ("files:\n  - {path: /, directory: true}\n", "s.yml:2: the path is empty"),
        ("files:\n  - {path: x, metadata: json}\n", "s.yml:2: 'metadata' must be 'yaml', not 'json'"),
    ],
)
def test_faults(write: Write, text: str, message: str) -> None:
    with pytest.raises(FileError) as caught:
        load_spec(write(text))
    assert str(caught.value).startswith(message)
    assert len(caught.value.faults) == 1


def test_all_faults_come_at_once(write: Write) -> None:
    text = "servces: []\nonboot:\n  - name: a\nfiles:\n  - {path: x, mode: 5}\nkernel:\n"
    with pytest.raises(FileError) as caught:
        load_spec(write(text))
    assert [fault.line for fault in caught.value.faults] == [1, 3, 5, 6]


def test_a_spec_is_found_by_path_or_as_a_shipped_one(write: Write, tmp_path: Path) -> None:
    shipped = specs_folder().resolve() / "hello.yml"
    for name in ("hello", "hello.yml", "specs/hello.yml", str(shipped)):
        assert find_spec(name).resolve() == shipped
    Path("hello.yml").write_text("init: []\n")
    assert find_spec("hello.yml").resolve() == tmp_path / "hello.yml"
    assert find_spec("influxdb.matrix.yml").name == "influxdb.matrix.yml"


@pytest.mark.parametrize("name", ["helo", "", ".", "../..", "x" * 300, "a\0b", "/etc/", "specs/", "specs/../hello.yml"])
def test_a_spec_that_is_not_there(write: Write, name: str) -> None:
    with pytest.raises(InputError) as caught:
        find_spec(name)
    if name == "helo":
        assert "and no shipped spec has this name. Did you mean 'hello'?" in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 300, f"{'x' * 200}.yml+{'y' * 200}.yml", f"a.yml+{'x' * 300}"])
def test_names_that_are_too_long_for_a_file(name: str) -> None:
    with pytest.raises(InputError):
        load_any(Path(name), PROFILES)


def test_any_number_of_files_is_merged(tmp_path: Path) -> None:
    """Their names together may be longer than a file's."""
    names = [f"{'x' * 40}{number}.yml" for number in range(9)]
    for name in names:
        (tmp_path / name).write_text("init: [linuxkit/init:1]\n")
    assert len(load_spec(find_spec("+".join(names), tmp_path)).init) == 9


@pytest.mark.parametrize(
    ("file", "name"),
    [("a.yml", "a"), ("a b.yml", "a-b"), ("..x.yml", "x"), ("é.yml", "spec"), ("a.b.yml", "a.b"), ("-.yml", "spec")],
)
def test_a_name_is_made_safe(file: str, name: str) -> None:
    assert spec_name(Path(file)) == name


@pytest.mark.parametrize("file", sorted(specs_folder().rglob("*.yml")), ids=lambda file: str(file.name))
def test_shipped_files_are_valid(file: Path) -> None:
    assert load_any(file, PROFILES).startswith(("a spec: ", "a matrix: ", "an image: "))


VALUES = st.recursive(
    st.sampled_from(["null", "true", "5", "-1.5", "''", "a/../b", "'@pkg:./x'", "0644", "é", "60s", "CAP_KILL", "*a"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(
            st.sampled_from(
                ["name", "image", "command", "mounts", "runtime", "annotations", "bootmatrix.check", "path"]
            ),
            inner,
            max_size=4,
        ).map(lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"),
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["kernel", "init", "onboot", "services", "files", "trust", "volumes"]), VALUES))
def test_whatever_stands_where_the_answer_is_a_spec_or_faults(write: Write, sections: dict[str, str]) -> None:
    file = write("".join(f"{key}: {value}\n" for key, value in sections.items()) or "{}")
    try:
        load_spec(file)
    except FileError as error:
        assert all(fault.path == "s.yml" and fault.message for fault in error.faults)


# several files


FIRST = """
kernel: {image: linuxkit/kernel:1, cmdline: first, tar: a.tar}
init: [linuxkit/init:1, "@pkg:./mine"]
services:
  - {name: a, image: one}
volumes:
  - {name: data}
files:
  - {path: x, source: x.txt}
"""
SECOND = """
kernel: {cmdline: second, binary: b}
init: ["@pkg:../mine", "oci:layout:tag"]
onboot:
  - {name: b, image: "@pkg:./own", binds: ["data:/data"]}
volumes:
  - {name: more, image: "tar:root.tar"}
files:
  - {path: y, source: y.txt}
  - {path: z, source: /etc/hostname}
"""


def test_several_files_are_one_spec(tmp_path: Path) -> None:
    """As LinuxKit's AppendConfig, which loses the first file's volumes."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yml").write_text(FIRST)
    (tmp_path / "sub/b.yml").write_text(SECOND)
    path = find_spec("a.yml+sub/b.yml", tmp_path)
    assert spec_name(path) == "a+b"
    spec = load_spec(path)
    assert (spec.name, spec.path) == ("a+b", str(tmp_path / "a.yml"))
    kernel = spec.kernel
    assert (kernel.image, kernel.cmdline, kernel.binary, kernel.tar) == ("linuxkit/kernel:1", "second", "b", "a.tar")
    assert spec.init == ("linuxkit/init:1", "@pkg:./mine", "@pkg:mine", "oci:sub/layout:tag")
    assert [one.image for one in (*spec.onboot, *spec.services)] == ["@pkg:sub/own", "one"]
    assert [(one.name, one.image) for one in spec.volumes] == [("data", ""), ("more", "tar:sub/root.tar")]
    assert [one.source for one in spec.files] == ["x.txt", "sub/y.txt", "/etc/hostname"]


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(FIRST)
    (tmp_path / "b.yml").write_text(SECOND)
    (tmp_path / "c.guest.yml").write_text("initrd: x\n")
    for names, message in (
        ("a.yml+a.yml", "two services are called 'a', in different files"),
        ("b.yml+b.yml", "two volumes are called 'more', in different files"),
        ("a.yml+c.guest.yml", "a prebuilt guest cannot be merged"),
    ):
        with pytest.raises(InputError, match=message):
            load_spec(find_spec(names, tmp_path))
    with pytest.raises(InputError, match=r"none\.yml: file not found"):
        find_spec("a.yml+none.yml", tmp_path)


def test_a_file_with_a_plus_in_its_name_is_that_file(tmp_path: Path) -> None:
    folder = tmp_path / "c++"
    folder.mkdir()
    for name in ("a+b.yml", "c.yml"):
        (folder / name).write_text("init: [linuxkit/init:1]\n")
    path = find_spec("a+b.yml", folder)
    assert path == folder / "a+b.yml"
    assert load_spec(path).init == ("linuxkit/init:1",)
    both = find_spec("a+b.yml+c.yml", folder)
    assert spec_name(both) == "a+b+c"
    assert len(load_spec(both).init) == 2
