"""Flow-controlled streams of one command."""

from collections import deque

import anyio

from bootmatrix.guest.frames import AgentFault

CHUNK_BYTES = 64 << 10


class Signal:
    """Wakes all who wait for a change."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake them."""
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Wait for the next change."""
        await self._event.wait()


class Endable:
    """A stream that comes to an end, and wakes all who wait for a change."""

    def __init__(self) -> None:
        self._is_over = False
        self._changed = Signal()

    def end(self) -> None:
        """Note that nothing more comes, or is taken."""
        self._is_over = True
        self._changed.set()


class Outbox(Endable):
    """Frames for the agent by one task: a cancelled sender leaves none cut."""

    MOST_BYTES = 256 << 10

    def __init__(self) -> None:
        super().__init__()
        self._data = bytearray()

    async def put(self, data: bytes) -> None:
        """Add whole frames, and wait for room for those of the next sender."""
        if not self._is_over:
            self._data += data
            self._changed.set()
        while len(self._data) > self.MOST_BYTES and not self._is_over:
            await self._changed.wait()

    async def take(self) -> bytes:
        """Return all that is to be written; empty at the end."""
        while not self._data and not self._is_over:
            await self._changed.wait()
        data = b"" if self._is_over else bytes(self._data)
        self._data.clear()
        self._changed.set()
        return data


class Incoming(Endable):
    """Data of the guest, at most `window` bytes that nobody has taken yet."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self._window = window
        self._chunks: deque[bytearray] = deque()
        self._held = self._taken = 0

    def feed(self, data: bytes) -> None:
        """Add data. Raises AgentFault if more than the window, or after the end."""
        self._held += len(data)
        if self._is_over or self._held + self._taken > self._window:
            raise AgentFault("more data than it may send")
        if not data:  # which would be taken for the end
            return
        if self._chunks and len(self._chunks[-1]) + len(data) <= CHUNK_BYTES:  # small ones would take much more memory
            self._chunks[-1] += data
        else:
            self._chunks.append(bytearray(data))
        self._changed.set()

    async def take(self) -> bytes:
        """Return the next data; empty at the end."""
        while not self._chunks and not self._is_over:
            await self._changed.wait()
        if not self._chunks:
            return b""
        data = bytes(self._chunks.popleft())
        self._held -= len(data)
        self._taken += len(data)
        return data

    def credit(self) -> int:
        """Return how many bytes to give back to the sender by now; 0 for none yet."""
        if self._is_over or self._taken < self._window // 4:
            return 0
        credit, self._taken = self._taken, 0
        return credit


class Outgoing(Endable):
    """Credit for data to the guest: at first `window` bytes."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self._window = self._left = window

    def add(self, credit: int) -> None:
        """Add credit. Raises AgentFault if more than was sent."""
        self._left += credit
        if self._left > self._window:
            raise AgentFault("more credit than was used")
        self._changed.set()

    async def reserve(self, most: int) -> int:
        """Wait for credit, and return how many bytes may be sent now; 0 at the end."""
        while not self._left and not self._is_over:
            await self._changed.wait()
        size = 0 if self._is_over else min(most, self._left)
        self._left -= size
        return size
