# SPDX-License-Identifier: MIT
"""Who sleeps says so, and is rung once (section 7).  The client's side; a server rings differently.

    sleeper    arm()  look at the ring  wait()  disarm()  look at the ring
    ringer     publish  needed() -> ring()

Without an atomic exchange needed() may take away an arming that it has not seen.  No harm is done:
it returns true then, and the ring that follows wakes the sleeper, who looks and arms again.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import Any

from shmclient.reference import atomic

_COUNTER_BYTES = 8


def arm(words: Any, armed: str) -> None:
    """Sleeper, step 1: from now on the peer rings.  Look at the ring once more after this."""
    setattr(words, armed, 1)
    atomic.fence()  # F1 pairs with F2


def disarm(words: Any, armed: str) -> None:
    """Sleeper, step 4: awake again."""
    setattr(words, armed, 0)


def needed(words: Any, armed: str) -> bool:
    """Ringer, steps 1 to 3, after publishing: must the peer be rung?"""
    atomic.fence()  # F2 pairs with F1
    return take_arming(words, armed)


def take_arming(words: Any, armed: str) -> bool:
    """Ringer, steps 2 and 3: does the peer sleep?  It is rung once for that."""
    if not getattr(words, armed):
        return False
    setattr(words, armed, 0)
    return True


def ring(fd: int) -> None:
    with suppress(BlockingIOError):  # full: its owner is awake by definition
        os.eventfd_write(fd, 1)


def clear(fd: int) -> None:
    with suppress(BlockingIOError):  # it was not rung
        os.read(fd, _COUNTER_BYTES)


def wait(fds: list[int], timeout_s: float | None) -> list[int]:
    """Sleep until one of these is readable or at its end; none when it took too long."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout_s is None else max(0, timeout_s) * 1000)]
