"""Search a git history for the first commit that changes a verdict."""

from collections.abc import Awaitable, Callable

import anyio.to_thread

from bootmatrix.bisect.git import SHORT, Commit, GitBisect
from bootmatrix.model import Bisection, Step, Verdict

Test = Callable[[Commit], Awaitable[Step]]
"""Builds and boots the commit that is checked out."""


class CommitSearch:
    """A search in progress: both ends are tested before any commit between them."""

    def __init__(self, git: GitBisect, spec: str, target: str, match: str = "") -> None:
        self._git, self._spec, self._target, self._match = git, spec, target, match
        self._steps: dict[str, Step] = {}

    async def run(self, test: Test) -> None:
        """Test commits until git knows the first bad one, or none is left.

        Raises InputError if git cannot check a commit out.
        """
        for end in self._git.ends:
            await anyio.to_thread.run_sync(self._git.tree.check_out, end)
            await self._test(end, test)
            if not self._steps[end.id].is_judged:
                return
        if self._verdict(self._git.good) == self._verdict(self._git.bad):
            return
        for end in reversed(self._git.ends):
            await self._answer(end)
        while commit := await anyio.to_thread.run_sync(self._git.next):
            await self._test(commit, test)
            await self._answer(commit)

    async def _test(self, commit: Commit, test: Test) -> None:
        step = await test(commit)
        twin = next((other.release for other in self._steps.values() if step.image and other.image == step.image), "")
        is_other = self._is_other_fault(commit, step)
        self._steps[commit.id] = step.model_copy(update={"skipped": is_other, "twin": twin})

    def _is_other_fault(self, commit: Commit, step: Step) -> bool:
        """Return whether a fault is not the one to find, nor the good commit's."""
        if not self._match or not step.is_judged or commit == self._git.good:
            return False
        is_same = step.verdict == self._verdict(self._git.good)
        return not is_same and self._match != step.verdict and self._match not in step.reason

    async def _answer(self, commit: Commit) -> None:
        is_good = self._is_good(commit.id) if self._steps[commit.id].is_judged else None
        await anyio.to_thread.run_sync(lambda: self._git.answer(commit, is_good=is_good))

    def _is_good(self, name: str) -> bool:
        return self._steps[name].verdict == self._verdict(self._git.good)

    def state(self) -> Bisection:
        """Return the tested commits: older end, alike, candidates, rest, newer end."""
        candidates = self._git.candidates()
        old, new = self._git.ends
        between = [name for name in self._steps if name not in {old.id, new.id}]
        like_old = [
            name for name in between if self._is_good(name) is not self._git.is_fix and self._steps[name].is_judged
        ]
        possible = [name for name in reversed(candidates) if name in between]
        others = [name for name in between if name not in {*like_old, *possible}]
        return Bisection(
            spec=self._spec,
            target=self._target,
            good=self._git.good.name,
            bad=self._git.bad.name,
            steps=(self._step(old), *(self._steps[name] for name in (*like_old, *possible, *others)), self._step(new)),
            unit="commit",
            is_fix=self._git.is_fix,
            found=tuple(name[:SHORT] for name in reversed(candidates)),
            unanswered="" if candidates else self._git.trouble or self._interruption(),
        )

    def _step(self, end: Commit) -> Step:
        return self._steps.get(end.id) or Step(release=end.name, version=end.subject, suite="", cell="")

    def _interruption(self) -> str:
        left = f", with {self._git.left()} commits left" if len(self._steps) > 2 else ""
        return f"the search was interrupted{left}"

    def _verdict(self, commit: Commit) -> Verdict | None:
        return self._steps[commit.id].verdict if commit.id in self._steps else None
