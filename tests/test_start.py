"""An interrupt while the program is loaded."""

from __future__ import annotations

import signal
import subprocess
import sys

LIMIT_S = 60


def test_an_interrupt_while_modules_are_imported_is_told_in_a_line() -> None:
    python = ["env", "--default-signal=INT", sys.executable, "-X", "importtime"]
    words = [*python, "-m", "bootmatrix.cli.start", "validate", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as it:
        assert it.stderr
        while not it.stderr.readline().rstrip().endswith(" argparse"):  # of cli/main.py, its first import
            assert it.poll() is None
        it.send_signal(signal.SIGINT)
        out, errors = it.communicate(timeout=LIMIT_S)
    told = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert (it.returncode, out, told) == (130, "", ["bootmatrix: interrupted"])
