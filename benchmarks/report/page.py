# SPDX-License-Identifier: MIT
"""The page: everything in one file, nothing fetched."""

from __future__ import annotations

from pathlib import Path

import jinja2

from benchmarks import goals, units
from benchmarks.record import Environment, Results
from benchmarks.report import findings, sections, tables
from benchmarks.report.run import FAMILIES, FAMILY_NAMES, NOISY, Run

HERE = Path(__file__).parent


def machine(environment: Environment) -> list[tuple[str, str]]:
    """What it ran on, as one says it."""
    handover = environment.handover_ns
    return [
        ("CPUs", f"{environment.cpus} of {environment.cpu}"),
        ("memory", f"{environment.memory_bytes / 2**30:.1f} GiB"),
        ("kernel", environment.kernel),
        ("system", environment.system),
        ("openvstorage-shm", f"{environment.version}, {environment.commit or 'commit not known'}"),
        ("hand-over at start", "not known" if handover is None else units.duration(handover)),
    ]


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
    environment.filters |= {
        "quantity": units.quantity,
        "times": findings.ratio,
        "reached_ratio": findings.reached_ratio,
    }
    return environment.get_template("page.html.j2").render(
        css=(HERE / "page.css").read_text(),
        results=results,
        run=run,
        machine=machine(results.environment),
        families=[f for f in FAMILIES if f in {run.family(peer) for peer in run.peers}],
        family_names=FAMILY_NAMES,
        headline=findings.headline(figures),
        goals=findings.tiles(figures),
        goal_plot=sections.goal_plot(findings.tiles(figures)),
        losses=findings.losses(run),
        events=findings.event_rows(run),
        goal_placements=[p for p in run.placements() if p in {f.placement for f in figures}],
        unsteady=findings.unsteady(run),
        apart=findings.APART,
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
