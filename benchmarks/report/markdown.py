# SPDX-License-Identifier: MIT
"""Tables for README.md and docs/PERFORMANCE.md, with the command that made them."""

from __future__ import annotations

import re

from benchmarks import goals
from benchmarks.record import Placement, Results
from benchmarks.report.findings import Tile, losses, noise, tiles
from benchmarks.report.run import Group, Run, cpu, iops
from benchmarks.units import Load, quantity, times

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
_REGION = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.S)


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
    parts += [_rates(run, load) for load in _shown(run)]
    parts.append(_lost(run))
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(run: Run) -> str:
    machine = run.results.environment
    return (
        f"`{run.results.command}`, {run.results.started[:10]}: {machine.cpus} CPUs of"
        f" {machine.cpu}, Linux {machine.kernel}, {machine.system}. {noise(run)}"
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
    ratio = times(figure.ratio)
    return [f"**{ratio}**" if figure.reached else ratio,
            f"{figure.wanted:g}x{'' if figure.reached else ' missed'}"]  # fmt: skip


def _shown(run: Run) -> list[Load]:
    return [
        x
        for x in run.closed()
        if x.loader == "qemu-img" and x.workload == "read" and x.block_size == 4096
        and x.depth in (1, 32) and x.volumes == 1
    ]  # fmt: skip


def _rates(run: Run, load: Load) -> str:
    met = run.placements()
    lines = [
        f"| {load} | {' | '.join(f'requests/s, {p}' for p in met)} | CPU us per I/O |",
        "|---|" + "---|" * (len(met) + 1),
    ]
    for group in sorted(run.at(load), key=lambda g: -(g.typical(iops) or 0)):
        cells = [group.peer, *(_spread(group, p) for p in met), _cpu(group)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(group: Group, placement: Placement) -> str:
    values = group.values(iops, placement)
    middle = group.median(iops, placement)
    if middle is None:
        return ""
    if len(values) == 1:
        return quantity(middle)
    return f"{quantity(middle)} ({quantity(min(values))} - {quantity(max(values))})"


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
        for x in found[:8]
    ]
    more = f"\n\nand {len(found) - 8} more, in the report." if len(found) > 8 else ""
    return "\n".join(lines) + more
