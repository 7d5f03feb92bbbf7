"""`bootmatrix signoff`: sign a run off for a release, and verify sign-offs."""

import argparse
from pathlib import Path

from bootmatrix.cell.borne_out import check_verdicts
from bootmatrix.cli.exits import EXPECTED, NOT_EXPECTED
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError
from bootmatrix.history.lookup import past_against
from bootmatrix.history.reference import TAG, RunLocation, find_run, reports_folder
from bootmatrix.history.values import Comparison
from bootmatrix.report.sanitize import one_line
from bootmatrix.runs.run_store import load_run
from bootmatrix.signoff.content import Acceptance
from bootmatrix.signoff.make import Request, write_signoff
from bootmatrix.signoff.manifest import SIGNOFF_FOLDER, signoffs_of
from bootmatrix.signoff.page import sentence
from bootmatrix.signoff.statement import Identity
from bootmatrix.signoff.verify import Checked, Signer, verify_sent, verify_signoff


def run(args: argparse.Namespace) -> int:
    """Sign off, verify, or push."""
    *action, name = args.words
    if action not in ([], ["verify"], ["push"]):
        raise InputError(f"{' '.join(args.words)}: expected one run", "See 'bootmatrix signoff --help'.")
    if action == ["verify"] and Path(name).is_file():
        return _verify_sent(args, Path(name))
    place = find_run(reports_folder(args.reports), name)
    if action == ["push"]:
        return _push(args, place)
    return _verify(args, place) if action else _sign_off(args, place)


def _sign_off(args: argparse.Namespace, place: RunLocation) -> int:
    release = _name(args)
    if args.key or args.identity or args.issuer:
        raise InputError("--key and --identity are for 'signoff verify'; --sign-key and --sign-identity sign")
    if args.sign_key and args.sign_identity:
        raise InputError("--sign-key cannot be combined with --sign-identity")
    written = write_signoff(
        Request(
            folder=place.folder,
            run=load_run(place.folder),
            release=release,
            acceptances=_acceptances(args),
            comparison=_comparison(args, place),
            key=args.sign_key,
            token=_token() if args.sign_identity else "",
            trust=args.sigstore_trust,
            pdf=not args.no_pdf,
            check=check_verdicts,
        )
    )
    say(f"{written.folder}: {written.signed.result}: {sentence(written.signed)}")
    say(*(f"  {file.name}" for file in sorted(written.folder.iterdir())))
    say(*(f"note: {note}" for note in written.notes))
    if not args.baseline:
        say("note: not compared with an earlier run: --baseline RUN tells what changed, and what was not tested")
    return EXPECTED


def _name(args: argparse.Namespace) -> str:
    """Return the release, which becomes a folder's name."""
    if not TAG.fullmatch(args.release):
        raise InputError(f"--release {args.release!r}: must consist of letters, digits and _ . + -")
    return str(args.release)


def _acceptances(args: argparse.Namespace) -> list[Acceptance]:
    who = args.by * len(args.accept) if len(args.by) == 1 else args.by
    if not len(args.accept) == len(args.reason) == len(who):
        raise InputError("each --accept CELL needs a --reason WHY and a --by WHO")
    rows = list(zip(args.accept, args.reason, who, strict=True))
    if not all(part.strip() for row in rows for part in row):
        raise InputError("--accept, --reason and --by must not be empty")
    return [Acceptance(*row) for row in rows]


def _comparison(args: argparse.Namespace, place: RunLocation) -> Comparison | None:
    """Compare the runs from their own files: a sign-off does not rely on the index."""
    if not args.baseline:
        return None
    return past_against(place, load_run(place.folder), args.baseline).comparison


def _signer(args: argparse.Namespace) -> Signer | None:
    """Return the expected signer, if any."""
    if bool(args.identity) != bool(args.issuer):
        raise InputError("--identity and --issuer belong together", "Anyone could certify an identity to themselves.")
    if args.identity and args.key:
        raise InputError("--key cannot be combined with --identity")
    return Identity(args.identity, args.issuer, args.sigstore_trust) if args.identity else args.key


def _verify_sent(args: argparse.Namespace, file: Path) -> int:
    """Verify a report that was sent."""
    signer = _signer(args)
    checked = verify_sent(file, signer, args.release)
    return _say_checked(str(file), checked, f"{one_line(checked.release)}: ", "unchanged", signer)


def _say_checked(name: str, checked: Checked, release: str, contents: str, signer: Signer | None) -> int:
    """Print what the verification found; return its status."""
    say(*(f"{name}: {one_line(fault)}" for fault in checked.faults))
    if checked.faults:
        say(f"{name}: NOT valid")
        return NOT_EXPECTED
    result = one_line(str(checked.statement["predicate"].get("result")))
    how = f"signed by {signer}" if checked.is_signed else "not signed: only accidental changes are detected"
    say(f"{name}: {release}{result}, {contents}; {how}")
    return EXPECTED


def _push(args: argparse.Namespace, place: RunLocation) -> int:
    """Attach a valid sign-off to its image."""
    release = _name(args)
    if not args.image:
        raise InputError("push needs --image", "It is the tested image in its registry: REGISTRY/REPOSITORY@sha256:…")
    checked = verify_signoff(place.folder, release, _signer(args))
    if checked.faults:
        say(*(f"{release}: {one_line(fault)}" for fault in checked.faults))
        return NOT_EXPECTED
    from bootmatrix.signoff.published import publish

    digest = publish(place.folder / SIGNOFF_FOLDER / release, checked.statement, args.image)
    say(f"{args.image}: {release} attached as {digest}")
    return EXPECTED


def _verify(args: argparse.Namespace, place: RunLocation) -> int:
    names = [_name(args)] if args.release else signoffs_of(place.folder)
    if not names:
        raise InputError(f"{place.folder} is not signed off", "Use 'bootmatrix signoff RUN --release NAME'.")
    signer = _signer(args)
    checks = ((name, verify_signoff(place.folder, name, signer)) for name in names)
    return max(_say_checked(name, done, "", f"{done.file_count} files unchanged", signer) for name, done in checks)


def _token() -> str:
    from bootmatrix.signoff.identity import token_of_environment  # needs sigstore

    return token_of_environment()
