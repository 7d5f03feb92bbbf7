"""The process of a kept guest, which `exec` and `shell` start."""

import os

from bootmatrix.workspace.kept_server import main

if __name__ == "__main__":
    main()
    os._exit(0)  # at once: a download that nobody waits for may take long
