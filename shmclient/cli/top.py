# SPDX-License-Identifier: MIT
"""top: who uses the server how much right now."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import click

import shmclient
from shmclient import display
from shmclient.cli.common import Common, command, duration
from shmclient.cli.rates import Activity, activity, together
from shmclient.console import Interrupted, doing, interruptible
from shmclient.units import format_count, format_latency, format_rate

Key = tuple[str | int, ...]


class Row(NamedTuple):
    key: Key
    did: Activity


class Sample(NamedTuple):
    elapsed_ns: int
    sessions: list[tuple[shmclient.SessionInfo, Activity]]


# What a row is -> the names of its key, and the key of a session.
KEYS: dict[str, tuple[tuple[str, ...], Callable[[shmclient.SessionInfo], Key]]] = {
    "session": (
        ("volume", "client", "pid", "mode"),
        lambda one: (one.volume, one.client, one.pid, one.mode),
    ),
    "volume": (("volume",), lambda one: (one.volume,)),
    "client": (("client", "pid"), lambda one: (one.client, one.pid)),
}
ORDERS: dict[str, Callable[[Activity], float]] = {
    "requests": lambda did: did.requests,
    "bytes": lambda did: did.read_bytes + did.written_bytes,
    "latency": lambda did: did.percentile_ns(99),
    "in-flight": lambda did: did.in_flight,
    "name": lambda _: 0,
}
# Column -> what of a row is in it.
COLUMNS: dict[str, Callable[[Activity], str]] = {
    "READS/S": lambda did: format_count(did.per_s(did.reads)),
    "WRITES/S": lambda did: format_count(did.per_s(did.writes)),
    "OTHERS/S": lambda did: format_count(did.per_s(did.others)),
    "READ": lambda did: format_rate(did.per_s(did.read_bytes)),
    "WRITTEN": lambda did: format_rate(did.per_s(did.written_bytes)),
    "IN-FLIGHT": lambda did: str(did.in_flight),
    "MEAN": lambda did: format_latency(did.mean_ns) if did.requests else "-",
    "P99": lambda did: format_latency(did.percentile_ns(99)) if did.requests else "-",
    "ERRORS": lambda did: str(did.errors),
}


@command(
    "top",
    "shmclient top",
    "shmclient top --by volume --once",
    "shmclient top --json --samples 60 --interval 10s > log",
)
@click.option(
    "--by", type=click.Choice([*KEYS]), default="session", show_default=True, help="What a line is."
)
@click.option(
    "--sort",
    type=click.Choice([*ORDERS]),
    default="requests",
    show_default=True,
    help="Who has most of it comes first.",
)
@click.option(
    "--interval",
    metavar="DURATION",
    callback=duration,
    default="1s",
    show_default=True,
    help="Time between two samples: 500ms, 2s, 1m.",
)
@click.option(
    "--samples",
    "-n",
    metavar="COUNT",
    type=click.IntRange(1),
    help="End after so many.  [default: never]",
)
@click.option("--once", is_flag=True, help="End after one.")
def top(common: Common, by: str, sort: str, interval: int, samples: int | None, once: bool) -> None:
    """Show who uses which volume how much, over and over.

    On a terminal the lines stay in place until Ctrl-C.  Elsewhere, and with --samples, --once or
    --json, samples follow each other; with --json each is an object in a line of its own.

    Rates are those of the interval.  Latencies are the server's, from taking a request until it is
    completed; P99 is right within a factor of two.
    """
    count = 1 if once else samples
    with common.connect() as server:
        taken = islice(_samples(server, interval), count)
        if common.json:
            for sample in taken:
                print(json.dumps(_object(sample, by, sort)), flush=True)
        elif count is None and sys.stdout.isatty():
            _stay(server, taken, by, sort)
        else:
            for sample in taken:
                _print(sample, by, sort)


def _samples(server: shmclient.Connection, interval_ns: int) -> Iterator[Sample]:
    before: dict[int, shmclient.SessionInfo] = {}
    before_ns = 0
    while True:
        with doing("ask for the sessions"):
            after = {one.id: one for one in server.sessions()}
        now_ns = time.monotonic_ns()
        if before_ns:
            elapsed_ns = now_ns - before_ns
            yield Sample(
                elapsed_ns,
                [(one, activity(before.get(one.id), one, elapsed_ns)) for one in after.values()],
            )
        before, before_ns = after, now_ns
        time.sleep(interval_ns / 1e9)


def _rows(sample: Sample, by: str, sort: str) -> list[Row]:
    _, key_of = KEYS[by]
    parts: dict[Key, list[Activity]] = {}
    for session, did in sample.sessions:
        parts.setdefault(key_of(session), []).append(did)
    rows = [Row(key, together(dids)) for key, dids in parts.items()]
    return sorted(rows, key=lambda row: (-ORDERS[sort](row.did), row.key))


def _object(sample: Sample, by: str, sort: str) -> dict[str, Any]:
    names, _ = KEYS[by]
    return {
        "time_ns": time.time_ns(),
        "elapsed_ns": sample.elapsed_ns,
        f"{by}s": [
            {**dict(zip(names, row.key, strict=True)), **row.did.as_dict()}
            for row in _rows(sample, by, sort)
        ],
    }


def _cells(sample: Sample, by: str, sort: str) -> tuple[list[str], list[list[str]]]:
    """Heading and lines."""
    names, _ = KEYS[by]
    heading = [*(name.upper() for name in names), *COLUMNS]
    lines = [
        [*map(str, row.key), *(show(row.did) for show in COLUMNS.values())]
        for row in _rows(sample, by, sort)
    ]
    return heading, lines


NUMBERS = " ".join(["PID", *COLUMNS])


def _print(sample: Sample, by: str, sort: str) -> None:
    print(f"{datetime.now():%H:%M:%S}  {_total(sample)}")
    display.table(*_cells(sample, by, sort), right=NUMBERS)
    print(flush=True)


def _total(sample: Sample) -> str:
    if not sample.sessions:
        return "no volume is open"
    did = together([did for _, did in sample.sessions])
    volumes = len({session.volume for session, _ in sample.sessions})
    sessions = display.counted(did.sessions, "session")
    return (
        f"{sessions} on {display.counted(volumes, 'volume')}, "
        f"{format_count(did.per_s(did.requests))} requests/s, "
        f"{COLUMNS['READ'](did)} read, {COLUMNS['WRITTEN'](did)} written"
    )


def _stay(server: shmclient.Connection, samples: Iterator[Sample], by: str, sort: str) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    title = f"{server.hello.server}  {server.hello.store}"
    try:
        with interruptible(), Live(Text(title), screen=True, auto_refresh=False) as live:
            for sample in samples:
                heading = Text(f"{title}  {datetime.now():%H:%M:%S}\n{_total(sample)}\n")
                table = display.drawn(*_cells(sample, by, sort), right=NUMBERS)
                live.update(Group(heading, table), refresh=True)
    except Interrupted:
        pass  # the way to leave it


COMMANDS = (top,)
