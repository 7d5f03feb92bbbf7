"""Fuzz one reader with atheris, for so many seconds: `python -m benchmarks.follow SECONDS NAME`. See fuzz.py.

Only our own code is followed, which is why it is imported here and not above. What breaks a reader is kept in the
current folder, in a file called NAME-crash-…, which `python -m benchmarks.follow SECONDS NAME FILE` runs again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
with atheris.instrument_imports(include=["bootmatrix"]):
    from fuzz_targets import Target, targets

MAX_BYTES = 1 << 16
LIMIT_S = 30
"""For one input."""


def main() -> None:
    """Fuzz; ends the process."""
    seconds, name, *again = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="bootmatrix-fuzz-") as folder:
        place = Path(folder)
        target = targets(place)[name]
        options = (
            f"-max_total_time={seconds}",
            f"-max_len={MAX_BYTES}",
            f"-timeout={LIMIT_S}",
            f"-artifact_prefix={Path.cwd()}/{name}-",
            f"-dict={write_words(target, place)}",
            "-verbosity=1",
            "-print_final_stats=1",
        )
        atheris.Setup([sys.argv[0], *options, *(again or [write_seeds(target, place)])], target.run)
        atheris.Fuzz()


def write_words(target: Target, place: Path) -> str:
    """A dictionary of what the reader's language knows, in libFuzzer's form; its name."""
    path = place / "words"
    words = (word.hex(" ").split() for word in target.tokens if word)
    path.write_text("".join('"' + "".join(f"\\x{byte}" for byte in word) + '"\n' for word in words), "ascii")
    return str(path)


def write_seeds(target: Target, place: Path) -> str:
    """A folder of sound inputs; its name."""
    folder = place / "seeds"
    folder.mkdir()
    for number, seed in enumerate(target.seeds):
        (folder / f"{number}").write_bytes(seed)
    return str(folder)


if __name__ == "__main__":
    main()
