# SPDX-License-Identifier: MIT
"""Plots with a row per peer: rates, costs, percentiles, goals."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Affine2D, ScaledTranslation, Transform, blended_transform_factory

from benchmarks.goals import Figure
from benchmarks.record import Placement, Record
from benchmarks.report.drawing import COLOUR, SMALL, WIDTH, colour_of, panel, svg
from benchmarks.report.findings import reached_ratio
from benchmarks.report.run import NOISY, Group, Run, Value, cpu
from benchmarks.units import quantity, tick

NEAR_ALPHA, FAR_ALPHA = 0.9, 0.4
CEILING = 1.25
"""null-co may be this much longer than the longest bar with I/O; what is over it is cut off."""

_CHAR = 6.1  # a character of a name, in pixels, and some air
_MARK = {"near": ("o", True), "far": ("o", False), None: ("D", True)}


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

    def panel(self, title: str) -> tuple[Picture, Axes]:
        left = max((len(name) for _, name in self.names), default=0) * _CHAR + 8
        figure, axes = panel(int(self.height) + 42, int(left), 72)
        axes.set_ylim(self.height - 2, -3)
        axes.set_yticks([])
        axes.spines["left"].set_color(COLOUR["muted"])
        axes.spines["bottom"].set_visible(False)
        for y, name in self.names:
            axes.text(
                -6, y, name, ha="right", va="center_baseline", fontsize=SMALL,
                color=colour_of(self.run, name), transform=_pixels_right_of_axes(axes),
            )  # fmt: skip
        _quantity_axis(axes, title)
        return figure, axes

    def scale(self, axes: Axes) -> float:
        """Sets and gives the longest that is drawn: all rounds, but null-co only up to CEILING."""
        real = [v for g in self.groups if not self._idle(g) for v in map(self.of, g.records) if v]
        null = [v for g in self.groups if self._idle(g) for v in map(self.of, g.records) if v]
        longest = max([*real, *null], default=1.0)
        if real:
            longest = min(longest, CEILING * max(real))
        axes.set_xlim(0, longest)
        return longest

    def _idle(self, group: Group) -> bool:
        return self.run.family(group.peer) == "null"

    def label(
        self, axes: Axes, y: float, group: Group, placement: Placement | None, median: float
    ) -> None:
        """The median in figures, right of all that is drawn in the row."""
        end = max(group.values(self.of, placement))
        longest = axes.get_xlim()[1]
        text = _labelled(quantity(median), placement)
        axes.annotate(
            f"{text}, cut off" if median > longest else text, (min(end, longest), y), (6, 0),
            textcoords="offset points", va="center_baseline", fontsize=SMALL,
        )  # fmt: skip

    def dots(self, axes: Axes) -> None:
        """Every round: filled near, hollow far, a cross where others were busy."""
        longest = axes.get_xlim()[1]
        marks: dict[tuple[str, bool], list[tuple[float, float]]] = {}
        for y, group, placement, _ in self.bars:
            for record in group.records:
                value = self.of(record)
                if record.placement == placement and value is not None and value <= longest:
                    mark = ("x", True) if record.noise >= NOISY else _MARK[placement]
                    marks.setdefault(mark, []).append((value, y))
        for (marker, filled), at in marks.items():
            face = COLOUR["ink"] if filled else COLOUR["paper"]
            axes.plot(
                [x for x, _ in at], [y for _, y in at], marker, ms=3.4, mew=0.9, clip_on=False,
                color=COLOUR["ink"], markerfacecolor=face,
            )  # fmt: skip


def _pixels_right_of_axes(axes: Axes) -> Transform:
    """x in pixels from the left end of the axes, y as the data."""
    start = ScaledTranslation(axes.get_position().x0 * WIDTH / 72, 0, axes.figure.dpi_scale_trans)
    return blended_transform_factory(Affine2D() + start, axes.transData)


def _quantity_axis(axes: Axes, title: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.set_xlabel(title)


def bars(run: Run, groups: Sequence[Group], of: Value, title: str, said: str) -> Markup:
    """Medians as bars with every round on them, the highest first."""
    rows = _Rows(run, groups, of, best_low=False)
    figure, axes = rows.panel(title)
    longest = rows.scale(axes)
    for y, group, placement, median in rows.bars:
        alpha = FAR_ALPHA if placement == "far" else NEAR_ALPHA
        axes.barh(y, min(median, longest), height=11, color=colour_of(run, group.peer), alpha=alpha)
        rows.label(axes, y, group, placement, median)
    rows.dots(axes)
    return svg(figure, said)


def _labelled(text: str, placement: Placement | None) -> str:
    return f"{text} far" if placement == "far" else text


def cost_stacks(run: Run, groups: Sequence[Group], title: str, said: str) -> Markup:
    """CPU per request, client and then server, the cheapest first."""

    def client(record: Record) -> float | None:
        return record.cpu_us_per_io.client if record.cpu_us_per_io else None

    rows = _Rows(run, groups, cpu, best_low=True)
    figure, axes = rows.panel(title)
    rows.scale(axes)
    for y, group, placement, median in rows.bars:
        colour = colour_of(run, group.peer)
        own = min(group.median(client, placement) or 0.0, median)
        alpha = FAR_ALPHA + 0.15 if placement == "far" else NEAR_ALPHA
        axes.barh(y, own, height=11, color=colour, alpha=alpha)
        axes.barh(
            y, median - own, left=own, height=11, color=colour, alpha=alpha * 0.35,
            edgecolor=colour, linewidth=0.5,
        )  # fmt: skip
        rows.label(axes, y, group, placement, median)
    rows.dots(axes)
    return svg(figure, said)


def percentiles(run: Run, groups: Sequence[Group], said: str) -> Markup:
    """p50, p99 and p99.9 of each peer on one logarithmic line; medians of the rounds."""
    rows = _Rows(run, groups, lambda r: r.latency_us.p50 if r.latency_us else None, best_low=True)
    figure, axes = rows.panel("microseconds, logarithmic")
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    parts: list[tuple[Value, float, float]] = [
        (lambda r: r.latency_us.p50 if r.latency_us else None, 6.5, 0.95),
        (lambda r: r.latency_us.p99 if r.latency_us else None, 5.0, 0.65),
        (lambda r: r.latency_us.p999 if r.latency_us else None, 3.6, 0.4),
    ]
    for y, group, placement, median in rows.bars:
        colour = colour_of(run, group.peer)
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
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, 1 - box.x0 - 136 / WIDTH, box.height))
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
                _labelled(reached_ratio(one), one.placement), (high, at), (8, 0),
                textcoords="offset points", va="center_baseline", fontsize=SMALL - 0.5,
            )  # fmt: skip
    axes.axvline(1, color=COLOUR["ink"], lw=1)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.8), max(high, 2.2) * 1.25)
    marks = [m for m in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if axes.get_xlim()[0] <= m <= high]
    axes.set_xticks(marks, ["goal" if m == 1 else f"{m:g}" for m in marks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="x")
    axes.set_xlabel("times the goal; logarithmic")
    return svg(figure, said)


def _short(figure: Figure) -> str:
    title = figure.goal.title.replace(" per I/O", "").replace(
        ": FUSE best, same store", ": FUSE best"
    )
    return f"{title}, depth {figure.goal.depth}"
