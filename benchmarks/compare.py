# SPDX-License-Identifier: MIT
"""What got slower between two runs: ``python -m benchmarks.compare --help``."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.record import Placement, Record, Results, load
from benchmarks.significance import Change, Stratum, change
from benchmarks.units import Load, quantity, share

WORSE, BETTER, SAME, UNKNOWN = "worse", "better", "no change", "too few rounds"


@dataclass(frozen=True)
class Metric:
    """A figure of a record that is worth a decision."""

    name: str
    unit: str
    more_is_better: bool
    of: Callable[[Record], float | None]


METRICS = (
    Metric("IOPS", "/s", True, lambda r: r.iops if r.rate is None else None),
    Metric("p50", "us", False, lambda r: r.latency_us.p50 if r.rate and r.latency_us else None),
    Metric("p99", "us", False, lambda r: r.latency_us.p99 if r.rate and r.latency_us else None),
    Metric("CPU", "us/IO", False, lambda r: r.cpu_us_per_io.total if r.cpu_us_per_io else None),
    Metric("CPU", "us/s", False, lambda r: r.idle.cpu_us_per_second.total if r.idle else None),
)


@dataclass(frozen=True)
class Medians:
    """Of the rounds of one placement, before and after."""

    before: float
    after: float
    rounds: tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """One figure of one peer under one load, in both runs."""

    peer: str
    load: Load
    metric: Metric
    medians: dict[Placement | None, Medians]
    change: Change
    decision: str


Strata = dict[Placement | None, tuple[list[float], list[float]]]


def decide(metric: Metric, found: Change, threshold: float) -> str:
    """Changed only when the whole interval lies beyond the threshold."""
    if not found.known:
        return UNKNOWN
    if found.high < 1 - threshold:
        return WORSE if metric.more_is_better else BETTER
    if found.low > 1 + threshold:
        return BETTER if metric.more_is_better else WORSE
    return SAME


def compare(
    before: Results, after: Results, threshold: float = 0.05, confidence: float = 0.98
) -> list[Verdict]:
    """A verdict for every figure both runs have, rounds of one placement against each other."""
    figures: dict[tuple[str, Load, Metric], Strata] = defaultdict(
        lambda: defaultdict(lambda: ([], []))
    )
    for side, results in enumerate((before, after)):
        for record in results.records:
            for metric in METRICS:
                value = metric.of(record)
                if value:
                    key = (record.peer, Load.of(record), metric)
                    figures[key][record.placement][side].append(value)
    return list(_verdicts(figures, threshold, confidence))


def _verdicts(
    figures: dict[tuple[str, Load, Metric], Strata], threshold: float, confidence: float
) -> Iterator[Verdict]:
    for (peer, load_of, metric), strata in figures.items():
        both: dict[Placement | None, Stratum] = {p: s for p, s in strata.items() if all(s)}
        found = change(list(both.values()), confidence)
        if found is None:
            continue
        medians = {
            placement: Medians(statistics.median(old), statistics.median(new), (len(old), len(new)))
            for placement, (old, new) in both.items()
        }
        decision = decide(metric, found, threshold)
        yield Verdict(peer, load_of, metric, medians, found, decision)


def differences(before: Results, after: Results) -> list[str]:
    """What of the machine or the programs is not the same, apart from this project itself."""
    ours = {"version", "commit", "handover_ns", "programs"}
    old, new = asdict(before.environment), asdict(after.environment)
    pairs = [(name, old[name], new[name]) for name in old if name not in ours]
    programs = sorted(old["programs"].keys() | new["programs"].keys())
    pairs += [(name, old["programs"].get(name), new["programs"].get(name)) for name in programs]
    return [f"{name}: {was} before, {now} after" for name, was, now in pairs if was != now]


def is_ours(peer: str) -> bool:
    """The peers that change with this project; all others show what the machine did."""
    return peer.startswith(("shm", "FUSE"))


def drift(verdicts: Iterable[Verdict]) -> float | None:
    """How the IOPS of other people's programs moved, as a median ratio: that was the machine."""
    ratios = [v.change.ratio for v in verdicts if v.metric.name == "IOPS" and not is_ours(v.peer)]
    return statistics.median(ratios) if ratios else None


def table(verdicts: list[Verdict]) -> Table:
    """A row for each placement of each verdict."""
    out = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("peer", "load", "figure", "CPUs"):
        out.add_column(heading)
    for heading in ("before", "after", "change", "interval", "rounds"):
        out.add_column(heading, justify="right")
    out.add_column("")
    style = {WORSE: "bold red", BETTER: "green", UNKNOWN: "yellow"}
    for verdict in verdicts:
        low, high = verdict.change.low, verdict.change.high
        about = [f"{verdict.change.ratio - 1:+.1%}"]
        about.append(f"{low - 1:+.1%} to {high - 1:+.1%}" if verdict.change.known else "")
        for number, (placement, medians) in enumerate(verdict.medians.items()):
            first = number == 0
            out.add_row(
                *((verdict.peer, str(verdict.load), verdict.metric.name) if first else [""] * 3),
                placement or "",
                f"{quantity(medians.before)} {verdict.metric.unit}",
                f"{quantity(medians.after)} {verdict.metric.unit}",
                *(about if first else ["", ""]),
                "/".join(str(n) for n in medians.rounds),
                f"[{style.get(verdict.decision, 'dim')}]{verdict.decision}" if first else "",
            )
    return out


def as_json(verdicts: list[Verdict], warnings: list[str]) -> str:
    rows = [
        {
            "peer": v.peer,
            **asdict(v.load),
            "figure": v.metric.name,
            "unit": v.metric.unit,
            "medians": {str(placement): asdict(m) for placement, m in v.medians.items()},
            "ratio": v.change.ratio,
            "interval": [v.change.low, v.change.high] if v.change.known else None,
            "decision": v.decision,
        }
        for v in verdicts
    ]
    return json.dumps({"warnings": warnings, "verdicts": rows}, indent=1)


def _read(path: Path) -> Results:
    try:
        return load(path)
    except (OSError, ValueError) as reason:
        raise click.UsageError(str(reason)) from None


@click.command(
    epilog="Exit status: 0 nothing of this project got worse; 1 something did; 2 the files cannot "
    "be compared."
)
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--threshold", default="5%", show_default=True, help="Changes up to this are none.")
@click.option(
    "--confidence", default="98%", show_default=True, help="Of the interval that must lie beyond."
)
@click.option("--all", "everything", is_flag=True, help="Print what did not change as well.")
@click.option("--json", "json_wanted", is_flag=True, help="Print every verdict as JSON.")
def main(
    before: Path,
    after: Path,
    threshold: str,
    confidence: str,
    everything: bool,
    json_wanted: bool,
) -> None:
    """Say what got slower, and what faster, from the run BEFORE to the run AFTER.

    Rounds are compared with rounds of the same placement of the CPUs only.  Every round before
    makes a pair with every round after; the median of the pairs' ratios is the change, and it
    counts when the confidence interval of it (distribution-free, so the spread of the rounds
    decides) lies beyond the threshold as a whole.  Under five rounds on a side nothing can be
    decided, which is said.  Peers that are other people's programs are listed, but only this
    project can fail.
    """
    runs = _read(before), _read(after)
    try:
        verdicts = compare(*runs, share(threshold), share(confidence))
    except ValueError as reason:
        raise click.UsageError(str(reason)) from None
    if not verdicts:
        raise click.UsageError("the two runs have no peer, load and placement in common")
    warnings = [f"the environment differs: {line}" for line in differences(*runs)]
    moved = drift(verdicts)
    if moved is not None and abs(moved - 1) > share(threshold):
        warnings.append(
            f"other people's programs moved by {moved - 1:+.1%} (median): so much is the machine"
        )
    worse = [v for v in verdicts if v.decision == WORSE and is_ours(v.peer)]
    if json_wanted:
        click.echo(as_json(verdicts, warnings))
    else:
        _print(verdicts, warnings, everything, share(confidence))
    sys.exit(1 if worse else 0)


def _print(
    verdicts: list[Verdict], warnings: list[str], everything: bool, confidence: float
) -> None:
    console = Console(width=max(Console().width, 150), highlight=False)
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {warning}")
    order = [WORSE, BETTER, UNKNOWN, SAME]
    shown = [v for v in verdicts if everything or v.decision in (WORSE, BETTER)]
    if shown:
        console.print(table(sorted(shown, key=lambda v: order.index(v.decision))))
    counts = {o: sum(v.decision == o for v in verdicts) for o in order}
    said = ", ".join(f"{n} {decision}" for decision, n in counts.items() if n)
    decided = len(verdicts) - counts[UNKNOWN]
    chance = decided * (1 - confidence) / 2
    console.print(
        f"{len(verdicts)} figures: {said}. "
        f"Chance alone would call up to {chance:.1f} of {decided} worse if nothing changed."
    )
    if counts[UNKNOWN]:
        console.print("More rounds decide more: python -m benchmarks --rounds 5")


if __name__ == "__main__":
    main()
