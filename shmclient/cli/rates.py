# SPDX-License-Identifier: MIT
"""What the sessions of a server did between two looks at their counters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import sub

import shmclient


@dataclass(frozen=True)
class Activity:
    """What one session, or several together, did in a time."""

    elapsed_ns: int
    sessions: int
    in_flight: int  # now
    reads: int
    writes: int
    others: int
    errors: int
    read_bytes: int
    written_bytes: int
    latency_ns: int  # summed up
    latency_counts: tuple[int, ...] = field(repr=False)

    @property
    def requests(self) -> int:
        return self.reads + self.writes + self.others

    def per_s(self, count: int) -> float:
        return count * 1e9 / self.elapsed_ns

    @property
    def mean_ns(self) -> float:
        return self.latency_ns / self.requests if self.requests else 0.0

    def percentile_ns(self, percent: float) -> float:
        return percentile_ns(self.latency_counts, percent)

    def as_dict(self) -> dict[str, int | float]:
        """For JSON: what was counted, and what follows from it."""
        return {
            "sessions": self.sessions,
            "in_flight": self.in_flight,
            **{name: getattr(self, name) for name in COUNTED},
            "reads_per_s": self.per_s(self.reads),
            "writes_per_s": self.per_s(self.writes),
            "others_per_s": self.per_s(self.others),
            "read_bytes_per_s": self.per_s(self.read_bytes),
            "written_bytes_per_s": self.per_s(self.written_bytes),
            "latency_mean_ns": self.mean_ns,
            "latency_p99_ns": self.percentile_ns(99),
        }


COUNTED = ("reads", "writes", "others", "errors", "read_bytes", "written_bytes")
COUNTERS = (*COUNTED, "latency_ns")


def percentile_ns(counts: Sequence[int], percent: float) -> float:
    """From a histogram by powers of two, so within a factor of two of the truth.

    Requests of a bucket are taken to be spread evenly in it.
    """
    total = sum(counts)
    rank = math.ceil(total * percent / 100)
    for i, count in enumerate(counts):
        if count >= rank > 0:
            low = 1 << i if i else 0
            return low + ((2 << i) - low) * rank / count
        rank -= count
    return 0.0


def activity(
    before: shmclient.SessionInfo | None, after: shmclient.SessionInfo, elapsed_ns: int
) -> Activity:
    """Of a session between two looks; before is None for one that has been opened since."""
    past = {name: getattr(before, name) if before else 0 for name in COUNTERS}
    counts = before.latency_counts if before else [0] * len(after.latency_counts)
    return Activity(
        elapsed_ns=elapsed_ns,
        sessions=1,
        in_flight=after.in_flight,
        latency_counts=tuple(map(sub, after.latency_counts, counts)),
        **{name: getattr(after, name) - past[name] for name in COUNTERS},
    )


def together(parts: Sequence[Activity]) -> Activity:
    """The sum of at least one."""
    summed = {
        name: sum(getattr(part, name) for part in parts)
        for name in ("sessions", "in_flight", *COUNTERS)
    }
    counts = (sum(column) for column in zip(*(part.latency_counts for part in parts), strict=True))
    return Activity(elapsed_ns=parts[0].elapsed_ns, latency_counts=tuple(counts), **summed)
