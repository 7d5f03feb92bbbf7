"""A testbed's auxiliary program: one command, on this process' streams.

Started as a file, `testbed_command.py [--terminal] FOLDER -- COMMAND…`, many times in a test: it imports little.
"""

import os
import sys
import termios
import tty
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bootmatrix.errors import BootmatrixError
from bootmatrix.workspace import kept_client

FAULT = 254
"""Exit status if the command could not be run, or its guest has ended, by the protocol."""
HIGHEST = 253
"""Exit status of commands that end with more, as autopkgtest takes 254 and 255 for a fault of the testbed."""


def main(words: Sequence[str]) -> int:
    """Run a command; return its exit status, or 254."""
    has_terminal = words[0] == "--terminal"
    folder, _, *command = words[has_terminal:]
    end = kept_client.connect(Path(folder))
    if end is None:
        _say("the testbed has ended")
        return FAULT
    before = termios.tcgetattr(0) if has_terminal else None
    try:
        with end:
            if before:
                tty.setraw(0)
            status = kept_client.run_in(end, job(command, has_terminal), _say, -1)
            return FAULT if status < 0 else min(status, HIGHEST)
    except (BootmatrixError, OSError) as error:
        _say(str(error))
        return FAULT
    finally:
        if before:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def job(command: Sequence[str], has_terminal: bool) -> Mapping[str, Any]:
    """Return an ExecJob's fields: root with all capabilities, nothing of ours."""
    fields = {"words": list(command), "folder": "/", "cwd": "/", "tree": False, "program": False, "privileged": True}
    if not has_terminal:
        return fields
    size = os.get_terminal_size(0)
    env = {"TERM": os.environ.get("TERM", "linux")}
    return {**fields, "env": env, "rows": size.lines or 24, "columns": size.columns or 80}


def _say(text: str) -> None:
    os.write(2, f"autopkgtest-virt-bootmatrix: {text}\n".encode("utf-8", "replace"))


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
