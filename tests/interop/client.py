# SPDX-License-Identifier: MIT
"""What every client looks like to the suite: one small interface, the same for all of them.

Failures are OSError with the errno.  What a client cannot do is named in CLIENTS (pairs.py), and
calling it is a mistake of the test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

ARENA_BYTES = 4 << 20  # of an open volume
WAIT_S = 30  # for what must come; a busy machine may take a while


class Hello(NamedTuple):
    store: str
    capabilities: frozenset[str]
    depth_max: int
    request_bytes_max: int
    range_bytes_max: int


class Info(NamedTuple):
    name: str
    size_bytes: int
    block_bytes: int
    writers: int
    readers: int
    snapshots: int


class Snapshot(NamedTuple):
    name: str
    size_bytes: int


class Extent(NamedTuple):
    length_bytes: int
    hole: bool
    zero: bool


class Event(NamedTuple):
    kind: str  # "resized", "draining", "ended"
    value: int


class Read(NamedTuple):
    length_bytes: int
    offset_bytes: int


class Write(NamedTuple):
    data: bytes
    offset_bytes: int
    fua: bool = False


class Flush(NamedTuple):
    pass


class Discard(NamedTuple):
    length_bytes: int
    offset_bytes: int


class WriteZeroes(NamedTuple):
    length_bytes: int
    offset_bytes: int


Request = Read | Write | Flush | Discard | WriteZeroes


class _Closing(ABC):
    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Volume(_Closing):
    @abstractmethod
    def size(self) -> int: ...

    @abstractmethod
    def read(self, length_bytes: int, offset_bytes: int) -> bytes: ...

    @abstractmethod
    def write(self, data: bytes, offset_bytes: int, *, fua: bool = False) -> int: ...

    @abstractmethod
    def flush(self) -> None: ...

    @abstractmethod
    def batch(self, requests: Sequence[Request]) -> list[bytes | int]:
        """All of them in flight together, as far as the depth goes.  In order of the requests: the
        bytes of a read, 0 or the bytes of the others, -errno of what failed."""

    def readv(self, lengths: Sequence[int], offset_bytes: int) -> list[bytes]:
        raise NotImplementedError

    def writev(self, chunks: Sequence[bytes], offset_bytes: int) -> int:
        raise NotImplementedError

    def write_shared(self, chunks: Sequence[bytes], offset_bytes: int) -> int:
        """As writev, with each chunk in arena memory of its own."""
        raise NotImplementedError

    def discard(self, length_bytes: int, offset_bytes: int) -> None:
        raise NotImplementedError

    def write_zeroes(
        self, length_bytes: int, offset_bytes: int, *, may_unmap: bool = True, fua: bool = False
    ) -> None:
        raise NotImplementedError

    def block_status(self, length_bytes: int, offset_bytes: int) -> list[Extent]:
        """All of the range that lies in the volume; neighbours differ."""
        raise NotImplementedError

    def resize(self, size_bytes: int) -> None:
        raise NotImplementedError

    def set_writable(self, writable: bool) -> None:
        raise NotImplementedError

    def pending_events(self) -> list[Event]:
        """Those that are there; does not wait."""
        raise NotImplementedError

    def next_event(self) -> Event | None:
        """The next event; None when none comes in WAIT_S, or can come any more."""
        raise NotImplementedError


class Connection(_Closing):
    @abstractmethod
    def create(self, name: str, size_bytes: int) -> None: ...

    @abstractmethod
    def remove(self, name: str) -> None: ...

    @abstractmethod
    def resize(self, name: str, size_bytes: int) -> None: ...

    @abstractmethod
    def names(self) -> list[str]: ...

    @abstractmethod
    def snapshot_create(self, volume: str, snapshot: str, timeout_s: int = 0) -> None: ...

    @abstractmethod
    def snapshot_rollback(self, volume: str, snapshot: str) -> None: ...

    @abstractmethod
    def snapshot_remove(self, volume: str, snapshot: str) -> None: ...

    @abstractmethod
    def snapshot_is_synced(self, volume: str, snapshot: str) -> bool: ...

    @abstractmethod
    def snapshots(self, volume: str) -> list[Snapshot]: ...

    @abstractmethod
    def open(self, name: str, *, writable: bool = False, depth: int = 0) -> Volume: ...

    def hello(self) -> Hello:
        raise NotImplementedError

    def stat(self, name: str) -> Info:
        raise NotImplementedError

    def list(self) -> list[Info]:
        raise NotImplementedError

    def status(self) -> dict[str, int]:
        """Members of struct ovsshm_status by name."""
        raise NotImplementedError

    def sessions(self) -> list[dict[str, Any]]:
        """Members of struct ovsshm_session_info by name, for each; `mode` is "read" or "write"."""
        raise NotImplementedError


def merged(extents: Sequence[Extent]) -> list[Extent]:
    """Neighbours of the same kind as one."""
    found: list[Extent] = []
    for extent in extents:
        if found and found[-1][1:] == extent[1:]:
            extent = extent._replace(length_bytes=found.pop().length_bytes + extent.length_bytes)
        found.append(extent)
    return found
