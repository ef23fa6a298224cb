# SPDX-License-Identifier: MIT
"""The sections of the page that have plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from benchmarks.goals import FUSE_USUAL
from benchmarks.record import Record
from benchmarks.report import barplots, lineplots
from benchmarks.report.findings import EVENTS, LEAST, Tile
from benchmarks.report.run import NOISY, Group, Run, Value, cpu, iops, series
from benchmarks.report.tables import Sheet, cost_sheet
from benchmarks.units import Load, quantity, tick, times


@dataclass(frozen=True)
class Panel:
    """A plot with its heading and what one sees in it."""

    title: str
    plot: Markup
    caption: str = ""


@dataclass(frozen=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: list[Panel]


def _depth(load: Load) -> str:
    said = f"depth {load.depth}"
    return said if load.volumes == 1 else f"{said}, {load.volumes} volumes"


def best_line(run: Run, groups: Sequence[Group]) -> str:
    """Who is first and by how much, in the placement that the plot ranks by."""
    ranked = sorted(((value, g.peer) for g in groups if (value := g.typical(iops))), reverse=True)
    real = [(value, peer) for value, peer in ranked if run.family(peer) != "null"]
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
        said += f"; null-co, which does no I/O, at {quantity(ceiling)}/s"
    return said + "."


def rates(run: Run) -> list[Row]:
    """Requests per second: a row per loader and kind of load, a panel per depth."""
    rows: dict[tuple[str, str], Row] = {}
    for load in run.closed():
        if load.volumes != 1:
            continue
        row = rows.setdefault((load.loader, load.kind), Row(f"{load.kind}, {load.loader}", []))
        groups = run.at(load)
        caption = best_line(run, groups)
        plot = barplots.bars(run, groups, iops, "requests per second", f"{load}: {caption}")
        row.panels.append(Panel(_depth(load), plot, caption))
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
    names = {"shm memory", "shm file", EVENTS, FUSE_USUAL, "plain file", "historical"}
    best: dict[str, tuple[float, str]] = {}
    for group in groups:
        family, value = run.family(group.peer), group.typical(of)
        if family != "shm" and value is not None:
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
            if (value := g.typical(iops)) and value < 0.95 * load.rate
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
        plot = barplots.cost_stacks(run, groups, "CPU microseconds per I/O", f"{load}: CPU per I/O")
        row = rows.setdefault((load.loader, load.kind), Row(f"{load.kind}, {load.loader}", []))
        row.panels.append(Panel(_depth(load), plot))
    return list(rows.values())


def goal_plot(found: Sequence[Tile]) -> Markup | None:
    """Every goal on one scale."""
    groups = [[t.figures[p] for p in ("near", "far") if p in t.figures] for t in found]
    return barplots.reached(groups, "the goals, and how far they were reached") if groups else None


def sheets(run: Run) -> list[Sheet]:
    """Cost sheets where more than CPU is known, reads only: writes cost the same calls."""
    found = [cost_sheet(run, x) for x in cost_loads(run) if x.workload in ("read", "randread")]
    return [sheet for sheet in found if len(sheet.columns) > 2]


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
