"""Entry point: an interrupt while the program is loaded is told in a line."""

import signal
import sys

from bootmatrix.cli.exits import INTERRUPTED


def main() -> int:
    """Load the command line, run it, and return its exit status."""
    try:
        from bootmatrix.cli.main import main as run

        return run()
    except KeyboardInterrupt:  # before its own handlers are there
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stderr.write("bootmatrix: interrupted\n")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
