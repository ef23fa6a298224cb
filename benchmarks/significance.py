# SPDX-License-Identifier: MIT
"""How much a figure changed between two sets of rounds, and how sure that is.

Compared are only rounds of one stratum (one placement of the CPUs): every round before makes a pair
with every round after.  The ratios of all pairs, sorted, hold everything: their median is the
change, and cutting as many from both ends as chance may put there leaves its confidence interval
(Hodges and Lehmann; Moses).  No distribution is assumed, and one wild round moves little.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Stratum = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Change:
    """A ratio, after divided by before."""

    ratio: float
    low: float
    """Lower end of the confidence interval; 0: too few rounds to know one."""

    high: float
    """Upper end; infinity: too few rounds."""

    @property
    def known(self) -> bool:
        return self.low > 0


def inversions(before: int, after: int) -> list[int]:
    """Of all orders of ``before`` and ``after`` values, how many have 0, 1, 2... inverted pairs.

    The coefficients of the Gaussian binomial: the distribution of Mann and Whitney's U when
    nothing changed, times the number of orders.
    """
    counts = [1] + [0] * (before * after)
    for i in range(1, after + 1):
        for k in range(len(counts) - 1, before + i - 1, -1):
            counts[k] -= counts[k - before - i]
        for k in range(i, len(counts)):
            counts[k] += counts[k - i]
    return counts


def cut(strata: Sequence[tuple[int, int]], alpha: float) -> int | None:
    """How many of the sorted pairs lie below an interval that fails there with at most ``alpha``.

    ``strata``: rounds before and after in each; None: even the lowest pair is not safe.
    """
    counts = [1]
    for before, after in strata:
        own = inversions(before, after)
        joined = [0] * (len(counts) + len(own) - 1)
        for i, x in enumerate(counts):
            for j, y in enumerate(own):
                joined[i + j] += x * y
        counts = joined
    allowed = alpha * sum(counts)
    below, pairs = 0, None
    for pairs_below, count in enumerate(counts[: (len(counts) + 1) // 2]):
        below += count
        if below > allowed:
            break
        pairs = pairs_below
    return pairs


def change(strata: Sequence[Stratum], confidence: float) -> Change | None:
    """The change over all strata; None when no stratum has rounds on both sides.

    Values must be positive; ``confidence`` of the two-sided interval, 0 to 1.
    """
    ratios = sorted(y / x for before, after in strata for x in before for y in after)
    if not ratios:
        return None
    sizes = [(len(before), len(after)) for before, after in strata if before and after]
    pairs = cut(sizes, (1 - confidence) / 2)
    if pairs is None:
        return Change(statistics.median(ratios), 0.0, math.inf)
    return Change(statistics.median(ratios), ratios[pairs], ratios[-1 - pairs])
