# SPDX-License-Identifier: MIT
"""The C parts, a thousand times in a call: read microseconds as nanoseconds of one."""

from collections.abc import Callable
from typing import Any

import pytest

CALLS = 1000
pytestmark = pytest.mark.benchmark(group=f"C parts, {CALLS} in a call")


@pytest.mark.parametrize("batch", [1, 32])
def test_ring_entry(benchmark: Any, parts: Any, batch: int) -> None:
    """Into a ring and out of it, in one thread: no cache line travels."""
    benchmark(parts.micro_ring, batch, CALLS)


def test_doorbell_not_needed(benchmark: Any, parts: Any) -> None:
    """The fence with which a producer learns that its peer does not sleep."""
    benchmark(parts.micro_doorbell_needed, CALLS)


@pytest.mark.parametrize("size", [4096, 65536])
@pytest.mark.parametrize("held", [0, 31])
def test_arena_block(benchmark: Any, parts: Any, size: int, held: int) -> None:
    """Taken and given back."""
    assert benchmark(parts.micro_arena, size, held, CALLS) == 0


@pytest.mark.parametrize("far", [0, 1])
@pytest.mark.parametrize("size", [4096, 65536])
def test_copy(benchmark: Any, parts: Any, size: int, far: int) -> None:
    """With the stores for a peer that shares a cache, and for one that does not."""
    assert benchmark(parts.micro_copy, size, far, CALLS) == 0


def test_polled_hand_over(benchmark: Any, parts: Any, pair: Callable[[bool], Any]) -> None:
    """A word to another CPU and back, both polling."""
    benchmark(parts.micro_pair_round_trips, pair(True), CALLS)


@pytest.mark.benchmark(group="one wake-up there and one back")
def test_wake_up(benchmark: Any, parts: Any, pair: Callable[[bool], Any]) -> None:
    """The same with both asleep on a doorbell: two wake-ups.  Once in a call."""
    benchmark(parts.micro_pair_round_trips, pair(False), 1)
