"""Runs Python code whose folder is soon full: a small tmpfs, in a mount namespace that ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def run_on_small_disk(
    folder: Path,
    size_kib: int,
    code: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    limit_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run code with `folder`, a tmpfs of this size, as its first argument."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = f'mount -t tmpfs -o size={size_kib}k tmpfs "$1" && exec "$0" -c "$2" "$1" "${{@:3}}"'
    command = ["unshare", *as_root, "--mount", "bash", "-c", script, sys.executable, str(folder), code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit_s, check=False)
