# SPDX-License-Identifier: MIT
"""The figures to reach, and whether a run reached them.

A ratio is taken between two samples of one round with the CPUs in one placement; a figure is the
median of such ratios.  When fewer than three rounds have both, it is the ratio of the medians of
all samples in that placement, and says so.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.record import Loader, Placement, Record, WorkloadName

PAIRED_LEAST = 3
FUSE_USUAL = "FUSE memory direct"  # multi-threaded, direct I/O, native aio, unpinned
FUSE_BEST = "FUSE memory"  # the best of all whose names begin so, those that cache among them
FUSE_ASKED = "FUSE memory direct"  # of those, all that ask the server instead of the page cache


@dataclass(frozen=True)
class Goal:
    """How many times better one peer shall be than another at one load."""

    title: str
    depth: int
    near: float
    far: float
    other: str
    ours: str = "shm memory"
    best: bool = False
    """Against the best of all peers whose names begin with `other`."""
    metric: Literal["iops", "cpu"] = "iops"
    """Requests per second, or CPU of both sides per request: how many times less."""
    loader: Loader = "qemu-img"
    block_size: int = 4096

    @property
    def workload(self) -> WorkloadName:
        """What each loader is good at."""
        return "randread" if self.loader == "fio" else "read"


@dataclass(frozen=True)
class Figure:
    """What a run says of a goal, for one placement of the CPUs."""

    goal: Goal
    placement: Placement
    wanted: float
    ratio: float
    low: float
    high: float
    rounds: int
    """That have both peers; `paired` False: samples of the rarer peer."""
    paired: bool
    against: str
    """The peer it was taken against."""

    @property
    def reached(self) -> bool:
        return self.ratio >= self.wanted


GOALS: tuple[Goal, ...] = (
    Goal("FUSE usual", 1, 20, 8, FUSE_USUAL),
    Goal("FUSE best", 1, 8, 3, FUSE_BEST, best=True),
    Goal("FUSE usual", 32, 6, 4, FUSE_USUAL),
    Goal("FUSE best", 32, 4, 2, FUSE_BEST, best=True),
    Goal("FUSE best that asks the server", 1, 8, 3, FUSE_ASKED, best=True),
    Goal("FUSE best that asks the server", 32, 4, 2, FUSE_ASKED, best=True),
    Goal("FUSE usual, CPU per I/O", 1, 12, 5, FUSE_USUAL, metric="cpu"),
    Goal("FUSE usual, CPU per I/O", 32, 5, 3, FUSE_USUAL, metric="cpu"),
    Goal("nbdkit memory", 1, 35, 12, "nbdkit memory"),
    Goal("nbdkit memory", 32, 15, 8, "nbdkit memory"),
    Goal("historical transport", 1, 40, 10, "historical"),
    Goal("file store: FUSE best, same store", 1, 5, 3, "FUSE file", ours="shm file", best=True),
    Goal("file store: FUSE best, same store", 32, 3, 2, "FUSE file", ours="shm file", best=True),
    Goal("file store: the same that asks", 1, 5, 3, "FUSE file direct", ours="shm file", best=True),
    Goal(
        "file store: the same that asks", 32, 3, 2, "FUSE file direct", ours="shm file", best=True
    ),
    Goal("fio engine: fio on the mount", 1, 25, 10, FUSE_USUAL, loader="fio"),
    Goal("fio engine: fio on the mount", 32, 7, 6, FUSE_USUAL, loader="fio"),
)


def _of(goal: Goal, records: Iterable[Record]) -> list[Record]:
    key = (goal.loader, goal.workload, goal.block_size, goal.depth, 1)
    return [
        one
        for one in records
        if (one.loader, one.workload, one.block_size, one.depth, one.volumes) == key
    ]


def _value(goal: Goal, record: Record) -> float:
    """The more the better."""
    if goal.metric == "iops":
        return record.iops
    if record.cpu_us_per_io is None or not record.cpu_us_per_io.total:
        return 0.0
    return 1 / record.cpu_us_per_io.total


def _rival(goal: Goal, by_peer: dict[str, list[Record]]) -> str | None:
    """The peer to compare with: the named one, or the one with the best median."""
    if not goal.best:
        return goal.other if goal.other in by_peer else None
    rivals = [peer for peer in by_peer if peer.startswith(goal.other)]

    def middle(peer: str) -> float:
        return statistics.median(_value(goal, one) for one in by_peer[peer])

    return max(rivals, key=middle, default=None)


def figure(goal: Goal, records: Iterable[Record], placement: Placement) -> Figure | None:
    """None: not both peers have a sample with the CPUs placed so."""
    by_peer: dict[str, list[Record]] = defaultdict(list)
    for one in _of(goal, records):
        if one.placement == placement and _value(goal, one) > 0:
            by_peer[one.peer].append(one)
    rival = _rival(goal, by_peer)
    if rival is None or goal.ours not in by_peer:
        return None
    ours = {one.round: _value(goal, one) for one in by_peer[goal.ours]}
    theirs = {one.round: _value(goal, one) for one in by_peer[rival]}
    ratios = [ours[number] / theirs[number] for number in ours if number in theirs]
    paired = len(ratios) >= PAIRED_LEAST
    if not paired:
        middle = statistics.median(ours.values()) / statistics.median(theirs.values())
        low = min(ours.values()) / max(theirs.values())
        high = max(ours.values()) / min(theirs.values())
        rounds = min(len(ours), len(theirs))
    else:
        middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
        rounds = len(ratios)
    wanted = goal.near if placement == "near" else goal.far
    return Figure(goal, placement, wanted, middle, low, high, rounds, paired, rival)


def figures(records: Sequence[Record]) -> list[Figure]:
    """All that the records allow, in the order of the goals, near before far."""
    placements: tuple[Placement, ...] = ("near", "far")
    found = (figure(goal, records, placement) for goal in GOALS for placement in placements)
    return [one for one in found if one is not None]
