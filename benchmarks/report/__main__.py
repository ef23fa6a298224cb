# SPDX-License-Identifier: MIT
"""The command line of the report."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.record import load
from benchmarks.report.markdown import NoRegion, markdown, updated
from benchmarks.report.page import page


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The page; or see below.")
@click.option("--markdown", "tables", is_flag=True, help="Print tables in Markdown instead.")
@click.option(
    "--update",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Rewrite the tables between the markers in this Markdown file instead.",
)
def main(file: Path, output: Path | None, tables: bool, update: tuple[Path, ...]) -> None:
    """Make one HTML page of FILE, a run's records, beside it or at OUTPUT: plots of rates,
    latencies and costs, where peers win, the goals, the machine and all raw data.
    """
    try:
        results = load(file)
    except (OSError, ValueError) as reason:
        raise click.UsageError(str(reason)) from None
    if tables:
        click.echo(markdown(results), nl=False)
    for target in update:
        try:
            target.write_text(updated(target.read_text(), results))
        except (OSError, NoRegion) as reason:
            raise click.UsageError(f"{target}: {reason}") from None
    if not tables and not update:
        output = output or file.with_suffix(".html")
        output.write_text(page(results))
        click.echo(f"report: {output}")


if __name__ == "__main__":
    main()
