# SPDX-License-Identifier: MIT
"""``python -m benchmarks``: measures volumes over shared memory beside everything one would use
instead.  docs/BENCHMARKS.md says how, and what the figures mean."""

from __future__ import annotations

import datetime
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import click
from rich.console import Console

from benchmarks import instructions, plan, summary
from benchmarks.environment import environment
from benchmarks.goals import figures
from benchmarks.peers import PEERS, PeerUnavailable
from benchmarks.record import RESULTS, Instructions, Results, save
from benchmarks.runner import Cell, Runner
from benchmarks.screen import Screen

BUDGET_S, QUICK_BUDGET_S = 900.0, 120.0
REPORT_S = 12.0  # of the budget, for what comes after the last sample
FAILED, INCOMPLETE, INTERRUPTED = 1, 3, 130


def interruptible() -> None:
    """The first signal ends the run; further ones do not disturb the clearing up."""

    def stop(*_: object) -> None:
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, stop)


INDENT = "   "  # of the peers below their load


def listing(cells: list[Cell], console: Console) -> None:
    """--list: what would run."""
    for cell in cells:
        rounds = "1 round" if cell.rounds == 1 else f"{cell.rounds} rounds"
        console.print(f"[bold]{cell.workload}[/], {rounds}", highlight=False)
        peers = textwrap.wrap(", ".join(cell.peers), console.width - len(INDENT))
        console.print(textwrap.indent("\n".join(peers), INDENT), highlight=False)


def show(results: Results, console: Console) -> None:
    console.print(summary.rates(results.records, baseline="shm memory"))
    if any(one.idle for one in results.records):
        console.print(summary.idle(results.records))
    if found := figures(results.records):
        console.print(summary.goals(found))
    for what, reason in results.skipped.items():
        console.print(f"[yellow]skipped {what}:[/] {reason.splitlines()[0]}", highlight=False)
    for note in results.notes:
        console.print(f"note: {note}", highlight=False)


def report(path: Path, console: Console) -> None:
    """The page for people, beside the file."""
    page = path.with_suffix(".html")
    argv = [sys.executable, "-m", "benchmarks.report", str(path), "-o", str(page)]
    if subprocess.run(argv, timeout=120).returncode:
        console.print(f"[red]no report: {shlex.join(argv)} failed")


def counted_instructions(runner: Runner) -> list[Instructions]:
    """By callgrind, when the machine counts none while it measures."""
    if not runner.records or any(one.instructions_per_io is not None for one in runner.records):
        return []
    try:
        return instructions.measure_all()
    except (PeerUnavailable, OSError, subprocess.SubprocessError) as reason:
        runner.notes.append(f"instructions were not counted by callgrind either: {reason}")
        return []


def run(
    cells: list[Cell], limit: float, sample: float | None, console: Console
) -> tuple[Results, int]:
    """What was measured, and the exit status: whatever ends a run, its samples are kept."""
    interruptible()
    started = datetime.datetime.now().astimezone()
    machine = environment()
    status = 0
    with tempfile.TemporaryDirectory(prefix="ovs-bench-") as scratch:
        screen = Screen(console)
        runner = Runner(PEERS, Path(scratch), screen)
        try:
            with screen:
                runner.run(cells, max(limit - REPORT_S, limit / 2), seconds=sample)
        except KeyboardInterrupt:
            status = INTERRUPTED
            runner.notes.append("interrupted")
        except Exception as error:
            status = FAILED
            runner.notes.append(f"ended by an error: {error!r}")
            console.print_exception()
    counted = counted_instructions(runner) if status == 0 else []
    results = Results(
        started=started.isoformat(timespec="seconds"),
        command=os.environ.get("BENCH_COMMAND")  # as it was typed, when make runs us
        or shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        environment=machine,
        records=runner.records,
        peers=runner.peers,
        skipped=runner.skipped,
        instructions=counted,
        notes=runner.notes,
        finished=runner.finished,
    )
    return results, status or (0 if runner.finished else INCOMPLETE)


def measure(
    cells: list[Cell], limit: float, sample: float | None, output: Path | None, console: Console
) -> int:
    """Measures, shows and writes; the exit status."""
    results, status = run(cells, limit, sample, console)
    show(results, console)
    if not results.records:
        console.print("[red]nothing was measured")
        return INTERRUPTED if status == INTERRUPTED else FAILED
    day = datetime.datetime.fromisoformat(results.started)
    path = output or RESULTS / f"{day:%Y-%m-%d-%H%M%S}.json"
    save(results, path)
    if output is None:
        save(results, RESULTS / "latest.json")
    console.print(f"results: {path}", highlight=False, soft_wrap=True)
    report(path, console)
    return status


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="The figures that matter most, in two minutes.")
@click.option("--list", "only_list", is_flag=True, help="Show loads and peers; measure nothing.")
@click.option("--peer", "peers", multiple=True, metavar="PATTERN", help="Only these (repeatable).")
@click.option(
    "--workload",
    "workloads",
    multiple=True,
    metavar="WORDS",
    help='Only loads with all of these words: "fio random read 32" (repeatable).',
)
@click.option(
    "--rounds", type=click.IntRange(1), help="Repetitions. [default: 5, 3 where less is due]"
)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help=f"For all of it. [default: {BUDGET_S:.0f}, with --quick {QUICK_BUDGET_S:.0f}]",
)
@click.option(
    "--sample",
    type=click.FloatRange(0.01, 60),
    metavar="SECONDS",
    help="Length of a sample. [default: what the budget allows]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="JSON to write. [default: benchmarks/results/DATE.json and latest.json]",
)
def main(
    quick: bool,
    only_list: bool,
    peers: tuple[str, ...],
    workloads: tuple[str, ...],
    rounds: int | None,
    budget: float | None,
    sample: float | None,
    output: Path | None,
) -> None:
    """Measure volumes over shared memory beside FUSE, NBD, vhost-user and others.

    Every load is put on its peers one after the other, round after round.  Who cannot run here is
    left out, and named.  Ctrl-C ends the run and keeps what has been measured.

    \b
    Examples:
      python -m benchmarks --quick
      python -m benchmarks --peer 'shm*' --peer 'FUSE*' --workload '4k depth 1'
      python -m benchmarks --list

    Exit codes: 0 done, 1 failed or nothing measured, 2 wrong usage, 3 out of time before the last
    round, 130 interrupted.
    """
    console = Console()
    console.width = max(console.width, 120)
    cells = plan.resolved(plan.quick() if quick else plan.full(), list(PEERS))
    cells = plan.chosen(cells, peers, workloads, rounds)
    if not cells:
        raise click.UsageError("no load has such words and such a peer; --list shows them")
    if only_list:
        listing(cells, console)
        return
    limit = budget or (QUICK_BUDGET_S if quick else BUDGET_S)
    sys.exit(measure(cells, limit, sample, output, console))


if __name__ == "__main__":
    main()
