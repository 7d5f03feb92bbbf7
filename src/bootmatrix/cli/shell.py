"""`bootmatrix shell`: a shell in a guest."""

from __future__ import annotations

import argparse

from bootmatrix.cli.exec import run_words

SHELL = ["/bin/sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi"]


def run(args: argparse.Namespace) -> int:
    """Open a shell, and return its exit status."""
    args.no_tree = not args.tree
    return run_words(args, SHELL)
