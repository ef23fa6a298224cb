# SPDX-License-Identifier: MIT
"""Figures of matplotlib as SVG inside a page.

A page is read in light and in dark, so nothing is drawn in a colour: each colour here is a name
that becomes a CSS variable of the page (page.css has their values).  Text stays text, in the
page's font.
"""

from __future__ import annotations

import hashlib
import io
import re

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.run import FAMILIES, Run

matplotlib.use("svg")

WIDTH = 440
"""Of a panel, in CSS pixels: two side by side on a desk, one on a phone."""

_NAMES = ["ink", "muted", "line", "paper", *FAMILIES, "other", "bad"]
COLOUR = {name: f"#01{number:02x}fe" for number, name in enumerate(_NAMES)}
SMALL, TEXT = 10.5, 12.0
matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
        "font.size": TEXT,
        "axes.edgecolor": COLOUR["line"],
        "axes.labelcolor": COLOUR["muted"],
        "axes.labelsize": SMALL,
        "axes.linewidth": 0.8,
        "text.color": COLOUR["ink"],
        "xtick.color": COLOUR["line"],
        "ytick.color": COLOUR["line"],
        "xtick.labelcolor": COLOUR["muted"],
        "ytick.labelcolor": COLOUR["muted"],
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "grid.color": COLOUR["line"],
        "grid.linewidth": 0.6,
    }
)


def panel(
    height: int, left: int, right: int, bottom: int = 34, top: int = 6
) -> tuple[Figure, Axes]:
    """An empty panel ``height`` pixels high with these margins around its axes."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")
    axes = figure.add_axes(
        (
            left / WIDTH,
            bottom / height,
            (WIDTH - left - right) / WIDTH,
            (height - top - bottom) / height,
        ),
        facecolor="none",
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def colour_of(run: Run, peer: str) -> str:
    """The one of its family, everywhere."""
    return COLOUR.get(run.family(peer), COLOUR["other"])


def svg(figure: Figure, said: str) -> Markup:
    """The figure for a page; ``said``: what one sees in it, for those who do not."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style).*?</\1>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    own = "f" + hashlib.sha256((said + text).encode()).hexdigest()[:8]
    wanted = set(re.findall(r"(?<=#)[\w.-]+(?=[\")])", text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in wanted else "", text)
    text = re.sub(r'\bid="', f'id="{own}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{own}-", text)
    text = re.sub(r"font-family:[^;\"]*;? ?", "", text)
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)
    for name, colour in COLOUR.items():
        text = text.replace(colour, f"var(--{name})")
    height = figure.get_figheight() * 72
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{Markup.escape(said)}">'
    text = re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)
    return Markup(re.sub(r"\n\s*", "\n", text))
