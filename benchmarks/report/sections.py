# SPDX-License-Identifier: MIT
"""The sections of the page that have plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from markupsafe import Markup

from benchmarks.goals import FUSE_USUAL
from benchmarks.record import Record
from benchmarks.report import barplots, lineplots
from benchmarks.report.findings import EVENTS, LEAST, Tile
from benchmarks.report.run import NOISY, Group, Run, Value, cpu, iops, series
from benchmarks.report.tables import Sheet, cost_sheet
from benchmarks.units import Load, quantity, tick, times

GLANCE = 10
"""From more peers on, a panel shows those with a name of their own, and all on request."""

KEPT_UP = 0.9
"""Of the rate that was offered; random arrivals in a short sample are not exactly as many."""

LONG_BYTES = 1 << 16
"""Blocks of this length and longer are counted in bytes per second."""


@dataclass(frozen=True)
class Panel:
    """A plot with its heading and what one sees in it."""

    title: str
    plot: Markup
    caption: str = ""
    every: Markup | None = None
    """The same with those whom `plot` leaves out."""

    peers: int = 0
    """In `every`."""


@dataclass(frozen=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: list[Panel]


def _depth(load: Load) -> str:
    said = f"depth {load.depth}"
    return said if load.volumes == 1 else f"{said}, {load.volumes} volumes"


def best_line(run: Run, groups: Sequence[Group]) -> str:
    """Who is first and by how much, in the placement that the plot ranks by.  Stores that keep
    nothing are out of the contest."""
    of, unit = _rate(groups[0].load)
    ranked = sorted(((value, g.peer) for g in groups if (value := g.typical(of))), reverse=True)
    real = [(value, peer) for value, peer in ranked if not run.keeps_nothing(peer)]
    if len(real) < 2:
        return ""
    (first, winner), *others = real
    family = run.family(winner)
    rival = next(((v, p) for v, p in others if run.family(p) != family), None)
    said = f"{winner} is first"
    if rival and first < LEAST * rival[0]:
        said += f", level with {rival[1]}"
    elif rival:
        said += f", {times(first / rival[0])} {rival[1]}"
    ceiling = next((v for v, p in ranked if run.family(p) == "null"), None)
    if ceiling:
        per_second = "B/s" if unit.startswith("bytes") else "/s"
        said += f"; null-co, which does no I/O, at {quantity(ceiling)}{per_second}"
    return said + "."


def _rate(load: Load) -> tuple[Value, str]:
    """What one asks of a load: of long blocks, how much data passes."""
    if load.block_size >= LONG_BYTES:
        return lambda r: r.bandwidth, "bytes per second"
    return iops, "requests per second"


def _glance(run: Run, groups: Sequence[Group]) -> Sequence[Group]:
    """All, or of many those with a name of their own."""
    named = loud(run, groups)
    some = [g for g in groups if g.peer in named]
    return groups if len(groups) <= GLANCE or len(some) < 2 else some


def _folded(
    run: Run,
    title: str,
    groups: Sequence[Group],
    plot: Callable[[Sequence[Group]], Markup],
    caption: str = "",
) -> Panel:
    """A panel that one takes in at a glance, with all peers below it where they are many."""
    some = _glance(run, groups)
    if len(some) == len(groups):
        return Panel(title, plot(groups), caption)
    return Panel(title, plot(some), caption, plot(groups), len(groups))


def rates(run: Run) -> list[Row]:
    """Requests per second: a row per loader and kind of load, a panel per depth."""
    rows: dict[tuple[str, str], Row] = {}
    for load in run.closed():
        if load.volumes != 1:
            continue
        row = rows.setdefault((load.loader, load.kind), Row(f"{load.kind}, {load.loader}", []))
        groups = run.at(load)
        caption = best_line(run, _glance(run, groups))
        of, unit = _rate(load)
        plot = partial(barplots.bars, run, of=of, title=unit, said=f"{load}: {caption}")
        row.panels.append(_folded(run, _depth(load), groups, plot, caption))
    return _gathered(list(rows.values()))


def _gathered(rows: list[Row]) -> list[Row]:
    """Kinds of load that were taken at one depth share a row per loader."""
    whole = [row for row in rows if len(row.panels) > 1]
    lone: dict[str, Row] = {}
    for row in rows:
        if len(row.panels) == 1:
            kind, loader = row.title.rsplit(", ", 1)
            (panel,) = row.panels
            shared = lone.setdefault(loader, Row(f"Other loads, {loader}", []))
            shared.panels.append(replace(panel, title=f"{kind}, {panel.title}"))
    return [*whole, *lone.values()]


def loud(run: Run, groups: Sequence[Group], of: Value = iops) -> set[str]:
    """Who has a name in a plot of lines: ours, FUSE as usual and the best of each other family, by
    what of a record is the better the higher."""
    names = {"shm memory", "shm file", EVENTS, FUSE_USUAL, "plain file", "historical", "null-co"}
    best: dict[str, tuple[float, str]] = {}
    for group in groups:
        family, value = run.family(group.peer), group.typical(of)
        if family != "shm" and value is not None and not run.keeps_nothing(group.peer):
            best[family] = max(best.get(family, (value, group.peer)), (value, group.peer))
    return names | {peer for _, peer in best.values()}


def _quickness(record: Record) -> float | None:
    return -record.latency_us.p50 if record.latency_us else None


def latencies(run: Run) -> list[Row]:
    """Under a fixed arrival rate: the distribution and its percentiles, a row per rate."""
    rows = []
    for load in run.loads:
        if load.rate is None:
            continue
        groups = [g for g in run.at(load) if any(r.latency_us for r in g.records)]
        if not groups:
            continue
        behind = [
            f"{g.peer} managed {quantity(value)}/s"
            for g in groups
            if (value := g.typical(iops)) and value < KEPT_UP * load.rate
        ]
        kept_up = (
            f"Below the rate that was offered: {'; '.join(behind)}." if behind else "All kept up."
        )
        title = f"{tick(load.rate)} {load.kind}s per second offered, {load.loader}"
        panels = []
        if any(r.latency_cdf for g in groups for r in g.records):
            plot = lineplots.latency_cdf(
                run, groups, loud(run, groups, _quickness), f"{title}: distributions"
            )
            panels.append(
                Panel(
                    "Share of requests that took no longer",
                    plot,
                    "Left is fast, up is the tail. Strong: the round with the median p99; thin: "
                    "further rounds, and other variants.",
                )
            )
        plot = barplots.percentiles(run, groups, f"{title}: percentiles")
        panels.append(Panel("p50 / p99 / p99.9 in us", plot, kept_up))
        rows.append(Row(title, panels))
    return rows


def cost_loads(run: Run) -> list[Load]:
    """The loads whose costs are shown: 4k at depths 1 and 32, one volume."""
    return [
        load
        for load in run.closed()
        if load.volumes == 1
        and load.block_size == 4096
        and load.depth in (1, 32)
        and load.workload in ("read", "randread", "write", "randwrite")
    ]


def costs(run: Run) -> list[Row]:
    """CPU of client and server."""
    rows: dict[tuple[str, str], Row] = {}
    for load in cost_loads(run):
        groups = [g for g in run.at(load) if g.typical(cpu) is not None]
        if not groups:
            continue
        plot = partial(
            barplots.cost_stacks, run, title="CPU microseconds per I/O", said=f"{load}: CPU per I/O"
        )
        row = rows.setdefault((load.loader, load.kind), Row(f"{load.kind}, {load.loader}", []))
        row.panels.append(_folded(run, _depth(load), groups, plot))
    return list(rows.values())


def goal_plot(found: Sequence[Tile]) -> Markup | None:
    """Every goal on one scale."""
    groups = [[t.figures[p] for p in ("near", "far") if p in t.figures] for t in found]
    return barplots.reached(groups, "the goals, and how far they were reached") if groups else None


def sheets(run: Run) -> list[tuple[Sheet, Sheet | None]]:
    """Cost sheets where more than CPU is known, reads only: writes cost the same calls.  With each,
    where there are many peers, the short one that one takes in at a glance first."""
    found: list[tuple[Sheet, Sheet | None]] = []
    for load in cost_loads(run):
        whole = cost_sheet(run, load)
        if load.workload not in ("read", "randread") or len(whole.columns) <= 2:
            continue
        some = {group.peer for group in _glance(run, run.at(load))}
        rows = [row for row in whole.rows if row[0] in some]
        folded = len(rows) < len(whole.rows)
        found.append((replace(whole, rows=rows), whole) if folded else (whole, None))
    return found


def scaling(run: Run) -> list[Panel]:
    """IOPS over depth and over volumes, where there are three points and more."""
    panels = []
    for by in ("depth", "volumes"):
        for loads in series(run.closed(), by):
            if by == "depth" and loads[0].volumes != 1:
                continue
            at = [g for load in loads for g in run.at(load)]
            peers = {
                peer: [g for g in at if g.peer == peer]
                for peer in dict.fromkeys(g.peer for g in at)
            }
            peers = {peer: groups for peer, groups in peers.items() if len(groups) > 1}
            if not peers:
                continue
            one = loads[0]
            fixed = "" if by == "depth" else f", depth {one.depth} each"
            title = f"{one.kind} over {by}{fixed}, {one.loader}"
            unit = "requests in flight" if by == "depth" else "volumes in use at once"
            plot = lineplots.lines(
                run, lambda g, by=by: getattr(g.load, by), peers, loud(run, at), iops, unit,
                "requests per second", title,
            )  # fmt: skip
            panels.append(Panel(title, plot))
    return panels


def conditions(run: Run) -> list[Panel]:
    """Placement and noise, sample by sample."""
    records = run.results.records
    panels = []
    if any(r.handover_ns is not None for r in records):
        plot = lineplots.conditions(
            records, lambda r: r.handover_ns, "nanoseconds, logarithmic", True,
            "hand-over time of each sample",
        )  # fmt: skip
        panels.append(
            Panel(
                "Polled hand-over between the CPUs, there and back",
                plot,
                "Filled: near, the CPUs share a cache. Hollow: far.",
            )
        )
    if records:
        plot = lineplots.conditions(
            records, lambda r: r.noise * 100, "percent of all CPU time", False,
            "CPU time that others used during each sample",
        )  # fmt: skip
        panels.append(
            Panel(
                "Noise: CPU time that neither client nor server used",
                plot,
                f"Samples from {NOISY:.0%} on are crosses in the other plots.",
            )
        )
    return panels
