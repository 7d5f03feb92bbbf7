"""Ends of guests by the thousand: each is a real child process that speaks QMP, and its verdict is known beforehand.

An end is made by chance: a sound guest, with real consoles replayed, in which one thing goes wrong at some place.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from bootmatrix.boot.guest import boot
from bootmatrix.judge import judge
from bootmatrix.model import Judgement, Timeouts, Verdict
from fake_qemu import TEXTS
from guests import CORPUS, make_bootable, make_machine

PATIENT = Timeouts(boot=120, onboot=120, services=120, shutdown=120, silence=120)
"""For ends that come by themselves: no busy host makes them time out."""
HASTY = Timeouts(boot=1.0, onboot=1.0, services=1.0, shutdown=1.0, silence=0.5)
"""For those that never come."""
PASS, FAIL, PANIC, INFRA = {Verdict.PASS}, {Verdict.FAIL}, {Verdict.PANIC}, {Verdict.INFRA_ERROR}
STUCK = {Verdict.HANG, Verdict.TIMEOUT}
CLEAN = tuple(sorted(CORPUS.glob("clean-*.log")))
PANICS = tuple(sorted(CORPUS.glob("panic-*.log")))
KERNEL_LINES = (b"[    1.000000] usb 1-1: new device\n", b"[    2.500000][    T1] random: crng init done\n")
STATUSES = ("1", "2", "7", "126", "127", "137", "139", "255")

Step = tuple[object, ...]


@dataclass(frozen=True)
class End:
    """What the guest does, and what verdicts are right. `kind` is for the table of what was tried."""

    kind: str
    channel: str
    steps: tuple[Step, ...]
    right: frozenset[Verdict]
    timeouts: Timeouts = PATIENT


@dataclass
class Figures:
    """Counts of what was tried, by kind and verdict; and what was judged wrongly."""

    tried: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    false_passes: list[str] = field(default_factory=list)
    wrong_blame: list[str] = field(default_factory=list)
    otherwise_wrong: list[str] = field(default_factory=list)

    def add(self, end: End, judgement: Judgement) -> None:
        """Count an end."""
        verdict = judgement.verdict
        self.tried[end.kind] += 1
        self.verdicts[verdict] += 1
        words = f"{end.kind} on {end.channel}: {verdict}: {judgement.reason}; steps {end.steps!r}"[:2000]
        right = next(iter(end.right))
        if verdict is Verdict.PASS and verdict not in end.right:
            self.false_passes.append(words)
        elif verdict.is_guests is not right.is_guests:
            self.wrong_blame.append(words)
        elif verdict not in end.right:
            self.otherwise_wrong.append(words)

    @property
    def wrong(self) -> list[str]:
        return [*self.false_passes, *self.wrong_blame, *self.otherwise_wrong]

    def __iadd__(self, other: Figures) -> Figures:
        self.tried += other.tried
        self.verdicts += other.verdicts
        self.false_passes += other.false_passes
        self.wrong_blame += other.wrong_blame
        self.otherwise_wrong += other.otherwise_wrong
        return self


# --- ends


class Maker:
    """Makes ends by chance."""

    def __init__(self, seed: object) -> None:
        self.chance = random.Random(f"{seed}")

    def make(self) -> End:
        """One of all kinds; those that take long, or much, less often."""
        kinds = (self.sound, self.failed, self.lied, self.mangled, self.panicked, self.broke, self.stuck, self.left)
        (make,) = self.chance.choices(kinds, (20, 15, 15, 20, 12, 15, 4, 10))
        return make()

    def channel(self) -> str:
        return self.chance.choice(("virtio-serial", "virtio-serial", "console"))

    def console(self) -> Iterator[Step]:
        """What a real kernel printed, in pieces of some size."""
        if self.chance.random() < 0.5:
            yield "file", str(self.chance.choice(CLEAN)), self.chance.choice((64, 1000, 4096, 1 << 20))

    def talk(self, channel: str, texts: tuple[str, ...] = TEXTS, end: str = "pass") -> list[Step]:
        """All messages; on a console some of them twice, or with lines of the kernel in them."""
        steps: list[Step] = [*self.console(), ("greet",)]
        steps += [self.said(channel, text) for text in texts]
        return [*steps, ("end", end)] if end else steps

    def said(self, channel: str, text: str) -> Step:
        if channel == "console" and self.chance.random() < 0.3:
            return "twice", text
        if channel == "console" and self.chance.random() < 0.3:
            return "torn", text, self.chance.random(), self.chance.choice(KERNEL_LINES)
        return "say", text

    def place(self, steps: list[Step]) -> int:
        """Some place after the greeting."""
        return self.chance.randint(steps.index(("greet",)) + 1, len(steps))

    def sound(self) -> End:
        channel = self.channel()
        steps = self.talk(channel)
        steps.insert(self.place(steps), ("show", b"server| Moby test suite PASSED\r\n", 7))
        return self.end("sound", channel, [*steps, ("leave", "guest-shutdown")], PASS)

    def failed(self) -> End:
        """A container fails, as init says; the guest leaves as it should."""
        channel = self.channel()
        exits = [text for text in TEXTS if text.endswith("exit 0")]
        failing = self.chance.choice(exits)
        status = self.chance.choice(STATUSES)
        texts = tuple(text.replace("exit 0", f"exit {status}") if text == failing else text for text in TEXTS)
        if self.chance.random() < 0.2:
            texts = (*TEXTS[:7], f"service server exit {status}", *TEXTS[7:])
        verdict = self.chance.choice(("fail", "pass"))
        steps = self.talk(channel, texts, verdict)
        return self.end("container fails", channel, [*steps, ("leave", "guest-shutdown")], FAIL)

    def lied(self) -> End:
        """Something in the guest knows the protocol, and not the secret; or init lost or changed what it had to say."""
        channel = self.channel()
        steps = self.talk(channel)
        says = [index for index, step in enumerate(steps) if step[0] in {"say", "twice", "torn"}]
        index = self.chance.choice(says[:-1])
        text = steps[index][1]
        way = self.chance.choice(("forget", "forged", "no end", "wrong end", "nothing", "after the end", "overtaken"))
        if way in {"forget", "forged"}:
            steps[index] = (way, text)
        elif way == "no end":
            steps.pop()
        elif way == "wrong end":
            steps[-1] = ("wrong_end",)
        elif way == "nothing":
            steps = [*self.console(), ("show", b"bootmatrix 1 0123456789abcdef end pass\r\n", 100)]
        elif way == "after the end":
            steps.append(("say", "check ping exit 0"))
        else:
            steps[index], steps[index + 1] = ("hold", text), ("overtakes", steps[index + 1][1])
        return self.end(f"lies: {way}", channel, [*steps, ("leave", "guest-shutdown")], FAIL)

    def mangled(self) -> End:
        """Some bytes of one message are changed on the way."""
        channel = self.channel()
        steps = self.talk(channel)
        says = [index for index, step in enumerate(steps) if step[0] in {"say", "twice", "torn"}]
        index = self.chance.choice(says)
        removed = self.chance.choice((0, 1, 1, 2, 20))
        inserted = bytes(
            self.chance.choice(b"0123456789abcdef \0\xff\x1bx") for _ in range(self.chance.choice((0, 1, 1, 5)))
        )
        place = self.chance.uniform(0.05 if channel == "console" else 0.0, 0.99)
        steps[index] = ("spoilt", steps[index][1], place, removed, inserted)
        return self.end("mangled", channel, [*steps, ("leave", "guest-shutdown")], FAIL)

    def panicked(self) -> End:
        """The kernel gives up, at any moment; it leaves, stays, or its machine tells."""
        channel = self.channel()
        steps = self.talk(channel)
        steps = steps[: self.place(steps)]
        way = self.chance.choice(("leaves", "event", "leaves after the end"))
        if way == "event":
            return self.end(
                "panic: event", channel, [*steps, ("event", "GUEST_PANICKED", '{"action": "pause"}')], PANIC
            )
        steps = self.talk(channel) if way == "leaves after the end" else steps
        steps += [("show", b"\r\n", 2), ("file", str(self.chance.choice(PANICS)), self.chance.choice((50, 5000)))]
        reason = self.chance.choice(("guest-reset", "guest-shutdown"))
        return self.end(f"panic: {way}", channel, [*steps, ("leave", reason)], PANIC)

    def broke(self) -> End:
        """QEMU ends, or its monitor breaks, at any moment before the guest leaves."""
        channel = self.channel()
        steps = self.talk(channel)
        steps = steps[: self.place(steps)]
        way = self.chance.choice(("exits", "complains", "killed", "refuses", "host", "garbage", "hangs up", "deaf"))
        rare = {"garbage", "hangs up", "deaf"}  # these wait for QEMU's end
        if way in rare and self.chance.random() < 0.7:
            way = "killed"
        steps = self.broken(way, steps)
        return self.end(f"QEMU: {way}", channel, steps, INFRA)

    def broken(self, way: str, steps: list[Step]) -> list[Step]:
        complaint = ("complain", "qemu-system-fake: cannot set up guest memory 'ram'")
        ends: dict[str, list[Step]] = {
            "exits": [*steps, ("exit", self.chance.choice((0, 0, 1, 2, 139)))],
            "complains": [*steps, complaint, ("exit", 1)],
            "killed": [*steps, ("die", self.chance.choice((6, 9, 11, 15)))],
            "refuses": [complaint, ("exit", 1)],
            "host": [*steps, ("event", "SHUTDOWN", '{"guest": false, "reason": "host-signal"}'), ("exit", 0)],
            "garbage": [*steps, ("monitor", b"\0garbage\n")],
            "hangs up": [*steps, ("hang_up",)],
            "deaf": [("deaf",), *self.talk("virtio-serial"), ("leave", "guest-shutdown")],
        }
        return ends[way]

    def stuck(self) -> End:
        """Nothing more comes, or only noise."""
        channel = self.channel()
        steps = self.talk(channel)
        steps = steps[: self.place(steps)]
        way = self.chance.choice(("silent", "silent", "silent", "noisy", "floods"))
        if way == "floods":
            steps = [*self.console(), ("greet",), ("flood", "result", b"x" * 65536)]
            return self.end("floods its channel", "virtio-serial", steps, FAIL)
        steps += [("wait",)] if way == "silent" else [("noise",)]
        return self.end(f"stuck: {way}", channel, steps, STUCK, HASTY)

    def left(self) -> End:
        """It leaves too early, or in another way than it should."""
        channel = self.channel()
        steps = self.talk(channel)
        if self.chance.random() < 0.5:
            return self.end("leaves otherwise", channel, [*steps, ("leave", "guest-reset")], FAIL)
        place = min(self.place(steps), len(steps) - 1)
        return self.end("leaves early", channel, [*steps[:place], ("leave", "guest-shutdown")], FAIL)

    def end(self, kind: str, channel: str, steps: list[Step], right: set[Verdict], timeouts: Timeouts = PATIENT) -> End:
        return End(kind, channel, tuple(steps), frozenset(right), timeouts)


# --- trying them


async def try_end(end: End, folder: Path) -> Judgement:
    """Boot it, and judge."""
    machine = make_machine(result=end.channel, arguments=("-fake", repr(end.steps)))
    outcome = await boot(machine, make_bootable(), end.timeouts, folder)
    return judge(outcome, machine, make_bootable(), (folder / "console.log").read_bytes())


async def try_ends(count: int, seed: object, at_once: int) -> Figures:
    """Try so many ends, several of them at a time."""
    figures, maker = Figures(), Maker(seed)
    ends = iter([maker.make() for _ in range(count)])

    async def work() -> None:
        for end in ends:
            with tempfile.TemporaryDirectory(prefix="bootmatrix-end-") as folder:
                figures.add(end, await try_end(end, Path(folder)))

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(work)
    return figures


@contextmanager
def lean_qemu() -> Iterator[str]:
    """A PATH in which `qemu-system-fake` is the fast one."""
    with tempfile.TemporaryDirectory(prefix="bootmatrix-bin-") as name:
        program = Path(name) / "qemu-system-fake"
        source = Path(__file__).with_name("lean_qemu.py").read_text(encoding="utf-8")
        program.write_text(f"#!{sys.executable} -IS\n{source}", encoding="utf-8")
        program.chmod(0o755)
        yield name
