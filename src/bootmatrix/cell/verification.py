"""Comparison of a copied guest's judgement with that of a cold boot. Pure."""

from collections.abc import Iterator
from itertools import groupby

from bootmatrix.judge.completeness import NO_RESULT
from bootmatrix.model import Judgement, SubResult, Verdict

VERIFY_ADVICE = "Run it with --boot cold. If that is steady, please report it: a copy should not differ."
SEQUENTIAL, PARALLEL = {"onboot", "onshutdown"}, {"check", "service"}
"""First words of the sub-results of containers (judge/completeness.py); those of tests begin with `CONTAINER: `."""


def doubt_of(cold: Judgement, forked: Judgement) -> Judgement | None:
    """Return the judgement on an unconfirmed copy; None if both agree."""
    if not cold.verdict.is_guests:
        reason = f"the cold boot that was to confirm {forked.verdict} ({forked.reason}) failed: {cold.reason}"
        return cold.model_copy(update={"reason": reason})
    difference = differences(cold, forked)
    if not difference:
        return None
    reason = f"as a copy this guest differs from a cold one: {difference}"
    evidence = (*cold.evidence, *forked.evidence)
    return Judgement(verdict=Verdict.INFRA_ERROR, reason=reason, evidence=evidence, advice=VERIFY_ADVICE)


def differences(cold: Judgement, forked: Judgement) -> str:
    """Describe the difference of two judgements; empty if equal.

    The order of results does not count among checks and services, which run at the same time; nor do the results of
    checks that one of two failed guests had not come to.
    """
    if cold.verdict is not forked.verdict:
        return f"cold {cold.verdict} ({cold.reason}), forked {forked.verdict} ({forked.reason})"
    if cold.verdict is not Verdict.PASS:
        cold, forked = _without_cut_checks(cold, forked)
    before, after = ([(result.name, result.verdict) for result in each.subresults] for each in (cold, forked))
    only = [*(f"cold {name} {verdict}" for name, verdict in before if (name, verdict) not in after)]
    only += [f"forked {name} {verdict}" for name, verdict in after if (name, verdict) not in before]
    if only or sorted(before) != sorted(after):
        return "; ".join(only[:3]) or "the results differ in number"
    first, second = ([*_sequence(each)] for each in (cold, forked))
    return "" if first == second else f"their order differs: cold {', '.join(first)}, forked {', '.join(second)}"


def _without_cut_checks(*pair: Judgement) -> tuple[Judgement, ...]:
    """Leave out checks, and their tests, that one guest ended without."""
    results = [result for judgement in pair for result in judgement.subresults]
    checks = {name for result in results if result.detail == NO_RESULT and (name := _check_of(result))}
    return tuple(
        judgement.model_copy(
            update={
                "subresults": tuple(
                    result
                    for result in judgement.subresults
                    if _check_of(result) not in checks and result.name.partition(": ")[0] not in checks
                )
            }
        )
        for judgement in pair
    )


def _check_of(result: SubResult) -> str:
    """Return the name of the check whose end is a result; empty for other results."""
    role, _, name = result.name.partition(" ")
    return name if role == "check" else ""


def _sequence(judgement: Judgement) -> Iterator[str]:
    """Yield onboot and onshutdown containers in order of exits, then tests."""
    roles = [result.name.split(" ") for result in judgement.subresults]
    yield from (f"{role} {rest[0]}" for role, *rest in roles if role in SEQUENTIAL and rest)
    others = {rest[0] for role, *rest in roles if role in PARALLEL and rest}
    names = {rest[0] for role, *rest in roles if role in SEQUENTIAL and rest} - others
    tested = (result.name.partition(": ")[0] for result in judgement.subresults if ": " in result.name)
    yield from (name for name, _ in groupby(name for name in tested if name in names))
