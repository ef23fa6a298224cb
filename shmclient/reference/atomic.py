# SPDX-License-Identifier: MIT
"""Memory order, as far as Python has any.  The only file that says why an order holds.

A member of a cffi struct is stored and loaded by one aligned machine instruction of its size, and
no compiler sees both sides of the interpreter's calls.  What is left is what the processor may
reorder:

- On x86 all stores are seen in order and all loads are made in order, so every store is a release
  store and every load an acquire load (R1 and A1 of section 6) already.
- Nothing makes a load wait for an older store (F1 and F2), and on other processors nothing orders
  the rest.  Python has no fence.  It has system calls that give up its global lock and take it
  again: an unlock and then a lock.  On x86 both are locked instructions; on ARM they are a
  store-release and a later load-acquire, which are not reordered with each other.  So nothing moves
  from before the call to after it, or the other way round: fence() is such a call, and does nothing
  else.
"""

from __future__ import annotations

import platform
import select
from typing import Any

TOTAL_STORE_ORDER = platform.machine() in ("x86_64", "i386", "i686")


def fence() -> None:
    """A full fence (F1, F2)."""
    select.select([], [], [], 0)


def store_release(words: Any, word: str, value: int) -> None:
    """Everything read or written before is over when the peer sees this value (R1)."""
    if not TOTAL_STORE_ORDER:
        fence()
    setattr(words, word, value)


def load_acquire(words: Any, word: str) -> int:
    """Nothing that is read or written after this was read or written before it (A1)."""
    value: int = getattr(words, word)
    if not TOTAL_STORE_ORDER:
        fence()
    return value
