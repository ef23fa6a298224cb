# SPDX-License-Identifier: MIT
"""How long samples may be, so that all of them end in time."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST_S = 0.1
LONGEST_S = 2.0
_FIRST_OVERHEAD_S = 0.25  # of starting a loader and looking at the counters, until it is known


class Budget:
    """Shares what is left of the time among the samples that are left, over and over: a slow peer
    makes the later samples shorter, not the run longer."""

    def __init__(
        self,
        seconds: float,
        samples: int,
        fixed_s: float | None = None,
        weight: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """fixed_s: the length of every sample, whatever the time.  weight: of all samples together,
        when some are to be longer; the usual one counts 1."""
        self._clock = clock
        self._end = clock() + seconds
        self._left = samples
        self._weight = samples if weight is None else weight
        self._fixed_s = fixed_s
        self._overhead_s = _FIRST_OVERHEAD_S
        self.lengths: list[float] = []

    @property
    def remaining_s(self) -> float:
        return self._end - self._clock()

    @property
    def spent(self) -> bool:
        """There is no time for even a short sample."""
        return self._fixed_s is None and self.remaining_s <= 0

    def length(self, weight: float = 1) -> float:
        """Of the next sample, in seconds."""
        if self._fixed_s is not None:
            return self._fixed_s
        share = (self.remaining_s - self._left * self._overhead_s) / max(1, self._weight)
        return min(max(share, SHORTEST_S) * weight, LONGEST_S)

    def used(self, length: float, took: float, weight: float = 1) -> None:
        """A sample of this length has taken so long in all."""
        self._left -= 1
        self._weight -= weight
        self._overhead_s += (max(0.0, took - length) - self._overhead_s) / 8
        self.lengths.append(length)
