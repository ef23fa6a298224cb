# SPDX-License-Identifier: MIT
"""The plots: each function takes rounds and gives one panel as SVG."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from benchmarks.goals import Figure
from benchmarks.record import Placement, Record
from benchmarks.report.drawing import COLOUR, SMALL, TEXT, WIDTH, panel, svg
from benchmarks.report.run import NOISY, Group, Run, Value
from benchmarks.units import quantity, tick, times

NEAR_ALPHA, FAR_ALPHA = 0.9, 0.4
_CHAR = 6.3  # a character of a name, in pixels, and some air
_MARK = {"near": ("o", True), "far": ("o", False), None: ("D", True)}


def _colour(run: Run, peer: str) -> str:
    return COLOUR.get(run.family(peer), COLOUR["other"])


def _quantity_axis(axes: Axes, title: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.set_xlabel(title)


class _Rows:
    """Names on the left, and below each other a bar for each placement of the CPUs."""

    def __init__(self, run: Run, groups: Sequence[Group], of: Value, best_low: bool) -> None:
        self.run, self.of = run, of
        known = [(group.typical(of), group) for group in groups]
        ranked = sorted(
            ((value, group) for value, group in known if value is not None),
            key=lambda pair: pair[0] if best_low else -pair[0],
        )
        self.groups = [group for _, group in ranked]
        self.bars: list[tuple[float, Group, Placement | None, float]] = []
        y = 0.0
        self.names: list[tuple[float, str]] = []
        for group in self.groups:
            medians = group.medians(of)
            self.names.append((y + 6.5 * len(medians), group.peer))
            for placement, median in medians.items():
                self.bars.append((y + 6.5, group, placement, median))
                y += 13
            y += 7
        self.height = y

    def panel(self, title: str) -> Axes:
        left = max((len(name) for _, name in self.names), default=0) * _CHAR + 8
        _, axes = panel(int(self.height) + 42, int(left), 72)
        axes.set_ylim(self.height - 2, -3)
        axes.set_yticks([])
        axes.spines["left"].set_color(COLOUR["muted"])
        axes.spines["bottom"].set_visible(False)
        for y, name in self.names:
            axes.text(
                -6, y, name, ha="right", va="center_baseline", color=_colour(self.run, name),
                transform=_pixels_right_of_axes(axes),
            )  # fmt: skip
        _quantity_axis(axes, title)
        return axes

    def dots(self, axes: Axes) -> None:
        """Every round: filled near, hollow far, a cross where others were busy."""
        marks: dict[tuple[str, bool], list[tuple[float, float]]] = {}
        for y, group, placement, _ in self.bars:
            for record in group.records:
                value = self.of(record)
                if record.placement == placement and value is not None:
                    mark = ("x", True) if record.noise >= NOISY else _MARK[placement]
                    marks.setdefault(mark, []).append((value, y))
        for (marker, filled), at in marks.items():
            face = COLOUR["ink"] if filled else COLOUR["paper"]
            axes.plot(
                [x for x, _ in at], [y for _, y in at], marker, ms=3.4, mew=0.9, clip_on=False,
                color=COLOUR["ink"], markerfacecolor=face,
            )  # fmt: skip


def _pixels_right_of_axes(axes: Axes):  # type: ignore[no-untyped-def]
    """x in pixels from the left end of the axes, y as the data."""
    from matplotlib.transforms import Affine2D, ScaledTranslation, blended_transform_factory

    start = ScaledTranslation(axes.get_position().x0 * WIDTH / 72, 0, axes.figure.dpi_scale_trans)
    return blended_transform_factory(Affine2D() + start, axes.transData)


def bars(run: Run, groups: Sequence[Group], of: Value, title: str, said: str) -> Markup:
    """Medians as bars with every round on them, the highest first."""
    rows = _Rows(run, groups, of, best_low=False)
    axes = rows.panel(title)
    most = max((v for g in rows.groups for v in map(of, g.records) if v is not None), default=1)
    axes.set_xlim(0, most or 1)
    for y, group, placement, median in rows.bars:
        alpha = FAR_ALPHA if placement == "far" else NEAR_ALPHA
        axes.barh(y, median, height=11, color=_colour(run, group.peer), alpha=alpha)
        end = max(group.values(of, placement))
        axes.annotate(
            _labelled(quantity(median), placement), (end, y), (6, 0), textcoords="offset points",
            va="center_baseline", fontsize=SMALL,
        )  # fmt: skip
    rows.dots(axes)
    return svg(axes.figure, said)


def _labelled(text: str, placement: Placement | None) -> str:
    return f"{text} far" if placement == "far" else text


def cost_stacks(run: Run, groups: Sequence[Group], title: str, said: str) -> Markup:
    """CPU per request, client and then server, the cheapest first."""

    def total(record: Record) -> float | None:
        return record.cpu_us_per_io.total if record.cpu_us_per_io else None

    def client(record: Record) -> float | None:
        return record.cpu_us_per_io.client if record.cpu_us_per_io else None

    rows = _Rows(run, groups, total, best_low=True)
    axes = rows.panel(title)
    most = max((v for g in rows.groups for v in map(total, g.records) if v is not None), default=1)
    axes.set_xlim(0, most or 1)
    for y, group, placement, median in rows.bars:
        colour = _colour(run, group.peer)
        own = group.median(client, placement) or 0.0
        alpha = FAR_ALPHA + 0.15 if placement == "far" else NEAR_ALPHA
        axes.barh(y, own, height=11, color=colour, alpha=alpha)
        axes.barh(
            y, max(median - own, 0), left=own, height=11, color=colour, alpha=alpha * 0.35,
            edgecolor=colour, linewidth=0.5,
        )  # fmt: skip
        end = max(group.values(total, placement))
        axes.annotate(
            _labelled(quantity(median), placement), (end, y), (6, 0), textcoords="offset points",
            va="center_baseline", fontsize=SMALL,
        )  # fmt: skip
    rows.dots(axes)
    return svg(axes.figure, said)


def percentiles(run: Run, groups: Sequence[Group], said: str) -> Markup:
    """p50, p99 and p99.9 of each peer on one logarithmic line; medians of the rounds."""
    rows = _Rows(run, groups, lambda r: r.latency_us.p50 if r.latency_us else None, best_low=True)
    axes = rows.panel("microseconds, logarithmic")
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    parts: list[tuple[Value, float, float]] = [
        (lambda r: r.latency_us and r.latency_us.p50, 6.5, 0.95),
        (lambda r: r.latency_us and r.latency_us.p99, 5.0, 0.65),
        (lambda r: r.latency_us and r.latency_us.p999, 3.6, 0.4),
    ]
    for y, group, placement, median in rows.bars:
        colour = _colour(run, group.peer)
        found = [(group.median(of, placement) or median, ms, alpha) for of, ms, alpha in parts]
        axes.plot([found[0][0], found[-1][0]], [y, y], color=colour, lw=1.6, alpha=0.35)
        for value, ms, alpha in found:
            face = COLOUR["paper"] if placement == "far" else colour
            axes.plot(value, y, "o", ms=ms, color=colour, mfc=face, mew=1.2, alpha=alpha)
        text = " / ".join(quantity(value) for value, _, _ in found)
        axes.text(
            1.02, y, _labelled(text, placement), transform=axes.get_yaxis_transform(),
            va="center_baseline", fontsize=SMALL,
        )  # fmt: skip
    figure = axes.figure
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, 1 - box.x0 - 136 / WIDTH, box.height))
    return svg(figure, said)


def lines(
    run: Run, x: Callable[[Group], float], peers: dict[str, list[Group]], loud: set[str],
    of: Value, title: str, y_title: str, said: str,
) -> Markup:  # fmt: skip
    """Both axes logarithmic; the band is the spread of the rounds; ``loud`` peers have names."""
    figure, axes = panel(300, 52, 152, 36, 10)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ends: list[tuple[float, str]] = []
    ticks: set[float] = set()
    for peer, groups in peers.items():
        at = [(x(g), values) for g in groups if min(values := _shown(g, of), default=0) > 0]
        if not at:
            continue
        xs = [one for one, _ in at]
        ticks.update(xs)
        middles = [statistics.median(values) for _, values in at]
        colour = _colour(run, peer)
        if peer not in loud:
            axes.plot(xs, middles, color=colour, lw=0.8, alpha=0.3)
            continue
        lows, highs = [min(values) for _, values in at], [max(values) for _, values in at]
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.13, lw=0)
        axes.plot(xs, middles, "o", ms=3.4, ls=_dash(run, peer), color=colour, lw=1.7)
        ends.append((middles[-1], peer))
    axes.set_xticks(sorted(ticks), [f"{t:g}" for t in sorted(ticks)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.grid(axis="y")
    axes.set_xlabel(title)
    axes.set_title(y_title, fontsize=SMALL, color=COLOUR["muted"], loc="left", x=-0.16, pad=2)
    _name_ends(run, axes, max(ticks, default=1), ends)
    return svg(figure, said)


def _shown(group: Group, of: Value) -> list[float]:
    """The rounds with the CPUs near, or else in what placement there was."""
    placement = next(iter(group.medians(of)), None)
    return group.values(of, placement)


def _dash(run: Run, peer: str) -> str | tuple[float, tuple[float, ...]]:
    if "events" in peer:
        return (0, (4, 2))
    return (0, (1.2, 1.2)) if run.store(peer) == "file" else "-"


def _name_ends(run: Run, axes: Axes, x: float, ends: list[tuple[float, str]]) -> None:
    """Names beside the ends of lines, moved apart, each with a hair to its line."""
    at = [(axes.transData.transform((x, y))[1], y, peer) for y, peer in sorted(ends)]
    places = apart([p for p, _, _ in at], 13, axes.bbox.y0, axes.bbox.y1)
    for (_, y, peer), place in zip(at, places, strict=True):
        axes.annotate(
            peer, (x, y), (1.045, (place - axes.bbox.y0) / axes.bbox.height),
            textcoords="axes fraction", va="center_baseline", fontsize=SMALL + 0.5,
            color=_colour(run, peer),
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
                [us for us, _ in kept], [y for _, y in kept], color=_colour(run, group.peer),
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
        axes.text(x, y, peer, va="center_baseline", fontsize=TEXT, color=_colour(run, peer))


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


def reached(figures: Sequence[Sequence[Figure]], said: str) -> Markup:
    """How far each goal was exceeded or missed: the ratio divided by the goal."""
    rows = [(_short(group[0]), group) for group in figures]
    left = max(len(name) for name, _ in rows) * _CHAR - 6
    figure, axes = panel(len(rows) * 26 + 50, int(left), 24, 36, 16)
    axes.set_xscale("log")
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_ylim(len(rows) * 26 - 6, -10)
    for number, (name, group) in enumerate(rows):
        y = number * 26
        axes.text(
            -8, y + 3, name, ha="right", va="center_baseline", fontsize=SMALL + 0.5,
            transform=_pixels_right_of_axes(axes),
        )  # fmt: skip
        for one in group:
            at = y if len(group) == 1 else y - 3 if one.placement == "near" else y + 9
            colour = COLOUR["shm"] if one.reached else COLOUR["bad"]
            alpha = 1.0 if one.placement == "near" else 0.55
            low, high = one.low / one.wanted, one.high / one.wanted
            axes.plot([low, high], [at, at], color=colour, lw=5, alpha=0.25, solid_capstyle="round")
            face = colour if one.placement == "near" else COLOUR["paper"]
            axes.plot(one.ratio / one.wanted, at, "o", ms=5.5, color=colour, mfc=face, alpha=alpha)
            axes.annotate(
                _labelled(times(one.ratio), one.placement), (high, at), (8, 0),
                textcoords="offset points", va="center_baseline", fontsize=SMALL - 0.5,
            )  # fmt: skip
    axes.axvline(1, color=COLOUR["ink"], lw=1)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.8), max(high, 2.2) * 1.25)
    marks = [m for m in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if axes.get_xlim()[0] <= m <= high]
    axes.set_xticks(marks, ["goal" if m == 1 else f"{m:g}x goal" for m in marks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x")
    axes.set_xlabel("the ratio, as a share of its goal; logarithmic")
    return svg(figure, said)


def _short(figure: Figure) -> str:
    title = figure.goal.title.replace(" per I/O", "").replace(
        ": FUSE best, same store", ": FUSE best"
    )
    return f"{title}, depth {figure.goal.depth}"
