# SPDX-License-Identifier: MIT
"""Forgets what is written and reads zeroes: what is left is the cost of everything but storage."""

from __future__ import annotations

import builtins
from collections.abc import Iterable

from shmserver.store import Extent, Store


class Null(Store):
    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def create(self, name: str, size_bytes: int) -> None:
        self._sizes[name] = size_bytes

    def remove(self, name: str) -> None:
        del self._sizes[name]

    def size(self, name: str) -> int:
        return self._sizes[name]

    def allocated(self, name: str) -> int:
        return 0

    def list(self) -> Iterable[str]:
        return builtins.list(self._sizes)

    def resize(self, name: str, size_bytes: int) -> None:
        self._sizes[name] = size_bytes

    def pread(self, volume: str, buffer: memoryview, offset_bytes: int) -> None:
        buffer[:] = bytes(len(buffer))

    def pwrite(self, volume: str, buffer: memoryview, offset_bytes: int) -> None:
        pass

    def discard(self, volume: str, length_bytes: int, offset_bytes: int) -> None:
        pass

    def write_zeroes(
        self, volume: str, length_bytes: int, offset_bytes: int, may_unmap: bool
    ) -> None:
        pass

    def block_status(self, volume: str, length_bytes: int, offset_bytes: int) -> Iterable[Extent]:
        return [Extent(length_bytes, hole=True, zero=True)]
