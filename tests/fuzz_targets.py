"""Whatever reads what others wrote, as functions of bytes: they hold for all bytes, or raise what they should not.

`test_fuzz.py` runs them for some seconds with hypothesis, `benchmarks/fuzz.py` for as long as one likes, and with
atheris, which sees what code they reach.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bootmatrix.assembly.initrd.cpio import write_cpio
from bootmatrix.assembly.initrd.runtime_config import merged_settings, runtime_config
from bootmatrix.assembly.tree import Tree
from bootmatrix.boot.protocol import Conversation, sign
from bootmatrix.cell.rejudge import rejudge
from bootmatrix.console.log import KEPT_LINE_BYTES, KEPT_LINES_BYTES, PANIC, ConsoleLog, PanicWatch
from bootmatrix.errors import BuildError, InputError, NetworkError
from bootmatrix.judge import judge
from bootmatrix.judge.tap import parse as parse_tap
from bootmatrix.load import load_any
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.lock import load_lock
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Container, GuestMessage, ImageConfig, Verdict
from bootmatrix.model.image import LABEL
from bootmatrix.report.sanitize import one_line, sanitize
from bootmatrix.runs.run_store import RECORD_FILE, STARTED_FILE, load_run
from bootmatrix.source.deb import open_data, read_control
from bootmatrix.source.packages import kernel_packages, open_index
from bootmatrix.source.release import parse_date, parse_release
from bootmatrix.source.resolve import parse_relation
from bootmatrix.store import Store
from fake_qemu import TEXTS
from guests import CORPUS, make_bootable, make_machine, make_messages, make_outcome
from packages import Deb, entry, folder, hard_link, link, make_ar, make_tar, read_cpio
from samples import make_cell, make_record

NONCE = "0123456789abcdef" * 2
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ud800-\udfff\ufffe\uffff]")
"""What no terminal and no XML may get from a guest."""


class Broken(AssertionError):
    """Something holds no more that should."""


@dataclass(frozen=True)
class Target:
    """A reader: `run` raises nothing, or there is a fault. Its seeds are sound; tokens are what its language knows."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    tokens: tuple[bytes, ...] = ()


def hold(target: Target, examples: int, same: bool) -> None:
    """Run a reader on so many inputs that hypothesis makes: the `same` ones each time, or others.

    Raises:
        Exception: whatever the reader raised, on the smallest input that was found.
    """

    @settings(
        max_examples=examples,
        derandomize=same,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations(target))
    def holds(data: bytes) -> None:
        target.run(data)

    holds()


def expect(holds: bool, what: str) -> None:
    """Complain if something does not hold; not an assert, which Python can be told to leave out."""
    if not holds:
        raise Broken(what)


# --- files of the user


YAML = tuple(
    text.encode()
    for text in (
        *(
            "&a ",
            "*a",
            "<<: *a",
            "!!str ",
            "!<!> ",
            "---\n",
            "...\n",
            "? ",
            "|\n ",
            ">-\n ",
            "[[[[",
            "{a: {",
            "%YAML 9\n",
        ),
        *(
            "null",
            "true",
            "~",
            "-",
            "0x7fffffffffffffff",
            "1e999",
            ".nan",
            "2020-01-01",
            "'\\u0000'",
            '"\\ud800"',
            "\t",
        ),
        *(
            "../../etc/passwd",
            "/etc/passwd",
            "@pkg:./../x",
            "\u2028",
            "\x00",
            "<img onerror>",
            "a" * 300,
            "-1s",
            "9" * 30,
        ),
    )
)


def read_file(folder: Path, name: str, data: bytes) -> None:
    """A spec, a matrix, a profile or a recipe, which its name or its contents tell."""
    path = folder / name
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        load_any(path, PROFILES)


def read_lock(folder: Path, data: bytes) -> None:
    """A lock file."""
    path = folder / "x.lock.json"
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        load_lock(path)


def read_run(folder: Path, data: bytes) -> None:
    """The record of a cell in a run that was interrupted: read, and judged again."""
    cell = folder / "run/cells/influxdb/x86_64/q35/6.1"
    cell.mkdir(parents=True, exist_ok=True)
    (folder / "run" / STARTED_FILE).write_text(
        json.dumps({"name": "x", "title": "x", "started_at": "2026-01-01T00:00:00"})
    )
    (cell / RECORD_FILE).write_bytes(data)
    with contextlib.suppress(InputError):
        run = load_run(folder / "run")
        for _, judgement in rejudge(run, folder / "run"):
            expect(judgement.verdict in Verdict, "a verdict")


def read_label(data: bytes) -> None:
    """An image's label, which a registry sends: merged, and made into a container's configuration."""
    container = Container(name="x", image="x")
    image = ImageConfig(labels={LABEL: data.decode("utf-8", "surrogateescape")}, cmd=("/bin/sh",))
    with contextlib.suppress(BuildError):
        json.dumps(runtime_config(container, merged_settings(container, image), image, {}))


# --- packages and images


TAR = (
    *(bytes(512), bytes(1024), b"ustar\x0000", b"ustar  \x00", b"../../../etc/passwd", b"/abs", b"./././@LongLink"),
    *(b"L", b"K", b"x", b"g", b"S", b"5", b"2", b"1", b"\xff" * 12, b"\x80" + bytes(11), b"77777777777\x00"),
    *(b"27 path=../../../etc/passwd\n", b"30 GNU.sparse.size=99999999999\n", b"99999999999 size=1\n", b"5 =\n"),
)


def check_tree(tree: Tree) -> None:
    """No path leaves the root, and the archive that is made of it holds just these."""
    for path in tree.nodes:
        expect(bool(path) and not set(path.split("/")) & {"", ".", ".."}, f"the path {path!r}")
        parent = path.rpartition("/")[0]
        expect(not parent or tree.nodes[parent].kind == "dir", f"{path!r} is in a folder")
    with contextlib.suppress(BuildError):
        cpio = b"".join(write_cpio(tree, 0))
        expect(set(read_cpio(cpio)) == set(tree.nodes), "all paths, and no more")


def summed(data: bytes) -> bytes:
    """A tar archive whose headers have the right checksums, so that what else they say is looked at: tar(5)."""
    tar = bytearray(data)
    for start in range(0, len(tar) - 511, 512):
        if tar[start + 257 : start + 262] == b"ustar":
            tar[start + 148 : start + 156] = b" " * 8
            tar[start + 148 : start + 156] = b"%06o\0 " % sum(tar[start : start + 512])
    return bytes(tar)


def read_package(folder: Path, data: bytes) -> None:
    """A package as a whole: its control fields and its files."""
    path = folder / "x.deb"
    path.write_bytes(data)
    with contextlib.suppress(BuildError):
        fields = read_control(path)
        expect(bool(fields["Package"] and fields["Version"] and fields["Architecture"]), "fields that are always there")
    tree = Tree()
    with contextlib.suppress(BuildError):
        with open_data(path) as archive:
            tree.add_tar(archive)
        check_tree(tree)


def read_package_of(folder: Path, data: bytes) -> None:
    """A package whose archive is sound but for the tar in it."""
    data = summed(data)
    read_package(folder, make_ar({"debian-binary": b"2.0\n", "control.tar": data, "data.tar": data}))


def read_layer(folder: Path, data: bytes) -> None:
    """A layer of an image."""
    path = folder / "layer.tar"
    path.write_bytes(summed(data))
    tree = Tree()
    with contextlib.suppress(BuildError):
        tree.add_layer(path)
        check_tree(tree)


# --- the archive


def read_release(data: bytes) -> None:
    """An InRelease file, the signature taken off."""
    with contextlib.suppress(NetworkError):
        release = parse_release(data.decode(errors="replace"))
        for index in release.indexes.values():
            expect(".." not in index.path and not index.path.startswith("/"), f"the path {index.path!r}")
        parse_date(release.valid_until)


def read_packages(folder: Path, data: bytes) -> None:
    """A list of packages, uncompressed: its database, kernels, and dependencies."""
    read_packed(folder, gzip.compress(data, 1))


def read_packed(folder: Path, data: bytes) -> None:
    """The same as it is sent."""
    store = Store(folder / "cache")
    file = folder / "Packages"
    file.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    with contextlib.suppress(NetworkError):
        kernel_packages(digest, "stable", store, file)
        with contextlib.closing(open_index(file, digest, "stable", store)) as index:
            for name in list(index.names()):
                for package in (*index.named(name), *index.providing(name)):
                    read_relations(package.depends)


def read_relations(groups: tuple[str, ...]) -> None:
    """Dependencies."""
    for group in groups:
        for one in group.split("|"):
            with contextlib.suppress(BuildError):
                parse_relation(one).accepts("1.0-1")


# --- the guest


def signed(texts: tuple[str, ...] = TEXTS, end: str = "pass") -> bytes:
    """What init sends of these texts."""
    lines = [f"bootmatrix {number} {sign(NONCE, number, text)} {text}\n" for number, text in enumerate(texts, 1)]
    last = f"end {end} {hashlib.sha256(''.join(lines).encode()).hexdigest()}"
    count = len(texts) + 1
    return (
        b"bootmatrix hello 1\n" + "".join([*lines, f"bootmatrix {count} {sign(NONCE, count, last)} {last}\n"]).encode()
    )


def listen(data: bytes, noisy: bool, size: int) -> tuple[Conversation, list[GuestMessage]]:
    """A conversation that comes in pieces of a size."""
    talk = Conversation(NONCE, noisy)
    found = [talk.feed(data[start : start + size], 0.0) for start in range(0, len(data), size)]
    return talk, [message for messages in found for message in messages]


def read_result(noisy: bool, data: bytes) -> None:
    """A result channel: whatever comes, only what init signed is a message, and all of it or there is a fault."""
    talk, messages = listen(data, noisy, len(data) or 1)
    again, pieces = listen(data, noisy, 7)
    expect(messages == pieces and (talk.fault, talk.rejected) == (again.fault, again.rejected), "pieces do not matter")
    said = [" ".join((one.kind, *one.words)) for one in messages]
    expect(set(said) <= SIGNED, f"a forged message: {said}")
    numbers = [one.sequence for one in messages]
    expect(numbers == sorted(set(numbers)), "each message counts once, in its order")
    if talk.ended and not talk.fault:
        expect(tuple(said[:-1]) in SERIES, f"a conversation that nobody had: {said}")


SERIES = (TEXTS, (*TEXTS[:5], "check ping exit 7"))
ENDS = [signed(series, end).splitlines()[-1] for series in SERIES for end in ("pass", "fail")]
SIGNED = {text for series in SERIES for text in series} | {line.split(b" ", 3)[3].decode() for line in ENDS}


def read_console(data: bytes) -> None:
    """A console: kept without the secret, watched for a panic, judged, and shown."""
    whole, pieces = PanicWatch(), PanicWatch()
    whole.feed(data)
    for start in range(0, len(data), 5):
        pieces.feed(data[start : start + 5])
    expect(pieces.seen == whole.seen == bool(PANIC.search(b"\n" + data)), "a panic is seen, however it comes")
    kept = keep(data, 5)
    expect(NONCE.encode() not in kept, "the secret is blotted out")
    expect(len(data) > 2 * KEPT or len(kept) == len(data), "nothing is lost of a short console")
    room = 2 * KEPT + KEPT_LINES_BYTES + 2 * KEPT_LINE_BYTES
    expect(len(kept) <= min(room, len(data)) + 100, "no more is kept than there is room for, with the kernel's faults")
    judgement = judge(make_outcome(), make_machine(), make_bootable(), data)
    expect(judgement.verdict in {Verdict.PASS, Verdict.FAIL, Verdict.PANIC}, "a verdict on the guest")
    text = sanitize(data.decode("utf-8", "surrogateescape"))
    expect(not CONTROLS.search(text), "nothing that a terminal obeys")
    expect("\n" not in one_line(text) and len(one_line(text)) <= 400, "one line")


KEPT = 4000


def keep(data: bytes, size: int) -> bytes:
    """What is kept of a console that comes in pieces."""
    file = io.BytesIO()
    with ConsoleLog(file, NONCE.encode(), KEPT) as log:
        for start in range(0, len(data), size):
            log.write(data[start : start + size])
    return file.getvalue()


def read_tap(data: bytes) -> None:
    """TAP of a container."""
    reading = parse_tap(data.decode("utf-8", "replace"), "x")
    if any(one.verdict is Verdict.FAIL for one in reading.results):
        expect(bool(reading.faults), "what is not ok is a fault")


def read_sent(kind: str, path: str, data: bytes) -> None:
    """What a container sends whole: TAP, or a file. However damaged, the blame stays with the guest."""
    packed = base64.b64encode(gzip.compress(data, 1)).decode()
    words = (
        ("ping", packed)
        if kind == "tap"
        else ("ping", base64.b64encode(path.encode()).decode(), str(len(data)), packed)
    )
    judge_message(GuestMessage(kind=kind, words=words, at_s=1.0, sequence=1))


def read_message(data: bytes) -> None:
    """A signed message of a guest that was taken over, before it lost its secret: any words at all."""
    text = re.sub(r"[^!-~ ]|(?<= ) ", "", data.decode("latin-1")).strip()
    kind, *words = text.split(" ")
    if kind:
        judge_message(GuestMessage(kind=kind, words=tuple(word for word in words if word), at_s=1.0, sequence=1))


def judge_message(message: GuestMessage) -> None:
    """Judge a perfect boot that has one message more."""
    messages = make_messages()
    more = (*messages[:9], message, *messages[9:])
    numbered = tuple(one.model_copy(update={"sequence": number}) for number, one in enumerate(more, 1))
    judgement = judge(make_outcome(messages=numbered), make_machine(), make_bootable(), b"")
    expect(judgement.verdict.is_guests, f"{judgement.verdict}: {judgement.reason}")


# --- all of them


PROFILES = load_profiles([CHECKOUT / "arch"])


def texts(*patterns: str) -> tuple[bytes, ...]:
    """Files of the checkout."""
    return tuple(file.read_bytes() for pattern in patterns for file in sorted(CHECKOUT.glob(pattern)))


def corpus() -> Iterator[bytes]:
    """Consoles of real guests, the longer ones cut."""
    for file in sorted(CORPUS.rglob("*.log")):
        if file.is_file():
            yield file.read_bytes()[-3000:]


def a_tar(tar_format: int) -> bytes:
    members = [
        folder("./usr"),
        entry("./usr/" + "long" * 24, b"data" * 200),
        link("./lib", "usr/lib"),
        entry("./lib/a", b"a"),
        hard_link("./twin", "./lib/a"),
        entry("./dev", kind=tarfile.CHRTYPE, major=5, minor=1),
        entry("./control", b"Package: x\nVersion: 1\nArchitecture: all\n"),
    ]
    return make_tar(members, tar_format)


TARS = tuple(a_tar(form) for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT))
DEB = Deb(suffix="").of_tar(TARS[0])

RELEASE = f"""Origin: Debian
Suite: stable
Codename: bookworm
Date: Sat, 10 Jun 2023 08:53:29 UTC
Valid-Until: Sat, 17 Jun 2033 08:53:29 UTC
Acquire-By-Hash: yes
SHA256:
 {"a" * 64} 1234 main/binary-amd64/Packages.xz
 {"b" * 64} 5678 main/binary-arm64/Packages.gz
""".encode()

PACKAGES = f"""Package: linux-image-6.1.0-1-amd64
Version: 6.1.1-1
Architecture: amd64
Pre-Depends: a (>= 1:2~3) | b
Depends: libc6 (>= 2.36), c:any
Provides: linux-image, wireguard-modules (= 1.0.0)
Filename: pool/main/l/linux_6.1.1-1_amd64.deb
Size: 100
SHA256: {"c" * 64}

Package: b
Version: 1.0
Architecture: all
Filename: pool/b.deb
Size: 1
SHA256: {"d" * 64}
""".encode()

FIELDS = (
    b"Package: ",
    b"Version: ",
    b"Size: ",
    b"\n ",
    b"\n\n",
    b" | ",
    b" (>= ",
    b")",
    b"[amd64]",
    b"..",
    b"9" * 20,
    b"\x00",
)

TALK = (
    *(
        b"bootmatrix ",
        b"bootmatrix hello 1",
        b"\n",
        b"\r\n",
        b"\n" * 50,
        b"[    1.000000] ",
        b"[    1.000000][    T1] x\n",
    ),
    *(
        b"end pass " + b"0" * 64,
        b" exit 0",
        b"0" * 16,
        NONCE.encode(),
        b"\x00",
        b"\xff\xfe",
        b"99999999999 ",
        b"x" * 2000,
    ),
    *(signed(SERIES[1], "fail"), *signed().splitlines(True)),
)
CONSOLE = (
    *(
        b"\n",
        b"\r",
        b"\r\n",
        b"[    1.000000] ",
        b"Kernel panic - not syncing: x",
        b"---[ end ",
        b"BUG: ",
        b"Oops: [#1]",
    ),
    *(
        b"\x1b[31m",
        b"\x1b]8;;http://x\x07",
        b"\x1bP",
        b"\x1b",
        b"\x9b",
        b"\xc2\x9b",
        b"\xe2\x80\xae",
        b"\xed\xa0\x80",
        b"\x00",
    ),
    *(
        NONCE.encode(),
        NONCE[:16].encode(),
        NONCE[16:].encode(),
        b"ping| ",
        b"A" * 5000,
        b"<script>",
        b"]]>",
        b"\xff\xfe",
    ),
)
TAP = (
    b"TAP version 14\n1..3\nok 1 - a\nnot ok 2 - b # TODO later\n    # Subtest: c\n    ok 1\n    1..1\nok 3 # SKIP no\n"
)
TAP_TOKENS = (
    *(
        b"ok ",
        b"not ok ",
        b"1..",
        b"0",
        b"99999999999999999999",
        b" # SKIP",
        b" # TODO",
        b"\t",
        b"\r",
        b"\x1b[31m",
        b"Bail out!",
        b"\n",
        b"    ",
        b"  ---\n",
    ),
    *(
        b"  ...\n",
        b"TAP version 13\n",
        b"KTAP version 1\n",
        b"\x0c",
        b"\xe2\x80\xa8",
        b"pragma +strict\n",
        b"-",
        b"\xd9\xa3",
    ),
)
JUNIT = (
    b'<?xml version="1.0"?><testsuites><testsuite name="s"><testcase classname="c" name="n" time="0.1"/>'
    b'<testcase name="m"><failure message="no">text</failure></testcase><testcase name="k"><skipped/></testcase>'
    b"<properties><property name='a' value='b'/></properties></testsuite></testsuites>"
)
JUNIT_TOKENS = (
    *(
        b"<testsuite>",
        b"</testsuite>",
        b"<testsuite>" * 2000,
        b"<testcase>",
        b"<error/>",
        b' time="x"',
        b' tests="-1"',
        b' xmlns="x"',
        b'<?xml version="1.0" encoding="klingon"?>',
        b'<?xml version="1.0" encoding="utf-16"?>',
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
        b"<a:b/>",
    ),
    *(
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
        b"&a;",
        b"<![CDATA[",
        b"<!--",
        b"<?x?>",
        b'encoding="utf-16"',
        b"\x00",
        b"\xff\xfe",
    ),
)


def targets(folder: Path) -> dict[str, Target]:
    """All of them, by name; they write below the folder."""
    record = json.dumps(make_record(make_cell("x86_64", "6.1"), Verdict.FAIL, "it failed").model_dump(), default=str)
    lock = b'{"format": 1, "kernels": {}, "packages": {}}'
    return {
        "spec": Target(partial(read_file, folder, "x.yml"), texts("specs/*[!x].yml"), YAML),
        "matrix": Target(partial(read_file, folder, "x.matrix.yml"), texts("specs/*.matrix.yml"), YAML),
        "profile": Target(partial(read_file, folder, "armv9.yml"), texts("arch/*.yml"), YAML),
        "recipe": Target(partial(read_file, folder, "build.yml"), texts("specs/images/*/build.yml"), YAML),
        "lock": Target(partial(read_lock, folder), (lock,), JSON),
        "run": Target(partial(read_run, folder), (record.encode(),), JSON),
        "label": Target(read_label, LABELS, JSON),
        "deb": Target(partial(read_package, folder), (DEB,), TAR),
        "deb-tar": Target(partial(read_package_of, folder), TARS, TAR),
        "layer": Target(partial(read_layer, folder), TARS, TAR),
        "release": Target(read_release, (RELEASE,), FIELDS),
        "packages": Target(partial(read_packages, folder), (PACKAGES,), FIELDS),
        "packages-packed": Target(
            partial(read_packed, folder), (gzip.compress(PACKAGES),), (b"\xfd7zXZ\x00", b"\x1f\x8b")
        ),
        "result": Target(partial(read_result, False), (signed(), signed(SERIES[1], "fail")), TALK),
        "result-on-console": Target(partial(read_result, True), (signed(), signed(SERIES[1], "fail")), TALK),
        "message": Target(read_message, tuple(text.encode() for text in TEXTS), WORDS),
        "console": Target(read_console, tuple(corpus()), CONSOLE),
        "tap": Target(read_tap, (TAP,), TAP_TOKENS),
        "tap-sent": Target(partial(read_sent, "tap", ""), (TAP,), TAP_TOKENS),
        "junit-sent": Target(partial(read_sent, "file", "/x.xml"), (JUNIT,), JUNIT_TOKENS),
    }


MAGICS = (b"\xfd7zXZ\x00", b"\x1f\x8b")
WORDS = (b"exit", b" -1", b" 0", b"error ", b"tap ", b"end ", b"file ", b"service ", b"check ", b" missing")
JSON = (
    *(b"{", b"}", b"[" * 2000, b"null", b"true", b"-1", b"1e999"),
    *(b"NaN", b'"\\ud800"', b'""', b"9" * 5000, b"\x00", b"\xff"),
)
RUN = json.dumps({"name": "x", "title": "x", "started_at": "2026-01-01T00:00:00+00:00"})
LABELS = (
    b'{"capabilities": ["CAP_SYS_ADMIN"], "binds": ["/a:/b:ro"], "tmpfs": ["/tmp:size=1m"], "pid": "host"}',
    b'{"runtime": {"mkdir": ["/x"]}, "rlimits": ["nofile,1,2"], "uid": 5, "gid": "x", "devices": [{"path": "/dev/x"}]}',
)


# --- mutations


def mutations(target: Target) -> st.SearchStrategy[bytes]:
    """Seeds with some edits, and some bytes that nobody sent on purpose."""
    pieces = st.one_of(st.sampled_from((*target.tokens, b"")), st.binary(max_size=20))
    edit = st.tuples(st.floats(0, 1), st.sampled_from((0, 0, 1, 2, 10, 200)), pieces, st.sampled_from((1, 1, 1, 3, 50)))
    edited = st.builds(edits, st.sampled_from(target.seeds), st.lists(edit, max_size=6))
    return st.one_of(edited, edited, edited, st.binary(max_size=400))


def edits(data: bytes, changes: list[tuple[float, int, bytes, int]]) -> bytes:
    """Replace some bytes, at a place between 0 and 1, by others, several times over."""
    for place, removed, inserted, times in changes:
        at = int(place * len(data))
        data = data[:at] + inserted * times + data[at + removed :]
    return data[: 1 << 16]
