# SPDX-License-Identifier: MIT
"""Plots of lines: scaling, distributions, and what the machine did meanwhile."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from benchmarks.record import Record
from benchmarks.report.drawing import COLOUR, SMALL, TEXT, colour_of, panel, svg
from benchmarks.report.run import Group, Run, Value
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
    """How many requests took no longer: each round a thin line, named peers strongly."""
    figure, axes = panel(330, 44, 14, 36, 10)
    axes.set_xscale("log")
    named: list[tuple[str, list[tuple[float, float]]]] = []
    for group in groups:
        strong = group.peer in loud
        curves = [r.latency_cdf for r in group.records if r.latency_cdf]
        for number, curve in enumerate(curves if strong else curves[:1]):
            kept = [(us, nines(share)) for us, share in curve if us > 0 and share < 0.99999]
            axes.plot(
                [us for us, _ in kept], [y for _, y in kept], color=colour_of(run, group.peer),
                ls=_dash(run, group.peer), lw=1.5 if strong and number == 0 else 0.8,
                alpha=(0.95 if number == 0 else 0.25) if strong else 0.25,
            )  # fmt: skip
            if strong and number == 0 and kept:
                named.append((group.peer, kept))
    levels = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
    axes.set_ylim(0, 4.3)
    axes.set_yticks([nines(level) for level in levels], [f"{level * 100:g}%" for level in levels])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.set_xlabel("microseconds, logarithmic")
    axes.grid(axis="y")
    _name_curves(run, axes, named)
    return svg(figure, said)


def _name_curves(
    run: Run, axes: Axes, named: Sequence[tuple[str, list[tuple[float, float]]]]
) -> None:
    """Each name beside its curve, where it covers the least of the others."""
    points = {peer: axes.transData.transform(curve) for peer, curve in named}
    taken: list[tuple[float, float, float, float]] = []
    for peer, own in sorted(points.items(), key=lambda item: item[1][0][0]):
        width = len(peer) * 6.3
        best: tuple[float, tuple[float, float, float, float]] | None = None
        for px, py in own:
            for left in (px + 7, px - 7 - width):
                box = (left, py - 7, left + width, py + 7)
                if box[0] < axes.bbox.x0 or box[2] > axes.bbox.x1:
                    continue
                if box[1] < axes.bbox.y0 + 4 or box[3] > axes.bbox.y1:
                    continue
                crossed = sum(_inside(p, box) for curve in points.values() for p in curve)
                clash = sum(_overlap(box, other) for other in taken)
                cost = crossed + 100.0 * clash
                if best is None or cost < best[0]:
                    best = (cost, box)
        if best is None:
            continue
        taken.append(best[1])
        x, y = axes.transData.inverted().transform((best[1][0], best[1][1] + 7))
        axes.text(x, y, peer, va="center_baseline", fontsize=TEXT, color=colour_of(run, peer))


def _inside(point: Sequence[float], box: tuple[float, float, float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


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
