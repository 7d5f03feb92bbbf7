"""Our init is ours: what spec, images and labels may not replace; and what labels have no say in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.assembly.image.builder import Builder, Ingredients, _without_power, shipped_digests
from bootmatrix.assembly.image.recipe import for_architecture, read_sources
from bootmatrix.assembly.initrd.bundle_spec import check_seconds, console_proof, place
from bootmatrix.assembly.initrd.image_label import check_labels, label_notes
from bootmatrix.assembly.initrd.own_init import (
    KNOWN_DAEMONS,
    PROTOCOL,
    SHIPPED,
    check_cmdline,
    find_protocol,
    privileged,
    unknown_daemons,
    unknown_runtimes,
)
from bootmatrix.assembly.initrd.root import RootParts, guest_tree
from bootmatrix.assembly.tree import Tree
from bootmatrix.assembly.userland import Userland
from bootmatrix.errors import BuildError, InputError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.merge import load_spec
from bootmatrix.load.profile import load_profiles
from bootmatrix.load.recipe import load_recipe
from bootmatrix.model import ImageConfig, ImageOverride, StoredImage
from bootmatrix.model.image import LABEL
from bootmatrix.store import Store
from packages import entry, link, make_tar

OURS = {"init": "#!", "usr/bin/busybox": "b", "usr/lib/bootmatrix/guest": "g", "usr/share/doc/x": "d"}
RELATIVE = "../../services/real/lower"
RUNTIME = {"usr/bin/crun": "c", "usr/lib/libseccomp.so.2": "l"}


def stored(store: Store, name: str, files: dict[str, str], **labels: str) -> StoredImage:
    members = [
        link(path, text[3:]) if text.startswith("-> ") else entry(path, text.encode()) for path, text in files.items()
    ]
    digest = store.add_bytes(make_tar(members))
    config = ImageConfig(cmd=("/run",), labels=labels)
    return StoredImage(reference=name, digest=digest, layers=(digest,), config=config, size_bytes=1)


def tree_of(folder: Path, text: str, *more: dict[str, str], label: Any = None) -> Tree:
    """The root of a spec; its images are our init, a runtime, others as they come, and one for containers."""
    store = Store(folder / "cache")
    images = {"ours": stored(store, "ours", OURS, **{PROTOCOL: "1"}), "crun": stored(store, "crun", RUNTIME)}
    images |= {f"more{number}": stored(store, f"more{number}", files) for number, files in enumerate(more)}
    path = folder / "spec.yml"
    path.write_text(f"init: [{', '.join(images)}]\n{text}")
    images["plain"] = stored(store, "plain", {"run": "r"}, **({LABEL: json.dumps(label)} if label else {}))
    spec = load_spec(path)
    placed = place(spec, images)
    check_labels(placed)
    return guest_tree(RootParts(spec, images, placed, store))


@pytest.mark.parametrize(
    "entry",
    [
        "{path: init, contents: x}",
        "{path: ./init, contents: x}",
        "{path: usr/bin/busybox, contents: x}",
        "{path: usr/bin/crun, symlink: /x}",
        "{path: usr/bin, symlink: /srv}",
        "{path: usr/sbin/crun, contents: x}",
        "{path: usr/lib/bootmatrix/hook, contents: x}",
        "{path: usr/lib/bootmatrix, symlink: /srv}",
        "{path: usr/lib/libseccomp.so.2, contents: x}",
        "{path: usr/lib/glibc-hwcaps/v3/libc.so.6, contents: x}",
        "{path: etc/bootmatrix/daemons/x, contents: x}",
        "{path: etc/bootmatrix/checks, contents: x}",
        "{path: etc/ld.so.preload, contents: x}",
        "{path: containers/services/real/config.json, contents: x}",
        "{path: containers/services/real/lower/run, contents: x}",
        "{path: bootmatrix/pids, contents: x}",
        "{path: sbin/modprobe, contents: x}",
        "{path: usr/bin/request-key, symlink: /srv/x}",
        "{path: sbin, symlink: /containers/services/real/rootfs/bin}",
        "{path: lib64, symlink: srv}",
        "{path: usr/lib/glibc-hwcaps, symlink: /containers/services/real/rootfs/lib}",
    ],
)
def test_files_replace_nothing_of_inits(tmp_path: Path, entry: str) -> None:
    with pytest.raises(BuildError, match="files: "):
        tree_of(tmp_path, f"services: [{{name: real, image: plain}}]\nfiles: [{entry}]")


@pytest.mark.parametrize("path", ["usr/bin/crun", "usr/sbin/crun", "usr/lib/libseccomp.so.2", "etc/ld.so.preload"])
def test_nor_do_other_init_images(tmp_path: Path, path: str) -> None:
    with pytest.raises(BuildError, match=f"/{path}"):
        tree_of(tmp_path, "", {path: "x"})


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("usr/lib/glibc-hwcaps/x86-64-v2/libseccomp.so.2", "x"),
        ("usr/lib/glibc-hwcaps", "-> /containers/services/x/rootfs"),
        ("sbin", "-> ../run/x"),
        ("usr/sbin", "-> ../opt"),
        ("etc", "-> opt"),
        ("usr/lib", "-> /opt"),
        ("lib/libseccomp.so.2", "x"),
        ("lib/x86_64-linux-gnu/libseccomp.so.2", "x"),
    ],
)
def test_nor_do_init_images_come_before_them(tmp_path: Path, path: str, content: str) -> None:
    """A loader searches folders of its own first, and a link may lead to where containers write."""
    with pytest.raises(BuildError, match=f"brings /{path}"):
        tree_of(tmp_path, "", {path: content})


def test_init_images_may_bring_the_same_twice(tmp_path: Path) -> None:
    assert tree_of(tmp_path, "", RUNTIME, {"usr/sbin/runc": "r"}).get("usr/sbin/runc")


def test_nor_do_they_by_a_link_of_another(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="/usr/lib/bootmatrix/guest"):
        files = "{path: srv/x, symlink: /usr/lib}, {path: srv/x/bootmatrix/guest, contents: x}"
        tree_of(tmp_path, f"files: [{files}]")


@pytest.mark.parametrize(
    "entry",
    [
        "{path: etc/mine, contents: x, mode: '0600'}",
        "{path: usr/bin/mine, contents: x}",
        "{path: usr/lib/firmware/x.bin, contents: x}",
        "{path: usr/share/doc/x, contents: other}",
        "{path: usr/local/bin/crun, contents: x}",
        "{path: etc/hosts, contents: x}",
        "{path: usr/lib/mine, directory: true}",
    ],
)
def test_other_files_are_the_specs(tmp_path: Path, entry: str) -> None:
    tree_of(tmp_path, f"files: [{entry}]")


@pytest.mark.parametrize(
    "path", ["init", "usr/bin/busybox", "usr/lib/bootmatrix/guest", "usr/lib/bootmatrix/x", "etc/bootmatrix/checks"]
)
def test_another_init_image_replaces_nothing_of_ours(tmp_path: Path, path: str) -> None:
    with pytest.raises(BuildError, match=f"/{path}"):
        tree_of(tmp_path, "", {path: "other"})


def test_another_init_image_adds_programs_and_daemons(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "", {"etc/bootmatrix/daemons/x": "x", "usr/bin/x": "x", "init": OURS["init"]})
    assert tree.get("etc/bootmatrix/daemons/x")


def test_an_image_from_elsewhere_is_not_our_init_because_it_says_so(tmp_path: Path) -> None:
    image = stored(Store(tmp_path), "i", OURS, **{PROTOCOL: "1", "bootmatrix.fork": "1", "bootmatrix.modules": "x"})
    assert _without_power(image).config.labels == {"bootmatrix.modules": "x"}


@pytest.mark.parametrize(
    "label",
    [
        {"binds": ["/:/host"]},
        {"binds": ["/etc:/e"]},
        {"binds": ["//etc/./:/e"]},
        {"binds": ["/containers:/c:ro"]},
        {"binds": ["/var/../containers/services:/c"]},
        {"binds": ["/usr/bin/crun:/c"]},
        {"binds": ["/proc/1/root:/c:ro"]},
        {"mounts": [{"type": "bind", "source": "/usr", "destination": "/u", "options": ["rbind"]}]},
        {"mounts": [{"type": "overlay", "destination": "/u", "options": ["lowerdir=/etc"]}]},
        {"runtime": {"mounts": [{"type": "tmpfs", "destination": "/containers/services/real/rootfs"}]}},
        {"runtime": {"mounts": [{"type": "tmpfs", "destination": "../../services/real/rootfs"}]}},
        {"runtime": {"mkdir": ["/bootmatrix/x"]}},
        {"runtime": {"bindNS": {"net": "/etc/bootmatrix/checks"}}},
        {"pid": "/proc/1/ns/pid"},
    ],
)
def test_labels_reach_nothing_of_inits(tmp_path: Path, label: Any) -> None:
    with pytest.raises(BuildError, match=r"container c: the label org\.mobyproject\.config of plain asks for"):
        tree_of(tmp_path, "onboot: [{name: c, image: plain}]", label=label)


@pytest.mark.parametrize(
    "label",
    [
        {"mounts": [{"type": "tmpfs", "source": "/etc", "destination": "/x", "options": ["bind\0"]}]},
        {"mounts": [{"type": "bind\0", "source": "/containers", "destination": "/x"}]},
        {"mounts": [{"type": "bind", "source": "/srv\0", "destination": "/x"}]},
        {"readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/sys", "/x\0"]},
        {"env": ["A=b\0c"]},
        {"annotations": {"a\0": "b"}},
    ],
)
def test_no_text_of_a_label_ends_earlier_for_the_runtime(tmp_path: Path, label: Any) -> None:
    """The runtime's texts end at a NUL: a mount that is no bind here would be one there."""
    with pytest.raises(BuildError, match=r"container c: a NUL in .*, of its image plain"):
        tree_of(tmp_path, "onboot: [{name: c, image: plain}]", label=label)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        (
            {"mounts": [{"type": "none", "source": RELATIVE, "destination": "/x", "options": ["rbind"]}]},
            "unknown volume",
        ),
        (
            {"mounts": [{"type": "tmpfs", "source": RELATIVE, "destination": "/x", "options": ["bind"]}]},
            "unknown volume",
        ),
        ({"mounts": [{"type": "tmpfs", "source": "x", "destination": "/x", "options": ["ro,bind"]}]}, "unknown volume"),
        ({"mounts": [{"type": "bind", "destination": "/x"}]}, "unknown volume"),
        ({"binds": [f"{RELATIVE}:/x"]}, "unknown volume"),
        ({"pid": "../../../proc/1/ns/pid"}, r"the pid namespace .* must be an absolute path"),
        ({"net": "x"}, "the network namespace 'x' must be an absolute path"),
        ({"userns": "../x"}, r"the user namespace .* must be an absolute path"),
    ],
)
def test_no_path_begins_where_the_runtime_stands(tmp_path: Path, settings: Any, fault: str) -> None:
    """It runs in the folder of a container, from which others' are not far."""
    with pytest.raises(BuildError, match=f"container c: {fault}"):
        tree_of(tmp_path, "onboot: [{name: c, image: plain}]", label=settings)
    with pytest.raises((BuildError, InputError)):
        tree_of(tmp_path, f"onboot: [{json.dumps({'name': 'c', 'image': 'plain', **settings})}]")


def test_the_spec_says_it_in_the_labels_place(tmp_path: Path) -> None:
    label = {"binds": ["/:/host"], "runtime": {"mkdir": ["/containers/x"]}}
    tree_of(tmp_path, "onboot: [{name: c, image: plain, binds: [], runtime: {mkdir: []}}]", label=label)


def test_a_labels_annotations_decide_nothing(tmp_path: Path) -> None:
    annotations = {"bootmatrix.check": "5s", "bootmatrix.console": "Linux version", "who": "me"}
    store = Store(tmp_path / "cache")
    image = stored(store, "plain", {"run": "r"}, **{LABEL: json.dumps({"annotations": annotations})})
    path = tmp_path / "spec.yml"
    path.write_text("init: [i]\nservices: [{name: c, image: plain}]")
    placed = place(load_spec(path), {"plain": image})
    assert not check_seconds(placed)
    assert console_proof(placed) is None
    assert placed[0].settings.annotations == {"who": "me"}


def test_what_a_label_gives_is_said(tmp_path: Path) -> None:
    label = {"capabilities": ["CAP_NET_ADMIN"], "binds": ["/run:/run"], "pid": "host", "env": ["A=b"]}
    image = stored(Store(tmp_path / "cache"), "plain", {}, **{LABEL: json.dumps(label)})
    path = tmp_path / "spec.yml"
    path.write_text("init: [i]\nonboot: [{name: c, image: plain, binds: ['/a:/a']}, {name: d, image: plain}]")
    notes = list(label_notes(place(load_spec(path), {"plain": image})))
    assert notes == [
        "c: by the label of its image plain it has capabilities CAP_NET_ADMIN; pid host",
        "d: by the label of its image plain it has capabilities CAP_NET_ADMIN; binds /run:/run; pid host",
    ]


def test_privileges_are_told_of_each_container_of_a_name(tmp_path: Path) -> None:
    """The one that has none does not hide the other's."""
    store = Store(tmp_path / "cache")
    path = tmp_path / "spec.yml"
    strong = "{name: a, image: plain, capabilities: [all]}"
    path.write_text(f"onboot: [{strong}, {{name: a, image: plain}}]\n")
    placed = place(load_spec(path), {"plain": stored(store, "plain", {"run": "r"})})
    (told,) = privileged(placed, (), store)
    assert told.startswith("a: ")


def test_no_annotation_speaks_to_the_runtime(tmp_path: Path) -> None:
    annotations = "{run.oci.systemd.force_cgroup_v1: /sys/fs/cgroup/systemd, who: me}"
    tree = tree_of(tmp_path, f"onboot: [{{name: c, image: plain, annotations: {annotations}}}]")
    own = json.loads(tree.nodes["etc/bootmatrix/configs/onboot/000-c.json"].read())
    assert own["annotations"] == {"who": "me"}


@pytest.mark.parametrize(
    "word",
    [
        "rdinit=/srv/x",
        "init=/x",
        "noinitrd",
        "LD_PRELOAD=/srv/x.so",
        "bootmatrix.mode=manual",
        "bootmatrix_mode=manual",
        "BOOTMATRIX=bootmatrix.channel=console",
        '"BOOTMATRIX=x y"',
        "sysctl.kernel.core_pattern=|/containers/onboot/000-a/lower/x",
        "sysctl/kernel/modprobe=/x",
        "drbd.usermode-helper=/containers/onboot/000-a/lower/x",
        "initrdmem=0x10000000,4096",
        "x\u00e0rdinit=/srv/x",  # in UTF-8 C3 A0, and A0 is a blank to Linux
    ],
)
def test_the_command_line_starts_no_other_init(tmp_path: Path, word: str) -> None:
    path = tmp_path / "spec.yml"
    path.write_text(f"kernel: {{cmdline: 'quiet {word}'}}\ninit: [i]", encoding="utf-8")
    with pytest.raises(BuildError, match=r"kernel\.cmdline: "):
        check_cmdline(load_spec(path).kernel.cmdline, "kernel.cmdline")


def test_other_words_are_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "spec.yml"
    path.write_text(
        "kernel: {cmdline: 'console=ttyS0 page_poison=1 sysctl.kernel.sysrq=1 initcall_debug nomodeset'}\ninit: [i]"
    )
    check_cmdline(load_spec(path).kernel.cmdline, "kernel.cmdline")


@pytest.mark.parametrize("source", ["/proc/1/root", "/proc/self/cwd", "//proc/./1/root/proc"])
def test_no_bind_leads_through_another_process(tmp_path: Path, source: str) -> None:
    with pytest.raises(BuildError, match=r"container c: the bind .* leads through another process"):
        tree_of(tmp_path, f"onboot: [{{name: c, image: plain, binds: ['{source}:/b']}}]")


@pytest.mark.parametrize(
    ("labels", "protocol"),
    [
        ([], None),
        ([{}], None),
        ([{PROTOCOL: "1"}, {}], 1),
        ([{PROTOCOL: "2"}], 2),
        ([{PROTOCOL: "2"}, {PROTOCOL: "1"}], 1),
    ],
)
def test_the_protocol_is_the_lowest_of_the_init_images(
    tmp_path: Path, labels: list[dict[str, str]], protocol: int | None
) -> None:
    images = [stored(Store(tmp_path), f"i{number}", OURS, **each) for number, each in enumerate(labels)]
    assert find_protocol(images) == protocol


@pytest.mark.parametrize("version", ["0", "3", "", "x", "01"])
def test_an_unknown_protocol_is_refused(tmp_path: Path, version: str) -> None:
    image = stored(Store(tmp_path), "i", OURS, **{PROTOCOL: version})
    with pytest.raises(BuildError, match=r"label bootmatrix\.protocol: expected 1 or 2, found"):
        find_protocol([image])


DAEMON = {"etc/bootmatrix/daemons/x": "x"}


def test_daemons_of_unknown_init_images_are_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ours = stored(store, "ours", OURS, **{PROTOCOL: "2"})
    brings, plain = stored(store, "brings", DAEMON), stored(store, "plain", RUNTIME)
    claims = brings.model_copy(update={"reference": "claims", "recipe_digest": "0" * 64})
    assert unknown_daemons([ours, brings, plain, claims], store) == ("init image brings", "init image claims")
    helps = stored(store, "helps", {"sbin/modprobe": "x"})
    assert unknown_daemons([ours, helps], store) == ("init image helps",), "the kernel runs it"
    known = brings.model_copy(update={"recipe_digest": next(iter(KNOWN_DAEMONS))})
    assert not unknown_daemons([ours, known], store)


def test_what_starts_the_containers_is_known(tmp_path: Path) -> None:
    """A runtime tells how they ended; a loader's cache names its libraries."""
    store = Store(tmp_path)
    images = [stored(store, "ours", OURS, **{PROTOCOL: "1"}), stored(store, "plain", {"usr/bin/x": "x"})]
    crun, link_, cache = (
        stored(store, name, {path: "x"})
        for name, path in (("crun", "usr/bin/crun"), ("runc", "sbin/runc"), ("cache", "etc/ld.so.cache"))
    )
    told = unknown_runtimes([*images, crun, link_, cache], store, lambda: ["1" * 64])
    assert told == (
        "init image crun: its runtime",
        "init image runc: its runtime",
        "init image cache: its /etc/ld.so.cache",
    )
    assert not unknown_runtimes([crun.model_copy(update={"recipe_digest": "1" * 64})], store, lambda: ["1" * 64])


def test_a_copy_of_our_init_is_another_root(tmp_path: Path) -> None:
    """From a registry it has no label that counts, and so no files of it are protected; its digest is ours."""
    store, path = Store(tmp_path / "cache"), tmp_path / "spec.yml"
    path.write_text("init: [ours]\nfiles: [{path: usr/bin/busybox, contents: x}]")
    ours = stored(store, "ours", OURS, **{PROTOCOL: "1"})

    def userland(image: StoredImage) -> Userland:
        builder = Builder(store, None)  # type: ignore[arg-type]
        return Userland(load_spec(path), None, builder, {"ours": image}, ())  # type: ignore[arg-type]

    copy = userland(_without_power(ours))
    assert copy.root().get("usr/bin/busybox")
    with pytest.raises(BuildError, match="replaces /usr/bin/busybox"):
        userland(ours).root()
    assert copy.root_key != userland(ours).root_key


def test_no_override_is_the_shipped_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix overrides images, and may be anybody's: what it names is not what others are compared with."""
    store, path = Store(tmp_path / "cache"), tmp_path / "spec.yml"
    path.write_text("init: [mine]\n")
    mine = stored(store, "mine", OURS, **{PROTOCOL: "1"})
    shipped = mine.model_copy(update={"digest": "1" * 64})
    override = ImageOverride(pattern=SHIPPED, source="@pkg:./mine")

    def made(reference: str, _path: Path, _profile: object, builder: Builder) -> StoredImage:
        return mine if any(reference == entry.pattern for entry in builder.overrides) else shipped

    monkeypatch.setattr("bootmatrix.assembly.userland.make_image", made)
    builder = Builder(store, None, overrides=(override,))  # type: ignore[arg-type]
    userland = Userland(load_spec(path), None, builder, {"mine": mine}, ())  # type: ignore[arg-type]
    assert userland.weaker_init() == ("init image mine in the place of the shipped one",)


def test_the_shipped_recipes_of_runtimes_are_known(tmp_path: Path) -> None:
    profile = load_profiles([CHECKOUT / "arch"])["x86_64"]
    known = set(shipped_digests(profile, Builder(Store(tmp_path), None)))  # type: ignore[arg-type]
    path = CHECKOUT / "specs" / "images" / "crun" / "build.yml"
    recipe = for_architecture(load_recipe(path), profile)
    own = Ingredients(recipe, path, None, (), (), read_sources(recipe, path))
    assert own.recipe_digest in known
    assert replace(own, recipe=recipe.model_copy(update={"debs": ("mine.deb",)})).recipe_digest not in known


def test_the_shipped_recipe_of_a_daemon_is_known() -> None:
    path = Path(__file__).parents[1] / "specs" / "images" / "containerd" / "build.yml"
    recipe = load_recipe(path)
    shipped = Ingredients(recipe, path, None, (), (), read_sources(recipe, path))
    assert shipped.recipe_digest in KNOWN_DAEMONS
    other = replace(shipped, recipe=recipe.model_copy(update={"debs": ("mine.deb",)}))
    assert other.recipe_digest not in KNOWN_DAEMONS


@pytest.mark.parametrize(
    ("bind", "told"),
    [("/run:/run", 1), ("/var:/v", 1), ("/var/lib/containerd/x:/v", 1), ("/var:/v:ro", 0), ("/var/lib/mine:/v", 0)],
)
def test_binds_by_which_a_daemon_is_told_what_to_run(tmp_path: Path, bind: str, told: int) -> None:
    store = Store(tmp_path / "cache")
    path = tmp_path / "spec.yml"
    path.write_text(f"onboot: [{{name: a, image: plain, binds: ['{bind}']}}]\n")
    placed = place(load_spec(path), {"plain": stored(store, "plain", {"run": "r"})})
    assert len(privileged(placed, [stored(store, "brings", DAEMON)], store)) == told


def test_a_runtime_mount_is_a_bind_also_by_one_of_several_words(tmp_path: Path) -> None:
    mount = "{type: tmpfs, source: /proc, destination: p, options: ['rw,bind']}"
    path = tmp_path / "spec.yml"
    path.write_text(f"onboot: [{{name: c, image: plain, runtime: {{mounts: [{mount}]}}}}]\n")
    store = Store(tmp_path / "cache")
    placed = place(load_spec(path), {"plain": stored(store, "plain", {"run": "r"})})
    assert privileged(placed, (), store) == ("c: a runtime mount of /proc",)


@pytest.mark.parametrize("option", ["move", "rw,move", "remount"])
def test_no_mount_changes_another(tmp_path: Path, option: str) -> None:
    mount = f"{{type: tmpfs, source: /sys, destination: /p, options: ['{option}']}}"
    for mounts in (f"runtime: {{mounts: [{mount}]}}", f"mounts: [{mount}]"):
        with pytest.raises(BuildError, match=r"a mount on /p has the option .*, which changes another one"):
            tree_of(tmp_path, f"onboot: [{{name: c, image: plain, {mounts}}}]")


@pytest.mark.parametrize("options", [["ro", "rw"], ["ro", "rrw"], ["rrw", "ro"], ["rro"], []])
def test_a_bind_that_may_be_written_to_counts_as_such(tmp_path: Path, options: list[str]) -> None:
    label = {"mounts": [{"type": "bind", "source": "/etc", "destination": "/x", "options": ["bind", *options]}]}
    with pytest.raises(BuildError, match="asks for the bind /etc"):
        tree_of(tmp_path, "onboot: [{name: c, image: plain}]", label=label)


@pytest.mark.parametrize("kind", ["block", "''", "bc", "B"])
def test_a_device_has_a_type_of_which_nobody_reads_a_part(tmp_path: Path, kind: str) -> None:
    device = f"{{path: /dev/x, type: {kind}, major: 254, minor: 0}}"
    with pytest.raises(BuildError, match="the type of /dev/x: expected b, c, u, p, found"):
        tree_of(tmp_path, f"onboot: [{{name: c, image: plain, devices: [{device}]}}]")


@pytest.mark.parametrize("path", ["/", ".", "/.", "a/..", "../x"])
def test_no_container_runs_in_the_guests_own_control_group(tmp_path: Path, path: str) -> None:
    with pytest.raises(BuildError, match="cgroupsPath: expected a group below the guest's"):
        tree_of(tmp_path, f"onboot: [{{name: c, image: plain, cgroupsPath: '{path}'}}]")
