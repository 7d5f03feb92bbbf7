"""A search for the first kernel on which a spec's verdict changes."""

from typing import Literal

from bootmatrix.model.base import Model
from bootmatrix.model.verdict import Verdict


class Step(Model):
    """A kernel between the good and the bad one; without a verdict it was not booted.

    Of a commit, `release` is its short object name and `version` its subject. `cell` is the id of its cell in the run
    of the search; empty if it could not be built. `skipped` marks a fault that is not the one to find. `image` is the
    digest of what was built, `twin` the commit tested before that has the same.
    """

    release: str
    version: str
    suite: str
    cell: str
    verdict: Verdict | None = None
    reason: str = ""
    skipped: bool = False
    image: str = ""
    twin: str = ""

    @property
    def is_judged(self) -> bool:
        """True if the verdict is on the guest, and counts; build and infra errors do not."""
        return self.verdict is not None and self.verdict.is_guests and not self.skipped


class Bisection(Model):
    """Steps from the good kernel to the bad one, in the order of their versions.

    Both ends are named as the user named them. Commits have no such order: those like the older end come first, then
    the candidates, which git names in `found`. `is_fix`: the good commit is the newer end. `unanswered` is the reason
    why a search among commits has no answer.
    """

    spec: str
    target: str
    good: str
    bad: str
    steps: tuple[Step, ...]
    unit: Literal["kernel", "commit"] = "kernel"
    is_fix: bool = False
    found: tuple[str, ...] = ()
    unanswered: str = ""

    def bounds(self) -> tuple[int, int]:
        """Indexes of the last kernel known as good and of the next one known as bad.

        -1 stands for unknown.
        """
        verdict = self.steps[0].verdict if self.steps else None
        judged = [number for number, step in enumerate(self.steps) if step.is_judged]
        differs = [number for number in judged if self.steps[number].verdict != verdict]
        first = differs[0] if differs else -1
        same = [number for number in judged if self.steps[number].verdict == verdict and (first < 0 or number < first)]
        return (same[-1] if same else -1), first

    def suspects(self) -> tuple[Step, ...]:
        """The kernels of which one is the first bad one; usually a single one.

        There are more if some kernels in between cannot be judged. None if the two ends do not differ, or cannot be
        judged themselves.
        """
        if self.unit == "commit":
            return tuple(step for step in self.steps if step.release in self.found)
        last, first = self.bounds()
        return () if last < 0 or first < 0 else self.steps[last + 1 : first + 1]

    def change(self) -> tuple[Step, Step]:
        """The steps before and after a change; for a search with suspects."""
        if self.unit == "commit":
            return self.steps[0], self.suspects()[-1]
        last, first = self.bounds()
        return self.steps[last], self.steps[first]

    def _contradiction(self) -> str:
        """The reason why built kernels' verdicts answer nothing: same image."""
        judged = {step.release: step for step in self.steps if step.is_judged}
        for step in judged.values():
            before = judged.get(step.twin)
            if before and (before.verdict != step.verdict or {before, step} == {self.steps[0], self.steps[-1]}):
                verdicts = "" if before.verdict == step.verdict else f", and once {before.verdict}, once {step.verdict}"
                return f"the builds of {before.release} and {step.release} made the same kernel{verdicts}"
        return ""

    def problem(self) -> str:
        """The reason why the search has not succeeded; empty if it has."""
        names = ("bad", "good") if self.is_fix else ("good", "bad")
        for name, step in zip(names, (self.steps[0], self.steps[-1]), strict=True):
            if step.skipped:
                return f"the {name} {self.unit} {step.release} has another fault: {step.verdict}: {step.reason}"
            if not step.is_judged:
                faults = f"{step.verdict}: {step.reason}" if step.verdict else "not booted"
                return f"the {name} {self.unit} {step.release} cannot be judged: {faults}"
        if contradiction := self._contradiction():
            return contradiction
        if self.steps[0].verdict == self.steps[-1].verdict:
            return f"the good and the bad {self.unit} have the same verdict: {self.steps[0].verdict}"
        return self.unanswered


def next_steps(search: Bisection, count: int) -> list[int]:
    """Choose up to `count` kernels to boot next, spread over the open range.

    The two ends come first. None when there is an answer, or there cannot be one.
    """
    ends = [number for number in (0, len(search.steps) - 1) if search.steps[number].verdict is None]
    if ends or search.problem():
        return ends
    last, first = search.bounds()
    open_ones = [number for number in range(last + 1, first) if search.steps[number].verdict is None]
    if len(open_ones) <= count:
        return open_ones
    steps = [last + (first - last) * part // (count + 1) for part in range(1, count + 1)]
    chosen: list[int] = []
    for place in steps:
        gaps = [number for number in open_ones if number not in chosen]
        chosen.append(min(gaps, key=lambda number, at=place: abs(number - at)))  # type: ignore[misc]
    return sorted(chosen)
