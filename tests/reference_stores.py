# SPDX-License-Identifier: MIT
"""Stores for tests of servers of stores in Python: `--store reference_stores:NeverFlush`."""

from __future__ import annotations

import asyncio
from typing import Any

from shmserver.reference.stores import Memory


class NeverFlush(Memory):
    """A flush never completes."""

    async def flush(self, volume: Any) -> None:
        await asyncio.Event().wait()


class SlowWrite(Memory):
    """A write takes a while."""

    async def pwrite(self, volume: Any, buffer: memoryview, offset_bytes: int) -> None:
        await asyncio.sleep(0.3)
        super().pwrite(volume, buffer, offset_bytes)
