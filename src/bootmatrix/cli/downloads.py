"""Downloads on the standard error. The screen is loaded with the first download."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

from bootmatrix.progress import NullObserver, Observer


@contextmanager
def download_progress() -> Iterator[Observer]:
    """Display downloads, from the first one on."""
    with ExitStack() as opened:
        yield Downloads(opened)


class Downloads(NullObserver):
    """Observer that opens the screen with the first download."""

    def __init__(self, opened: ExitStack) -> None:
        self._opened = opened
        self._screen: Observer | None = None
        self._lock = Lock()

    def download(self, label: str, done_bytes: int, total_bytes: int) -> None:
        """Display the progress."""
        self._open().download(label, done_bytes, total_bytes)

    def note(self, text: str) -> None:
        """Display the line."""
        self._open().note(text)

    def _open(self) -> Observer:
        from bootmatrix.cli.progress import open_downloads

        with self._lock:
            if self._screen is None:
                self._screen = self._opened.enter_context(open_downloads())
            return self._screen
