# SPDX-License-Identifier: MIT
"""What a run says in words: the ratios that matter, and where somebody else wins."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.goals import FUSE_BEST, FUSE_USUAL, Figure
from benchmarks.record import Placement, Record
from benchmarks.report.run import NOISY, PLACEMENTS, Group, Run, Value, cpu, iops
from benchmarks.units import Load, duration, quantity, times

EVENTS = "shm memory events"
LEAST = 1.05
"""From this ratio on a peer wins; below, it is a draw."""

APART = 3.0
"""From this ratio of the best round to the worst on, a median says little."""


@dataclass(frozen=True)
class Tile:
    """A ratio at the top of the page, or the same in a table: near and far."""

    title: str
    condition: str
    figures: dict[Placement, Figure]


def tiles(figures: Sequence[Figure]) -> list[Tile]:
    """The goals' figures, a tile for each goal in their order."""
    found: dict[int, Tile] = {}
    for figure in figures:
        goal = figure.goal
        condition = f"{_what(figure)}, depth {goal.depth}, {goal.loader}"
        tile = found.setdefault(id(goal), Tile(goal.title, condition, {}))
        tile.figures[figure.placement] = figure
    return list(found.values())


def _what(figure: Figure) -> str:
    goal = figure.goal
    kind = "random reads" if goal.workload == "randread" else "reads"
    said = "CPU per I/O" if goal.metric == "cpu" else "IOPS"
    return f"{said}, {goal.block_size // 1024}k {kind}"


def headline(figures: Sequence[Figure]) -> list[Tile]:
    """At most six tiles: rivals at depth 1 and 32, CPU, files."""
    found = tiles(figures)
    wanted: Sequence[tuple[str, int]] = (
        ("FUSE usual", 1),
        ("FUSE best", 1),
        ("FUSE best", 32),
        ("FUSE usual, CPU per I/O", 32),
        ("nbdkit memory", 1),
        ("file store: FUSE best, same store", 32),
    )

    def matches(tile: Tile) -> int | None:
        goal = next(iter(tile.figures.values())).goal
        key = (goal.title, goal.depth)
        return wanted.index(key) if key in wanted else None

    ranked = [(rank, tile) for tile in found if (rank := matches(tile)) is not None]
    return [tile for _, tile in sorted(ranked, key=lambda pair: pair[0])]


@dataclass(frozen=True)
class Loss:
    """Somebody else is better than this project at something."""

    load: Load
    figure: str
    placement: Placement | None
    ours: str
    ours_value: float
    peer: str
    value: float
    ratio: float
    unit: str

    @property
    def said(self) -> str:
        """Both values, with the unit."""
        unit = self.unit if self.unit.startswith("/") else f" {self.unit}"
        return f"{quantity(self.value)} against {quantity(self.ours_value)}{unit}"


@dataclass(frozen=True)
class _Contest:
    name: str
    unit: str
    of: Value
    most: bool
    open_loop: bool


def _p99(record: Record) -> float | None:
    return record.latency_us.p99 if record.latency_us else None


def _idle(record: Record) -> float | None:
    return record.idle.cpu_us_per_second.total if record.idle else None


_CONTESTS = (
    _Contest("IOPS", "/s", iops, True, False),
    _Contest("CPU per I/O", "us", cpu, False, False),
    _Contest("p99 latency", "us", _p99, False, True),
    _Contest("CPU per I/O", "us", cpu, False, True),
    _Contest("CPU when idle", "us/s", _idle, False, False),
)


def losses(run: Run) -> list[Loss]:
    """Every load at which a real peer over the same kind of store beats shared memory, by medians
    within one placement; the worst first.  null-co is none: it does no I/O."""
    found = [
        loss
        for load in run.loads
        for contest in _CONTESTS
        if contest.open_loop == (load.rate is not None)
        for placement in PLACEMENTS
        for loss in _lost(run, load, contest, placement)
    ]
    return sorted(found, key=lambda loss: -loss.ratio)


def _lost(run: Run, load: Load, contest: _Contest, placement: Placement | None) -> Iterator[Loss]:
    groups = run.at(load)
    for group in groups:
        if run.family(group.peer) in ("shm", "null"):
            continue
        ours = _ours(run, groups, group)
        values = [g.median(contest.of, placement) for g in (ours, group)] if ours else []
        if ours is None or not all(values):
            continue
        mine, theirs = (value or 0.0 for value in values)
        ratio = theirs / mine if contest.most else mine / theirs
        if ratio >= LEAST:
            yield Loss(
                load, contest.name, placement, ours.peer, mine, group.peer, theirs, ratio,
                contest.unit,
            )  # fmt: skip


def _ours(run: Run, groups: Sequence[Group], other: Group) -> Group | None:
    """Shared memory over the store that the other one has."""
    wanted = "shm file" if run.store(other.peer) == "file" else "shm memory"
    return next((g for g in groups if g.peer == wanted), None)


@dataclass(frozen=True)
class EventRow:
    """Waiting by events only, beside polling and FUSE, under one load."""

    load: Load
    placement: Placement | None
    peer: str
    iops: float
    cpu: float | None
    against_usual: float | None
    """IOPS divided by those of FUSE as usually mounted."""

    against_best: float | None


def event_rows(run: Run) -> list[EventRow]:
    """For reads at depth 1 and 32: without polling, and next to it with."""
    found = []
    for load in run.closed():
        groups = {group.peer: group for group in run.at(load)}
        if EVENTS not in groups or load.depth not in (1, 32) or "read" not in load.workload:
            continue
        for placement in PLACEMENTS:
            for peer in (EVENTS, "shm memory"):
                row = _event_row(groups, load, placement, peer)
                if row:
                    found.append(row)
    return found


def _event_row(
    groups: dict[str, Group], load: Load, placement: Placement | None, peer: str
) -> EventRow | None:
    rate = groups[peer].median(iops, placement) if peer in groups else None
    if rate is None:
        return None

    def against(names: list[str]) -> float | None:
        rates = [groups[name].median(iops, placement) for name in names if name in groups]
        known = [r for r in rates if r]
        return rate / max(known) if known else None

    fuse = [name for name in groups if name.startswith(FUSE_BEST)]
    return EventRow(
        load, placement, peer, rate, groups[peer].median(cpu, placement),
        against([FUSE_USUAL]), against(fuse),
    )  # fmt: skip


def noise(run: Run) -> str:
    """How quiet it was, in a sentence."""
    shares = [record.noise for record in run.results.records]
    if not shares:
        return "No samples."
    handovers = [r.handover_ns for r in run.results.records if r.handover_ns is not None]
    near = sum(r.placement == "near" for r in run.results.records)
    known = sum(r.placement is not None for r in run.results.records)
    said = f"Others took {statistics.median(shares):.1%} of the CPU time in the median sample"
    said += f" and {max(shares):.0%} in the worst."
    if handovers and known:
        said += (
            f" The CPUs were near in {near / known:.0%} of the samples;"
            f" a hand-over took {duration(min(handovers))} to {duration(max(handovers))}."
        )
    return said


def busy(run: Run) -> bool:
    """Others took so much of the CPUs that the figures are theirs as well."""
    shares = [record.noise for record in run.results.records]
    return bool(shares) and statistics.median(shares) >= NOISY


@dataclass(frozen=True)
class Unsteady:
    """Rounds that have little in common, though the CPUs were placed the same."""

    group: Group
    placement: Placement | None
    low: float
    high: float


def unsteady(run: Run) -> list[Unsteady]:
    """Where the best round is APART times the worst, whoever it is; the widest first."""
    found = []
    for load in run.closed():
        for group in run.at(load):
            for placement in PLACEMENTS:
                values = group.values(iops, placement)
                if values and max(values) > 0 and max(values) >= APART * min(values):
                    found.append(Unsteady(group, placement, min(values), max(values)))
    return sorted(found, key=lambda one: one.low / one.high)


def ratio(value: float | None) -> str:
    return "" if value is None else times(value)


def reached_ratio(figure: Figure) -> str:
    """With the digits that tell a near miss from the goal."""
    said = times(figure.ratio)
    if figure.reached or said != times(figure.wanted):
        return said
    return f"{math.floor(figure.ratio * 10) / 10:g}x"
