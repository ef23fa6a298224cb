# SPDX-License-Identifier: MIT
"""A run arranged for looking at: who met which load, round by round."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from benchmarks.record import Placement, Record, Results
from benchmarks.units import Load

Value = Callable[[Record], float | None]

FAMILIES = ("shm", "fuse", "nbd", "vhost-user", "historical", "file", "null")
"""In the order in which they are named everywhere; others come last."""

FAMILY_NAMES = {
    "shm": "shared memory, this project", "fuse": "FUSE", "nbd": "NBD", "vhost-user": "vhost-user",
    "historical": "the transport of 2015", "file": "a file, without a server",
    "null": "no disk at all",
}  # fmt: skip
_BY_NAME = {
    "shm": "shm", "FUSE": "fuse", "qsd": "fuse", "nbdkit": "nbd", "qemu-nbd": "nbd",
    "vhost-user-blk": "vhost-user", "historical": "historical", "plain": "file", "null-co": "null",
}  # fmt: skip
NOISY = 0.15
"""Share of CPU time used by others from which a sample is drawn as a cross."""


def iops(record: Record) -> float | None:
    return record.iops


def cpu(record: Record) -> float | None:
    return record.cpu_us_per_io.total if record.cpu_us_per_io else None


@dataclass
class Group:
    """The rounds of one peer under one load."""

    peer: str
    load: Load
    records: list[Record] = field(default_factory=list)

    def values(self, of: Value, placement: Placement | None) -> list[float]:
        """Of the rounds with the CPUs so; a round that lacks the figure is left out."""
        found = (of(r) for r in self.records if r.placement == placement)
        return [value for value in found if value is not None]

    def median(self, of: Value, placement: Placement | None) -> float | None:
        values = self.values(of, placement)
        return statistics.median(values) if values else None

    def medians(self, of: Value) -> dict[Placement | None, float]:
        """For each placement that was met, near first."""
        found = {p: self.median(of, p) for p in PLACEMENTS}
        return {p: value for p, value in found.items() if value is not None}

    def typical(self, of: Value) -> float | None:
        """One figure where only one fits: of the first placement in the order of PLACEMENTS."""
        return next(iter(self.medians(of).values()), None)

    def spread(self, of: Value) -> tuple[float, float, float] | None:
        """Median, lowest and highest of all rounds, wherever the CPUs were."""
        values = [value for value in map(of, self.records) if value is not None]
        return (statistics.median(values), min(values), max(values)) if values else None


PLACEMENTS: tuple[Placement | None, ...] = ("near", "far", None)


class Run:
    """A file of results, by peer and load."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self._groups: dict[Load, dict[str, Group]] = defaultdict(dict)
        for record in results.records:
            load = Load.of(record)
            group = self._groups[load].setdefault(record.peer, Group(record.peer, load))
            group.records.append(record)

    @cached_property
    def loads(self) -> list[Load]:
        """Small blocks first, then as measured, shallow before deep."""
        order = {load: number for number, load in enumerate(self._groups)}
        kinds: dict[tuple[str, str], int] = {}
        for load in order:
            kinds.setdefault((load.loader, load.kind), len(kinds))

        def key(load: Load) -> tuple[object, ...]:
            kind = kinds[load.loader, load.kind]
            return (load.block_size, kind, load.volumes, load.depth, load.rate or 0.0)

        return sorted(order, key=key)

    @cached_property
    def peers(self) -> list[str]:
        """All that have records, family by family."""
        met = dict.fromkeys(record.peer for record in self.results.records)
        return sorted(met, key=lambda peer: _rank(self.family(peer)))

    def family(self, peer: str) -> str:
        if peer in self.results.peers:
            return self.results.peers[peer].family
        return next((f for start, f in _BY_NAME.items() if peer.startswith(start)), "other")

    def store(self, peer: str) -> str:
        return next(r.store for r in self.results.records if r.peer == peer)

    def keeps_nothing(self, peer: str) -> bool:
        """Its store forgets what is written, or there is none: no way to serve a disk."""
        return self.store(peer) in ("null", "none")

    def at(self, load: Load) -> list[Group]:
        """All peers under this load, family by family."""
        return [self._groups[load][peer] for peer in self.peers if peer in self._groups[load]]

    def group(self, peer: str, load: Load) -> Group | None:
        return self._groups.get(load, {}).get(peer)

    def closed(self) -> list[Load]:
        """Loads with a fixed depth, whose rate is the result."""
        return [x for x in self.loads if x.rate is None and x.workload != "idle"]

    def placements(self) -> list[Placement]:
        return [p for p in PLACEMENTS if p and any(r.placement == p for r in self.results.records)]


def _rank(family: str) -> int:
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)


def series(loads: Iterable[Load], by: str) -> list[list[Load]]:
    """Loads that differ in ``by`` ("depth" or "volumes") only, three and more, in its order."""
    found: dict[tuple[object, ...], list[Load]] = defaultdict(list)
    for x in loads:
        other = x.volumes if by == "depth" else x.depth
        found[x.loader, x.workload, x.block_size, other].append(x)
    sets: Sequence[list[Load]] = list(found.values())
    return [sorted(s, key=lambda x: getattr(x, by)) for s in sets if len(s) >= 3]
