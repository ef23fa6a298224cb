# SPDX-License-Identifier: MIT
"""Tables for README.md and docs/PERFORMANCE.md, with the command that made them."""

from __future__ import annotations

import re

from benchmarks import goals
from benchmarks.record import Placement, Results
from benchmarks.report.findings import Tile, losses, noise, reached_ratio, tiles
from benchmarks.report.run import Group, Run, cpu, iops
from benchmarks.report.sections import loud
from benchmarks.units import quantity, times

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
_REGION = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.S)


MOST = 6
"""Losses that are listed here; the page has all."""


class NoRegion(ValueError):
    """The file has not exactly one place for the tables."""


def updated(text: str, results: Results) -> str:
    """The text with what is between the markers replaced by the tables of these results."""
    if len(_REGION.findall(text)) != 1:
        raise NoRegion(f"wants one region from {BEGIN} to {END}")
    return _REGION.sub(lambda _: f"{BEGIN}\n{markdown(results)}{END}", text)


def markdown(results: Results) -> str:
    """Ratios, then rates; short enough for a README."""
    run = Run(results)
    found = tiles(goals.figures(results.records))
    parts = [_origin(run)]
    if found:
        parts.append(_ratios(run, found))
    parts += [_rates(run), _lost(run)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(run: Run) -> str:
    machine = run.results.environment
    return (
        f"`{run.results.command}`, {run.results.started[:10]}: {machine.cpus} CPUs of"
        f" {machine.cpu}, Linux {machine.kernel}, {machine.system}."
        f" {noise(run)} Medians; the report has every round."
    )


def _ratios(run: Run, found: list[Tile]) -> str:
    met = run.placements()
    lines = [
        f"| against | load | {' | '.join(f'{p} | goal' for p in met)} |",
        "|---|---|" + "---|---|" * len(met),
    ]
    for tile in found:
        cells = [tile.title, tile.condition, *(c for p in met for c in _figure(tile, p))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(tile: Tile, placement: Placement) -> list[str]:
    figure = tile.figures.get(placement)
    if figure is None:
        return ["", ""]
    ratio = reached_ratio(figure)
    return [f"**{ratio}**" if figure.reached else ratio,
            f"{figure.wanted:g}x{'' if figure.reached else ' missed'}"]  # fmt: skip


def _rates(run: Run) -> str:
    """4k reads of qemu-img at depths 1 and 32, of those who have a name in the plots as well."""
    loads = [
        x
        for x in run.closed()
        if (x.loader, x.workload, x.block_size, x.volumes) == ("qemu-img", "read", 4096, 1)
        and x.depth in (1, 32)
    ]
    if not loads:
        return ""
    met = " / ".join(run.placements()) or "median"
    heads = [f"depth {x.depth}: requests/s, {met} | CPU us per I/O" for x in loads]
    lines = [
        f"| {loads[0].kind}, qemu-img | {' | '.join(heads)} |",
        "|---" * (1 + 2 * len(loads)) + "|",
    ]
    shown = set().union(*(loud(run, run.at(x)) for x in loads))
    first = sorted(run.at(loads[0]), key=lambda g: -(g.typical(iops) or 0))
    for peer in (g.peer for g in first if g.peer in shown):
        groups = [run.group(peer, x) or Group(peer, x) for x in loads]
        cells = [cell for g in groups for cell in (_medians(run, g), _cpu(g))]
        lines.append(f"| {peer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _medians(run: Run, group: Group) -> str:
    """One for each placement that the run met; - where this peer did not."""
    met: list[Placement | None] = [*run.placements()] or [None]
    found = [group.median(iops, p) for p in met]
    return " / ".join("-" if value is None else quantity(value) for value in found)


def _cpu(group: Group) -> str:
    value = group.typical(cpu)
    return "" if value is None else quantity(value)


def _lost(run: Run) -> str:
    found = losses(run)
    if not found:
        return "No peer won at any load."
    lines = ["| where a peer wins | peer | by | values | CPUs |", "|---|---|---|---|---|"]
    lines += [
        f"| {x.figure}: {x.load} | {x.peer} | {times(x.ratio)} | {x.said} | {x.placement or ''} |"
        for x in found[:MOST]
    ]
    more = f"\n\nand {len(found) - MOST} more, in the report." if len(found) > MOST else ""
    return "\n".join(lines) + more
