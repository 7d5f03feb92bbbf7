"""`bootmatrix signoff`: sign a run off for a release, and verify that."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.cli import options
from bootmatrix.cli.exits import EXPECTED, NOT_EXPECTED
from bootmatrix.cli.output import say
from bootmatrix.errors import InputError

if TYPE_CHECKING:
    from bootmatrix.history.reference import Place
    from bootmatrix.history.values import Comparison
    from bootmatrix.signoff.content import Acceptance

DESCRIPTION = (
    "Sign a run off: a page to print (HTML, and PDF where there is a chromium), an in-toto attestation of the same "
    "content, and the digests of all files of the run, in RUN/signoff/NAME/. A verdict that is not as expected, or an "
    "interruption, has to be accepted by someone, for a reason. 'bootmatrix signoff verify RUN' checks it: exit status "
    "1 if anything was changed since."
)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's arguments."""
    parser = commands.add_parser(
        "signoff",
        help="sign a run off for a release: a page to print and an attestation; verify it",
        description=DESCRIPTION,
        usage="bootmatrix signoff RUN --release NAME [--baseline RUN] [--accept CELL --reason WHY --by WHO]… "
        "[--sign-key KEY]\n       bootmatrix signoff verify RUN [--release NAME] [--key PUBLIC-KEY]",
    )
    parser.add_argument("words", nargs="+", metavar="[verify] RUN", help=options.RUN_HELP)
    parser.add_argument("--release", default="", metavar="NAME", help="what is released, such as influxdb-1.6.7")
    parser.add_argument("--baseline", metavar="RUN", help="compare with this run: the same")
    for name, what in (
        ("accept", "a cell (or a pattern of cells, or 'interrupted')"),
        ("reason", "why, once for each --accept"),
        ("by", "who says so, once for each --accept, or once for all"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], metavar=name.upper(), help=what)
    parser.add_argument(
        "--sign-key", type=Path, metavar="KEY", help="private key to sign with (PEM; ed25519, ECDSA, RSA)"
    )
    parser.add_argument("--no-pdf", action="store_true", help="make no PDF")
    parser.add_argument("--key", type=Path, metavar="PUBLIC-KEY", help="verify: the public key (PEM)")
    options.add_reports(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sign off, or verify."""
    from bootmatrix.history.reference import find_run

    *action, name = args.words
    if action not in ([], ["verify"]):
        raise InputError(f"{' '.join(args.words)}: give one run", "See 'bootmatrix signoff --help'.")
    place = find_run(options.reports_of(args), name)
    return _verify(args, place) if action else _sign_off(args, place)


def _sign_off(args: argparse.Namespace, place: Place) -> int:
    from bootmatrix.runs.run_store import load_run
    from bootmatrix.signoff.make import Request, write_signoff

    release = _name(args)
    if args.key:
        raise InputError("--key is for 'verify'; --sign-key signs")
    written = write_signoff(
        Request(
            folder=place.folder,
            run=load_run(place.folder),
            release=release,
            acceptances=_acceptances(args),
            comparison=_comparison(args, place),
            key=args.sign_key,
            pdf=not args.no_pdf,
        )
    )
    say(f"{written.folder}: {written.signed.result}")
    say(*(f"  {file.name}" for file in sorted(written.folder.iterdir())))
    say(*(f"note: {note}" for note in written.notes))
    return EXPECTED


def _name(args: argparse.Namespace) -> str:
    """The release, which becomes the name of a folder."""
    from bootmatrix.history.reference import TAG

    if not TAG.fullmatch(args.release):
        raise InputError(f"--release {args.release!r}: give a name of letters, digits and _ . + -")
    return str(args.release)


def _acceptances(args: argparse.Namespace) -> list[Acceptance]:
    from bootmatrix.signoff.content import Acceptance

    who = args.by * len(args.accept) if len(args.by) == 1 else args.by
    if not len(args.accept) == len(args.reason) == len(who):
        raise InputError("each --accept CELL needs its --reason WHY and --by WHO")
    rows = list(zip(args.accept, args.reason, who, strict=True))
    if not all(part.strip() for row in rows for part in row):
        raise InputError("--accept, --reason and --by must not be empty")
    return [Acceptance(*row) for row in rows]


def _comparison(args: argparse.Namespace, place: Place) -> Comparison | None:
    """Both runs are read from their own files: the index is no ground for a sign-off."""
    from bootmatrix.history.lookup import baseline_of, past_of_run, read_baseline
    from bootmatrix.runs.run_store import load_run

    if not args.baseline:
        return None
    baseline = read_baseline(baseline_of(place, args.baseline))
    return past_of_run(place, load_run(place.folder), baseline, compared=True).comparison


def _verify(args: argparse.Namespace, place: Place) -> int:
    from bootmatrix.report.sanitize import one_line
    from bootmatrix.signoff.manifest import signoffs_of
    from bootmatrix.signoff.verify import verify_signoff

    names = [_name(args)] if args.release else signoffs_of(place.folder)
    if not names:
        raise InputError(f"{place.folder} is not signed off", "Do it with 'bootmatrix signoff RUN --release NAME'.")
    status = EXPECTED
    for name in names:
        checked = verify_signoff(place.folder, name, args.key)
        for fault in checked.faults:
            say(f"{name}: {one_line(fault)}")
        if checked.faults:
            status = NOT_EXPECTED
            say(f"{name}: NOT as it was signed off")
        else:
            result = one_line(str(checked.statement["predicate"].get("result")))
            how = f"signed by {args.key}" if checked.is_signed else "not signed: this shows accidents only"
            say(f"{name}: {result}, {checked.file_count} files as they were signed off; {how}")
    return status
