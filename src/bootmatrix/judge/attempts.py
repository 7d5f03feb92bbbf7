"""The judgement on several attempts at one cell."""

from collections.abc import Sequence

from bootmatrix.model import Evidence, Judgement, Verdict


def final_judgement(judgements: Sequence[Judgement]) -> tuple[int, Judgement]:
    """Return the index of the decisive attempt, and the judgement on all attempts.

    Guest verdicts take precedence over errors. A cell that both passed and failed is flaky, never a pass.
    """
    guests = [index for index, judgement in enumerate(judgements) if judgement.verdict.is_guests]
    failed = [index for index in guests if judgements[index].verdict is not Verdict.PASS]
    if not guests:
        return len(judgements) - 1, judgements[-1]
    if not failed or len(failed) == len(guests):
        return guests[0], judgements[guests[0]]
    return failed[0], _flaky([judgements[index] for index in guests], judgements[failed[0]])


def _flaky(judgements: Sequence[Judgement], failure: Judgement) -> Judgement:
    verdicts = [judgement.verdict for judgement in judgements]
    failed = f"{len(verdicts) - verdicts.count(Verdict.PASS)} of {len(verdicts)} boots failed"
    boots = Evidence(source="host", text=f"boots, all of the same files: {', '.join(verdicts)}")
    return failure.model_copy(
        update={
            "verdict": Verdict.FLAKY,
            "reason": f"{failed}, the first one with {failure.verdict}: {failure.reason}",
            "evidence": (boots, *failure.evidence),
            "advice": f"The same files passed and failed: a race, or a host that was slow. {failure.advice}".strip(),
        }
    )
