# SPDX-License-Identifier: MIT
"""The page: everything in one file, nothing fetched."""

from __future__ import annotations

from pathlib import Path

import jinja2

from benchmarks import goals, units
from benchmarks.record import Results
from benchmarks.report import findings, sections, tables
from benchmarks.report.run import FAMILIES, NOISY, Run

HERE = Path(__file__).parent


def page(results: Results) -> str:
    """HTML that needs nothing else."""
    run = Run(results)
    figures = goals.figures(results.records)
    names, rows = tables.raw(results.records)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"quantity": units.quantity, "times": findings.ratio}
    return environment.get_template("page.html.j2").render(
        css=(HERE / "page.css").read_text(),
        results=results,
        run=run,
        families=[f for f in FAMILIES if f in {run.family(peer) for peer in run.peers}],
        headline=findings.headline(figures),
        goals=findings.tiles(figures),
        goal_plot=sections.goal_plot(findings.tiles(figures)),
        losses=findings.losses(run),
        events=findings.event_rows(run),
        placements=run.placements(),
        busy=findings.busy(run),
        noise=findings.noise(run),
        noisy=NOISY,
        rates=sections.rates(run),
        latencies=sections.latencies(run),
        costs=sections.costs(run),
        sheets=sections.sheets(run),
        scaling=sections.scaling(run),
        conditions=sections.conditions(run),
        idle=tables.idle_rows(run),
        rounds=1 + max((record.round for record in results.records), default=-1),
        raw_names=names,
        raw_rows=rows,
    )
