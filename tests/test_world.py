"""Which specs give their containers a view of the root of their own, and what is in it (cases/bind-*.yml boot it)."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.assembly.initrd.bundle_spec import BundleSpec
from bootmatrix.assembly.initrd.runtime_config import merged_settings
from bootmatrix.assembly.initrd.world import needs_world
from bootmatrix.assembly.tree import Tree, symlink, text_file
from bootmatrix.load.merge import load_spec
from bootmatrix.model import ImageConfig, StoredImage

IMAGE = StoredImage(reference="i", digest="0" * 64, layers=(), config=ImageConfig(cmd=("/a",)), size_bytes=1)


def needs(folder: Path, *containers: str, files: str = "") -> bool:
    lines = [f"  - {{name: c{number}, image: i, {text}}}" for number, text in enumerate(containers)]
    path = folder / "spec.yml"
    path.write_text("\n".join(["init: [i]", "onboot:", *lines, *([f"files: [{files}]"] if files else [])]))
    spec = load_spec(path)
    placed = tuple(
        BundleSpec("onboot", one.name, one, merged_settings(one, IMAGE.config), IMAGE) for one in spec.onboot
    )
    tree = Tree()
    tree.put("usr/bin/crun", text_file(""))
    tree.put("bin", symlink("usr/bin"))
    return needs_world(placed, spec, tree)


@pytest.mark.parametrize(
    "containers",
    [
        ("binds: ['/checks:/checks:ro', '/run/bootmatrix:/run/bootmatrix']",),
        ("binds: ['/var:/var'], runtime: {mkdir: [/var/lib/x]}",),
        ("binds: ['/etc/ssl:/etc/ssl:ro', '/lib/modules:/lib/modules:ro', '/usr:/u:ro']",),
        ("binds: ['/proc/net:/n', '/sys:/s', '/dev/fuse:/dev/fuse', '/dev:/d:ro']",),
        ("binds: ['/var:/var']", "binds: ['/var:/v', '/tmp:/t']"),
        ("binds: ['/:/host'], capabilities: [all]",),
        ("binds: ['/etc:/e'], capabilities: [CAP_SYS_ADMIN]", "binds: ['/srv:/srv']"),
        ("mounts: [{type: tmpfs, source: tmpfs, destination: /etc}]",),
    ],
)
def test_needless(tmp_path: Path, containers: tuple[str, ...]) -> None:
    assert not needs(tmp_path, *containers)


@pytest.mark.parametrize(
    "containers",
    [
        ("binds: ['/:/host:ro']",),
        ("binds: ['/./:/host']",),
        ("binds: ['/var/../etc:/e']",),
        ("binds: ['/etc/resolv.conf:/etc/resolv.conf']",),
        ("binds: ['/containers:/c:ro']",),
        ("binds: ['/bootmatrix:/c:ro']",),
        ("binds: ['/bin:/b']",),
        ("binds: ['/usr:/u:ro,rw']",),
        ("binds: ['/dev:/dev']",),
        ("binds: ['/proc:/p:ro']",),
        ("binds: ['/dev/fd/3:/r']",),
        ("binds: ['/proc/1/root:/r']",),
        ("binds: ['/proc/self/root/etc:/r:ro']",),
        ("mounts: [{type: bind, source: /etc, destination: /e, options: [rw, bind]}]",),
        ("mounts: [{type: tmpfs, source: /etc, destination: /e, options: [rbind]}]",),
        ("binds: ['/var:/v']", "binds: ['/var/x:/x:ro']"),
        ("binds: ['/var:/v', '/var/x:/x']",),
        ("binds: ['/var:/v']", "runtime: {mkdir: [/var/x]}"),
        ("runtime: {mounts: [{type: bind, source: /a, destination: /usr/bin, options: [bind]}]}",),
        ("runtime: {bindNS: {net: /run/netns/x}}",),
        ("runtime: {mkdir: [x]}",),
        ("binds: ['/etc:/e'], capabilities: [CAP_SYS_MODULE]",),
    ],
)
def test_needed(tmp_path: Path, containers: tuple[str, ...]) -> None:
    assert needs(tmp_path, *containers)


def test_links_of_the_specs_files_count(tmp_path: Path) -> None:
    assert needs(tmp_path, "binds: ['/srv/x/y:/y:ro']", files="{path: srv/x, symlink: /etc}")
    assert not needs(tmp_path, "binds: ['/srv/x/y:/y:ro']", files="{path: srv/z, symlink: /etc}")
