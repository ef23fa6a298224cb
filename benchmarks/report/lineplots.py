# SPDX-License-Identifier: MIT
"""Plots of lines: scaling, distributions, and what the machine did meanwhile."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from benchmarks.record import Record
from benchmarks.report.drawing import COLOUR, SMALL, colour_of, panel, svg
from benchmarks.report.run import PLACEMENTS, Group, Run, Value
from benchmarks.units import tick


def lines(
    run: Run, x: Callable[[Group], float], peers: dict[str, list[Group]], loud: set[str],
    of: Value, title: str, y_title: str, said: str,
) -> Markup:  # fmt: skip
    """Both axes logarithmic; the band is the spread of the rounds; ``loud`` peers have names."""
    figure, axes = panel(300, 52, 152, 36, 10)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ends: list[tuple[float, float, str]] = []
    ticks: set[float] = set()
    for peer, groups in peers.items():
        at = [(x(g), values) for g in groups if min(values := _shown(g, of), default=0) > 0]
        if not at:
            continue
        xs = [one for one, _ in at]
        ticks.update(xs)
        middles = [statistics.median(values) for _, values in at]
        colour = colour_of(run, peer)
        if peer not in loud:
            axes.plot(xs, middles, color=colour, lw=0.8, alpha=0.3)
            continue
        lows, highs = [min(values) for _, values in at], [max(values) for _, values in at]
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.13, lw=0)
        axes.plot(xs, middles, "o", ms=3.4, ls=_dash(run, peer), color=colour, lw=1.7)
        ends.append((middles[-1], xs[-1], peer))
    axes.set_xticks(sorted(ticks), [f"{t:g}" for t in sorted(ticks)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.grid(axis="y")
    axes.set_xlabel(title)
    axes.set_title(y_title, fontsize=SMALL, color=COLOUR["muted"], loc="left", x=-0.16, pad=2)
    _name_ends(run, axes, ends)
    return svg(figure, said)


def _shown(group: Group, of: Value) -> list[float]:
    """The rounds with the CPUs near, or else in what placement there was."""
    placement = next(iter(group.medians(of)), None)
    return group.values(of, placement)


def _dash(run: Run, peer: str) -> str | tuple[float, tuple[float, ...]]:
    if "events" in peer:
        return (0, (4, 2))
    return (0, (1.2, 1.2)) if run.store(peer) == "file" else "-"


def _name_ends(run: Run, axes: Axes, ends: list[tuple[float, float, str]]) -> None:
    """Names beside the ends of lines, moved apart, each with a hair to its line."""
    ends = sorted(ends)
    heights = [axes.transData.transform((x, y))[1] for y, x, _ in ends]
    places = apart(heights, 13, axes.bbox.y0, axes.bbox.y1)
    for (y, x, peer), place in zip(ends, places, strict=True):
        axes.annotate(
            peer, (x, y), (1.045, (place - axes.bbox.y0) / axes.bbox.height),
            textcoords="axes fraction", va="center_baseline", fontsize=SMALL + 0.5,
            color=colour_of(run, peer),
            arrowprops={"arrowstyle": "-", "color": COLOUR["muted"], "lw": 0.4, "shrinkB": 3},
        )  # fmt: skip


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Rising places moved until neighbours are ``gap`` apart, within low and high if they fit."""
    out: list[float] = []
    for place in places:
        out.append(max(place, out[-1] + gap if out else low))
    limit = high
    for number in range(len(out) - 1, -1, -1):
        out[number] = min(out[number], limit)
        limit = out[number] - gap
    return out


def nines(fraction: float) -> float:
    """0.9 is 1, 0.99 is 2: so that the slow few of a distribution are seen."""
    return -math.log10(max(1 - fraction, 1e-6))


def latency_cdf(run: Run, groups: Sequence[Group], loud: set[str], said: str) -> Markup:
    """How many requests took no longer: of ``loud`` peers each round is a line, the middle one a
    strong one with a name; of the others only the middle one, thin."""
    figure, axes = panel(390, 44, 76, 36, 100)
    axes.set_xscale("log")
    ends: list[tuple[float, float, str]] = []
    for group in groups:
        curves, middle = _curves(group)
        named = group.peer in loud
        for number, curve in enumerate(curves):
            strong = number == middle and named
            if number != middle and not named:
                continue
            xs = [us for us, _ in curve]
            ys = [nines(share) for _, share in curve]
            axes.plot(
                xs, ys, color=colour_of(run, group.peer), ls=_dash(run, group.peer),
                lw=1.6 if strong else 0.8, alpha=0.95 if strong else 0.22,
            )  # fmt: skip
            if strong and curve:
                ends.append((xs[-1], ys[-1], group.peer))
    levels = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
    axes.set_ylim(0, max([4.0, *(y for _, y, _ in ends)]))
    axes.set_yticks([nines(level) for level in levels], [f"{level * 100:g}%" for level in levels])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.set_xlabel("microseconds, logarithmic")
    axes.grid(axis="y")
    _name_tops(run, axes, ends)
    return svg(figure, said)


def _curves(group: Group) -> tuple[list[list[tuple[float, float]]], int]:
    """The rounds' distributions, and which of them has the median p99 of the first placement."""
    known = [r for r in group.records if r.latency_cdf and r.latency_us]
    known.sort(key=lambda r: (PLACEMENTS.index(r.placement), r.latency_us and r.latency_us.p99))
    first = [r for r in known if r.placement == known[0].placement]
    curves = [
        [(us, share) for us, share in r.latency_cdf or () if us > 0 and 0.005 < share < 0.99999]
        for r in known
    ]
    return curves, (len(first) - 1) // 2


def _name_tops(run: Run, axes: Axes, ends: list[tuple[float, float, str]]) -> None:
    """Names above the upper ends of curves, moved apart, each with a hair to its curve."""
    ends = sorted(ends)
    at = [axes.transData.transform((x, y))[0] for x, y, _ in ends]
    places = apart(at, 22, axes.bbox.x0, axes.bbox.x1 + 10)
    for (x, y, peer), place in zip(ends, places, strict=True):
        axes.annotate(
            peer, (x, y), ((place - axes.bbox.x0) / axes.bbox.width, 1.06),
            textcoords="axes fraction", rotation=35, rotation_mode="anchor", ha="left",
            va="center_baseline", fontsize=SMALL + 0.5, color=colour_of(run, peer),
            arrowprops={"arrowstyle": "-", "color": COLOUR["muted"], "lw": 0.4, "shrinkA": 0,
                        "relpos": (0, 0)},
        )  # fmt: skip


def conditions(records: Iterable[Record], of: Value, title: str, log: bool, said: str) -> Markup:
    """What the machine did, sample by sample in the order of the rounds."""
    figure, axes = panel(170, 48, 14, 34, 24)
    known = [(n, value, r) for n, r in enumerate(records) if (value := of(r)) is not None]
    for filled in (True, False):
        part = [(n, v) for n, v, r in known if (r.placement != "far") == filled]
        axes.plot(
            [n for n, _ in part], [v for _, v in part], "o", ms=2.6, mew=0.7, clip_on=False,
            color=COLOUR["ink"], mfc=COLOUR["ink"] if filled else COLOUR["paper"], alpha=0.75,
        )  # fmt: skip
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("sample, in the order of the run")
    axes.set_title(title, fontsize=SMALL, color=COLOUR["muted"], loc="left", x=-0.08, pad=8)
    axes.grid(axis="y")
    return svg(figure, said)
